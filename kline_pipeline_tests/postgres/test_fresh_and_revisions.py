"""fresh and revisions: one result per dataset, from one query each."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import event

from kline_pipeline.checks.report import CheckResult
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

NOW = "2024-04-10 12:34:56"
HOUR_MS = 3_600_000
MARGIN_MS = 26 * HOUR_MS  # the default of KLINE_FRESH_AFTER_S
FILES_ONLY = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("BTCUSDT",), sinks=("parquet",))
CANDLE = {"category": "linear", "symbol": "BTCUSDT", "interval": "60"}


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database, now=NOW) as one:
        yield one


def late(result: CheckResult) -> list[tuple[int | None, str]]:
    return [(one.open_time_ms, one.what.split(":")[0]) for one in result.offenders]


def test_what_was_landed_today_is_fresh(sim: World) -> None:
    sim.run(HOURLY, ("2024-04-01", "BTCUSDT"), ("2024-04-01", "ETHUSDT"))
    result = sim.pipeline.fresh(HOURLY, now_ms=ms(NOW))

    assert (result.passed, result.counts) == (True, {"trading": 2, "late": 0})


@pytest.mark.parametrize(
    ("beyond_ms", "severity"),
    [(0, None), (1, "WARN"), (MARGIN_MS, "WARN"), (MARGIN_MS + 1, "ERROR")],
)
def test_the_margin_counts_from_the_end_of_the_candle_that_is_due(
    sim: World, beyond_ms: int, severity: str | None
) -> None:
    sim.run(HOURLY, ("2024-04-01", "BTCUSDT"))
    newest = ms("2024-04-10 11:00")
    result = sim.pipeline.fresh(HOURLY, now_ms=newest + 2 * HOUR_MS + MARGIN_MS + beyond_ms)

    assert (None if result.passed else result.severity) == severity
    assert late(result) == ([(newest, "BTCUSDT")] if severity else [])


def test_only_symbols_that_are_late_are_listed_the_oldest_first_and_errors_before_warnings(sim: World) -> None:
    sim.run(HOURLY, ("2024-03-01", "ETHUSDT"), ("2024-04-01", "BTCUSDT"), ("2024-01-01", "SOLUSDT"))
    now_ms = ms("2024-04-11 16:00")
    result = sim.pipeline.fresh(HOURLY, now_ms=now_ms)

    assert (result.severity, result.total) == ("ERROR", 3)
    assert late(result) == [
        (ms("2024-01-31 23:00"), "SOLUSDT"), (ms("2024-03-31 23:00"), "ETHUSDT"), (ms("2024-04-10 11:00"), "BTCUSDT"),
    ]  # fmt: skip


def test_a_symbol_of_which_everything_is_quarantined_has_no_candle(sim: World) -> None:
    sim.exchange.faults.replace([{"drop": {**CANDLE, "open_time": "2024-03-10T05:00"}}])
    sim.run(HOURLY, ("2024-03-01", "BTCUSDT"))

    assert late(sim.pipeline.fresh(HOURLY, now_ms=ms(NOW))) == [(None, "BTCUSDT")]


@pytest.mark.parametrize(
    "statement",
    [
        "update kline.listings set listed_until = '2024-04-05Z' where symbol = 'BTCUSDT'",
        "update kline.instruments set status = 'Closed' where symbol = 'BTCUSDT'",
    ],
)
def test_what_is_no_longer_traded_need_not_be_fresh(sim: World, statement: str) -> None:
    sim.run(HOURLY, ("2024-03-01", "BTCUSDT"))
    assert not sim.pipeline.fresh(HOURLY, now_ms=ms(NOW)).passed
    sim.query(statement)

    assert sim.pipeline.fresh(HOURLY, now_ms=ms(NOW)).counts == {"trading": 0, "late": 0}


def test_what_was_taken_out_of_the_dataset_need_not_be_fresh(sim: World) -> None:
    sim.run(HOURLY, ("2024-03-01", "BTCUSDT"))
    without = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", (), exclude=("BTCUSDT",))

    assert sim.pipeline.fresh(without, now_ms=ms(NOW)).counts["trading"] == 0


def test_what_may_land_counts_before_the_sinks_have_it(sim: World) -> None:
    """In a run that brings a dataset up to date the check comes before the sinks."""
    cells = [Cell(date(2024, 4, 1), "BTCUSDT")]
    sim.pipeline.fill(FILES_ONLY, cells)
    sim.pipeline.derive(FILES_ONLY, cells, now_ms=sim.clock())

    assert sim.pipeline.fresh(FILES_ONLY, now_ms=ms(NOW)).passed
    late = sim.pipeline.fresh(FILES_ONLY, now_ms=ms("2024-04-14 12:34:56"))
    assert (late.passed, late.severity, late.repair) == (False, "ERROR", "kline-pipeline backfill linear:BTCUSDT:60")


def revise(sim: World, *plan: dict[str, object]) -> None:
    """Fetch January again after the exchange has changed."""
    sim.run(HOURLY, ("2024-01-01", "BTCUSDT"))
    sim.exchange.faults.replace(list(plan))
    (path,) = sim.settings.home.glob("work/raw/linear/60/BTCUSDT/2024-01-01")
    names = {one.name for one in path.iterdir()}
    aside = path.with_name("aside")
    path.rename(aside)
    sim.clock.now_ms += HOUR_MS
    sim.run(HOURLY, ("2024-01-01", "BTCUSDT"))
    for name in names:
        (aside / name).rename(path / name)
    aside.rmdir()
    sim.run(HOURLY, ("2024-01-01", "BTCUSDT"))


def test_a_closed_candle_that_changed_is_a_warning_that_tells_what(sim: World) -> None:
    revise(sim, {"correct": {**CANDLE, "open_time": "2024-01-05T03:00", "volume": "1"}})
    result = sim.pipeline.revisions(HOURLY, now_ms=ms(NOW))

    assert (result.passed, result.severity, result.counts) == (False, "WARN", {"changed": 1, "vanished": 0})
    assert [one.open_time_ms for one in result.offenders] == [ms("2024-01-05 03:00")]
    assert "BTCUSDT changed: " in result.offenders[0].what
    assert " to 1" in result.offenders[0].what
    assert sim.pipeline.revisions(FILES_ONLY, now_ms=ms(NOW)).total == 1


def test_one_that_vanished_is_an_error_and_stands_first(sim: World) -> None:
    revise(
        sim,
        {"correct": {**CANDLE, "open_time": "2024-01-05T03:00", "volume": "1"}},
        {"drop": {**CANDLE, "open_time": "2024-01-20T03:00"}},
    )
    result = sim.pipeline.revisions(HOURLY, now_ms=ms(NOW))

    assert (result.severity, result.counts) == ("ERROR", {"changed": 1, "vanished": 1})
    assert [one.what.split(":")[0] for one in result.offenders] == ["BTCUSDT vanished", "BTCUSDT changed"]


def test_findings_of_more_than_seven_days_ago_are_not_told_again(sim: World) -> None:
    revise(sim, {"correct": {**CANDLE, "open_time": "2024-01-05T03:00", "volume": "1"}})
    now = datetime(2024, 4, 10, tzinfo=UTC)
    for days, passed in ((timedelta(days=7), False), (timedelta(days=7, milliseconds=1), True)):
        sim.query("update kline.candle_revisions set found_at = :at", at=now - days)
        assert sim.pipeline.revisions(HOURLY, now_ms=ms("2024-04-10")).passed is passed


def test_twenty_of_many_are_listed_and_all_are_counted(sim: World) -> None:
    sim.run(HOURLY, ("2024-01-01", "BTCUSDT"))
    sim.query(
        "insert into kline.candle_revisions (series_id, open_time, old_batch, new_batch, kind, old, new) "
        "select series_id, timestamptz '2024-01-01Z' + n * interval '1 hour', 'a', 'b', 'vanished', '{}', null "
        "from kline.series, generate_series(1, 700) n"
    )
    result = sim.pipeline.revisions(HOURLY, now_ms=ms(NOW))
    assert (result.total, len(result.offenders), result.counts["vanished"]) == (700, 20, 700)


def test_each_is_one_query(sim: World) -> None:
    sim.run(HOURLY, ("2024-04-01", "BTCUSDT"), ("2024-04-01", "ETHUSDT"))
    asked: list[str] = []
    event.listen(sim.database.engine, "before_cursor_execute", lambda *words: asked.append(words[2]))
    sim.pipeline.fresh(HOURLY, now_ms=ms(NOW))
    sim.pipeline.revisions(HOURLY, now_ms=ms(NOW))

    assert len([one for one in asked if "kline." in one]) == 2
