"""No partition stays unfinished unnoticed, and a finished one was read once more after its last candle had closed."""

from collections.abc import Iterator
from datetime import date

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import HOURLY, MINUTELY, World, ms, world

APRIL = Cell(date(2024, 4, 1), "BTCUSDT")
WEEKLY = Dataset("linear", Interval("W"), date(2023, 1, 1), "year", ("BTCUSDT",))
DELISTED = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("NEW2303USDT",))


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


def run(one: World, dataset: Dataset, cell: Cell) -> bool:
    landed = one.run(dataset, (cell.date.isoformat(), cell.symbol))
    return all(each.result.passed for pair in landed.values() for each in pair)


def unfinished(one: World, dataset: Dataset) -> list[Cell]:
    return one.pipeline.unfinished(dataset, now_ms=one.clock())


def finished(one: World, dataset: Dataset, cell: Cell) -> bool:
    return one.pipeline.verdict(dataset, cell).finished and one.query("select state from kline.coverage")[0][0] in {
        "landed",
        "not_listed",
    }


def test_the_last_minutes_of_a_month_are_read_and_the_month_is_finished(sim: World) -> None:
    sim.clock.now_ms = ms("2024-04-30 23:58:30")
    assert run(sim, MINUTELY, APRIL)
    assert unfinished(sim, MINUTELY) == []
    sim.clock.now_ms = ms("2024-05-01 00:00:09")
    assert unfinished(sim, MINUTELY) == [], "the grace is not over"
    sim.clock.now_ms = ms("2024-05-01 00:00:10")
    assert unfinished(sim, MINUTELY) == [APRIL]
    assert run(sim, MINUTELY, APRIL)
    assert sim.table("linear:BTCUSDT:1")[-1][0] == ms("2024-04-30 23:59")
    assert unfinished(sim, MINUTELY) == []
    assert finished(sim, MINUTELY, APRIL)


def test_a_month_that_has_closed_is_read_once_more_in_full_pages_and_never_again(sim: World) -> None:
    run(sim, HOURLY, APRIL)
    sim.clock.now_ms = ms("2024-05-01 00:10")
    sim.pipeline.listing("linear", "BTCUSDT", now_ms=sim.clock())  # a week has passed: it is probed again
    asked = sim.pages("60")
    report = sim.pipeline.fill(HOURLY, [APRIL])[APRIL]
    assert (report.requests, report.rows, sim.pages("60") - asked) == (1, 720, 1)
    assert run(sim, HOURLY, APRIL)
    sim.clock.now_ms += 3_600_000
    assert run(sim, HOURLY, APRIL)
    assert sim.pages("60") - asked == 1


@pytest.mark.parametrize(("dataset", "cell"), [(HOURLY, APRIL), (WEEKLY, Cell(date(2024, 1, 1), "BTCUSDT"))])
def test_what_has_just_begun_lacks_nothing_whatever_our_clock_says(
    settings: Settings, database: Database, dataset: Dataset, cell: Cell
) -> None:
    with world(settings, database, now=f"{cell.date} 00:10") as sim:
        sim.pipeline.fill(dataset, [cell])
        verdict = sim.pipeline.derive(dataset, [cell], now_ms=ms("2026-01-01"))[cell]
        verified = sim.pipeline.verify(dataset, cell, declared=[dataset], now_ms=ms("2026-01-01"))

    assert (verdict.expected, verdict.missing, verdict.quarantined) == (0, 0, False)
    assert not [one for one in verified.disagreements if "missing" in one]


def test_a_month_that_lost_its_raw_batches_is_not_taken_for_one_that_has_just_begun(
    settings: Settings, database: Database
) -> None:
    with world(settings, database, now="2024-04-01 00:10") as sim:
        assert run(sim, HOURLY, APRIL)
        sim.clock.now_ms = ms("2024-04-10 12:34:56")
        assert run(sim, HOURLY, APRIL)
        stored = sim.table("linear:BTCUSDT:60")
        sim.query("update kline.coverage set prune_epoch = prune_epoch + 1")  # as where spoilt ones were set aside
        for batch in (settings.home / "work/raw/linear/60/BTCUSDT/2024-04-01").iterdir():
            batch.unlink()

        verdict = sim.pipeline.derive(HOURLY, [APRIL], now_ms=sim.clock())[APRIL]
        sim.pipeline.land_postgres(HOURLY, [APRIL])

        assert verdict.quarantined
        assert len(stored) > 0
        assert sim.table("linear:BTCUSDT:60") == stored


def test_while_a_month_is_open_only_what_is_missing_is_fetched(sim: World) -> None:
    run(sim, HOURLY, APRIL)
    served = sim.exchange.stats.snapshot()["candles_served"]
    sim.clock.now_ms += 3_600_000
    run(sim, HOURLY, APRIL)
    assert sim.exchange.stats.snapshot()["candles_served"] - served <= 2  # the one that closed, and the open one


