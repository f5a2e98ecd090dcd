"""What a progress bar is told: partitions done, pages per second, the time that is left."""

from datetime import date
from typing import Any

import pytest

from kline_pipeline.cli.run_progress import RunProgress
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.marks import pages_teller, read_pages
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.run_messages import RunEvent, RunOutcome
from kline_pipeline.market.interval import Interval

HOURLY = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("BTCUSDT", "ETHUSDT"))
MONTHS = (date(2024, 1, 1), date(2024, 2, 1))
ASSETS = ("raw_batches", "candles", "candles_postgres", "candles_parquet")
RUN = RangeRun(HOURLY, MONTHS, ("BTCUSDT",))
OTHER = RangeRun(HOURLY, MONTHS, ("ETHUSDT",))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> RunProgress:
    return RunProgress([RUN, OTHER], clock_s=clock)


def event(kind: Any, run: RangeRun = RUN, *, asset: str = "", day: date | None = None, **facts: Any) -> RunEvent:
    cell = Cell(day, run.symbols[0]) if day else None
    return RunEvent(kind, run, f"id of {run.symbols[0]}", asset, cell, facts)


def test_nothing_is_promised_before_anything_is_done(progress: RunProgress, clock: Clock) -> None:
    clock.now_s += 5
    assert (progress.total, progress.partitions, progress.rate, progress.eta_s) == (4, 0, "", None)


def test_pages_that_come_move_the_bar_and_give_a_rate_and_an_end(progress: RunProgress, clock: Clock) -> None:
    progress.hear(event("started"))
    clock.now_s += 2
    progress.hear(event("fetched", done=10, planned=40))
    clock.now_s += 2
    progress.hear(event("fetched", done=20, planned=40))
    # Half of the pages of two partitions, and pages are one of four assets.
    assert progress.partitions == pytest.approx(0.25)
    assert progress.rate == "5.0 pages/s"
    assert progress.eta_s == pytest.approx(4 * 3.75 / 0.25)


def test_the_rate_is_that_of_the_last_ten_seconds_of_all_runs(progress: RunProgress, clock: Clock) -> None:
    for second in range(1, 31):
        clock.now_s += 1
        progress.hear(event("fetched", RUN, done=second, planned=1000))
        progress.hear(event("fetched", OTHER, done=second * (1 if second <= 15 else 3), planned=1000))
    assert progress.rate == "4.0 pages/s"


def test_after_the_pages_partitions_are_counted(progress: RunProgress, clock: Clock) -> None:
    clock.now_s += 60
    progress.hear(event("fetched", done=40, planned=40))
    for asset in ASSETS:
        for day in MONTHS:
            progress.hear(event("cell", asset=asset, day=day))
    assert (progress.partitions, progress.rate) == (2, "2/min")
    assert progress.eta_s == pytest.approx(60)


def test_a_step_that_is_tried_again_takes_nothing_back(progress: RunProgress, clock: Clock) -> None:
    clock.now_s += 1
    progress.hear(event("fetched", done=30, planned=40))
    before = progress.partitions
    progress.hear(event("waiting", text="it waits"))
    clock.now_s += 1
    progress.hear(event("fetched", done=1, planned=10))
    assert progress.partitions == before
    assert progress.rate == "15.5 pages/s"


def test_failed_runs_and_those_never_created_are_done_too(progress: RunProgress, clock: Clock) -> None:
    clock.now_s += 1
    progress.hear(event("started"))
    progress.hear(RunEvent("finished", RUN, "id of BTCUSDT", outcome=RunOutcome(RUN, "id of BTCUSDT", "failed")))
    progress.hear(RunEvent("finished", OTHER, "", outcome=RunOutcome(OTHER, "", "failed")))
    assert (progress.partitions, progress.eta_s) == (4, 0)


def test_pages_are_told_at_once_then_each_second_and_at_the_end(clock: Clock) -> None:
    lines: list[str] = []
    on_pages = pages_teller(lines.append, clock_s=clock)
    for done in range(1, 26):
        on_pages(done, 25)
        clock.now_s += 0.125
    assert [read_pages(line) for line in lines] == [(1, 25), (9, 25), (17, 25), (25, 25)]
    assert read_pages("PROGRESS raw_batches 2024-01-01|BTCUSDT {}") is None
