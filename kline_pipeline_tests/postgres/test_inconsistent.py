"""Partitions that land and contradict another series: read again by a repair, or let in by a person."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from kline_pipeline.checks.report import CheckResult
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import UsageError
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

DAILY = Dataset("linear", Interval("D"), date(2024, 1, 1), "year", ("BTCUSDT",))
ONE = replace(HOURLY, symbols=("BTCUSDT",))
DECLARED = (ONE, DAILY)
FEBRUARY, YEAR = Cell(date(2024, 2, 1), "BTCUSDT"), Cell(date(2024, 1, 1), "BTCUSDT")
DAY_MS = ms("2024-02-10 00:00:00")
WRONG = {
    "correct": {
        "category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-02-10T07:00", "volume": "1",
    }
}  # fmt: skip


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    """A world in which an hour of February has landed with another volume than its day says."""
    with world(settings, database) as one:
        one.clock.step_ms = 1
        one.exchange.faults.replace([WRONG])
        one.run(ONE, ("2024-02-01", "BTCUSDT"))
        one.run(DAILY, ("2024-01-01", "BTCUSDT"))
        yield one


def consistent(one: World, dataset: Dataset, cell: Cell) -> CheckResult:
    return one.pipeline.consistent(dataset, cell, declared=DECLARED)


def broken(one: World) -> list[Cell]:
    return one.pipeline.broken(ONE, [FEBRUARY], declared=DECLARED, now_ms=one.clock())


def test_a_repair_reads_again_what_contradicts_another_series(sim: World) -> None:
    assert [(found.passed, found.severity) for found in both(sim)] == [(False, "ERROR"), (False, "ERROR")]
    assert broken(sim) == [FEBRUARY]
    sim.exchange.faults.clear()

    assert sim.pipeline.distrust_inconsistent(ONE, [FEBRUARY], declared=DECLARED) == [FEBRUARY]
    assert sim.pipeline.unfinished(ONE, now_ms=sim.clock()) == [FEBRUARY]
    sim.run(ONE, ("2024-02-01", "BTCUSDT"))

    assert all(found.passed for found in both(sim))
    assert broken(sim) == sim.pipeline.unfinished(ONE, now_ms=sim.clock()) == []
    assert [row.kind for row in sim.query("select kind from kline.candle_revisions")] == ["changed"]


def test_what_fits_is_not_read_again(sim: World) -> None:
    sim.exchange.faults.clear()
    sim.pipeline.distrust_inconsistent(ONE, [FEBRUARY], declared=DECLARED)
    sim.run(ONE, ("2024-02-01", "BTCUSDT"))
    before = sim.pages("60")

    assert sim.pipeline.distrust_inconsistent(ONE, [FEBRUARY], declared=DECLARED) == []
    sim.run(ONE, ("2024-02-01", "BTCUSDT"))

    assert sim.pages("60") == before


def test_a_contradiction_that_stays_is_let_in_by_a_person_on_each_side(sim: World) -> None:
    hour, day = Window(DAY_MS, DAY_MS + 3_600_000), Window(DAY_MS, DAY_MS + 86_400_000)
    for dataset, window in ((ONE, hour), (DAILY, day)):
        sim.pipeline.accept(
            dataset, "BTCUSDT", window, reason="confirmed", keep=None, declared=DECLARED, now_ms=sim.clock()
        )

    for found in both(sim):
        assert (found.passed, found.severity) == (False, "WARN")
        assert found.offenders[0].what.startswith("accepted: confirmed: ")
    assert broken(sim) == []


def test_nothing_is_accepted_where_nothing_contradicts(sim: World) -> None:
    window = Window(DAY_MS + 86_400_000, DAY_MS + 90_000_000)

    with pytest.raises(UsageError, match="nothing to accept"):
        sim.pipeline.accept(
            ONE, "BTCUSDT", window, reason="confirmed", keep=None, declared=DECLARED, now_ms=sim.clock()
        )


def both(one: World) -> list[CheckResult]:
    return [consistent(one, ONE, FEBRUARY), consistent(one, DAILY, YEAR)]