def test_what_the_second_reading_tells_differently_is_a_revision(sim: World) -> None:
    run(sim, HOURLY, APRIL)
    about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-04-05T00:00"}
    sim.exchange.faults.add([{"correct": {**about, "volume": "1"}}])
    sim.clock.now_ms = ms("2024-05-01 00:10")
    assert run(sim, HOURLY, APRIL)
    assert [tuple(row) for row in sim.query("select kind from kline.candle_revisions")] == [("changed",)]


def test_a_week_that_closes_in_the_next_year_finishes_then(sim: World) -> None:
    cell = Cell(date(2024, 1, 1), "BTCUSDT")
    sim.clock.now_ms = ms("2025-01-05 23:59:59")
    assert run(sim, WEEKLY, cell)
    assert unfinished(sim, WEEKLY) == []
    sim.clock.now_ms = ms("2025-01-06 00:00:10")
    assert unfinished(sim, WEEKLY) == [cell]
    assert run(sim, WEEKLY, cell)
    assert sim.table("linear:BTCUSDT:W")[-1][0] == ms("2024-12-30")
    assert unfinished(sim, WEEKLY) == []
    assert finished(sim, WEEKLY, cell)


def test_a_symbol_delisted_in_mid_month_finishes_its_month_at_once(settings: Settings, database: Database) -> None:
    march = Cell(date(2024, 3, 1), "NEW2303USDT")
    with world(settings, database, now="2024-03-16 08:30") as one:
        run(one, DELISTED, march)
        one.clock.now_ms = ms("2024-03-16 11:00")
        assert run(one, DELISTED, march)
        assert unfinished(one, DELISTED) == [march], "its end is known now, and it was not read whole since"
        assert run(one, DELISTED, march)
        assert one.table("linear:NEW2303USDT:60")[-1][0] == ms("2024-03-16 08:00")
        assert unfinished(one, DELISTED) == []
        assert finished(one, DELISTED, march)


def test_a_month_that_is_not_listed_is_finished_by_a_probe_after_its_end(
    settings: Settings, database: Database
) -> None:
    april = Cell(date(2024, 4, 1), "NEW2303USDT")
    with world(settings, database, now="2024-04-10 12:00") as one:
        run(one, DELISTED, april)
        assert unfinished(one, DELISTED) == []
        one.clock.now_ms = ms("2024-05-01 00:10")
        assert unfinished(one, DELISTED) == [april]
        assert run(one, DELISTED, april)
        assert unfinished(one, DELISTED) == []
        assert one.pipeline.verdict(DELISTED, april).not_listed


def test_a_month_of_which_a_killed_run_read_a_part_after_its_end_goes_on_there(sim: World) -> None:
    sim.clock.now_ms = ms("2024-05-01 00:10")
    begins = {"start": str(ms("2024-04-14 21:20"))}  # the 21st page
    sim.exchange.faults.add([{"http": {"status": 503, "path": "kline", "query": begins}}])
    with pytest.raises(Exception, match="503"):
        sim.pipeline.fill(MINUTELY, [APRIL])
    sim.exchange.faults.clear()
    asked = sim.pages("1")
    assert run(sim, MINUTELY, APRIL)
    assert sim.pages("1") - asked == 44 - 20
    assert unfinished(sim, MINUTELY) == []


def test_what_never_landed_is_unfinished_and_broken(sim: World) -> None:
    cell = Cell(date(2024, 2, 1), "BTCUSDT")
    sim.pipeline.fill(HOURLY, [cell])
    sim.pipeline.derive(HOURLY, [cell], now_ms=sim.clock())
    assert unfinished(sim, HOURLY) == [cell]
    assert sim.pipeline.broken(HOURLY, [cell], declared=[HOURLY], now_ms=sim.clock()) == [cell]
    run(sim, HOURLY, cell)
    assert unfinished(sim, HOURLY) == []
    assert sim.pipeline.broken(HOURLY, [cell], declared=[HOURLY], now_ms=sim.clock()) == []


def test_what_the_exchange_refuses_is_asked_for_once_a_day(sim: World) -> None:
    cell = Cell(date(2024, 2, 1), "NOSUCHUSDT")
    run(sim, HOURLY, cell)
    assert (unfinished(sim, HOURLY), sim.pipeline.due(HOURLY, now_ms=sim.clock())) == ([], [])
    sim.clock.now_ms += 86_400_000
    assert sim.pipeline.due(HOURLY, now_ms=sim.clock()) == [cell]


def test_pages_are_told_while_they_come(sim: World) -> None:
    told: list[tuple[int, int]] = []
    sim.pipeline.fill(MINUTELY, [Cell(date(2024, 1, 1), "BTCUSDT")], on_pages=lambda *pages: told.append(pages))
    assert told == [(number, 45) for number in range(1, 46)]
