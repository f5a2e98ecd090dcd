"""A gap becomes known when the exchange confirms it later and does not contradict itself, and closes if it fills."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import iso
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

FEBRUARY = Cell(date(2024, 2, 1), "BTCUSDT")
HOUR_MS = 3_600_000
HOLE = "2024-02-10T07:00:00Z"
DAILY = Dataset("linear", Interval("D"), date(2021, 1, 1), "year", ("BTCUSDT",))


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


def fault(sim: World, kind: str, interval: str, open_time: str, **words: str) -> None:
    about = {"category": "linear", "symbol": "BTCUSDT", "interval": interval, "open_time": open_time}
    sim.exchange.faults.add([{kind: {**about, **words}}])


def hole(sim: World) -> None:
    """Let the hour be missing, and the two hours around it too have no volume: nothing speaks against the gap."""
    fault(sim, "drop", "60", HOLE)
    fault(sim, "correct", "120", "2024-02-10T06:00", volume="0")


def run(sim: World, cell: Cell = FEBRUARY, dataset: Dataset = HOURLY) -> bool:
    landed = sim.run(dataset, (cell.date.isoformat(), cell.symbol))
    return all(one.result.passed for pair in landed.values() for one in pair)


def gaps(sim: World) -> list[Any]:
    return list(sim.query("select open_time, confirmed_at, closed_at, evidence from kline.known_gaps"))


def test_a_gap_is_known_only_when_it_was_confirmed_after_the_wait(sim: World) -> None:
    hole(sim)
    first = sim.clock()
    assert not run(sim)
    sim.clock.now_ms += HOUR_MS - 1
    assert not run(sim)
    assert gaps(sim) == []
    sim.clock.now_ms += 1
    assert run(sim)
    (gap,) = gaps(sim)
    assert gap.closed_at is None
    evidence = gap.evidence
    assert (evidence["first"]["server_time"], evidence["newest"]["server_time"]) == (iso(first), iso(sim.clock()))
    assert evidence["first"]["batch"] != evidence["newest"]["batch"]
    assert evidence["first"]["host"]
    assert (evidence["coarser"]["interval"], evidence["coarser"]["volume"]) == ("120", "0")


def test_a_month_with_a_known_gap_lands_and_warns_and_is_asked_for_once_a_day(sim: World) -> None:
    hole(sim)
    run(sim)
    sim.clock.now_ms += HOUR_MS
    assert run(sim)
    verdict = sim.pipeline.verdict(HOURLY, FEBRUARY)
    result = verdict.results["no_gaps"]
    assert (result.passed, result.severity, result.total) == (False, "WARN", 1)
    assert result.offenders[0].what == f"known gap, confirmed {iso(sim.clock())}"
    assert (verdict.expected, verdict.present, verdict.missing, verdict.known_missing) == (696, 695, 0, 1)
    assert verdict.finished
    ledger = sim.query("select state, expected, present, missing, known_missing from kline.coverage")
    assert tuple(ledger[0]) == ("landed", 696, 695, 0, 1)
    assert len(sim.table("linear:BTCUSDT:60")) == 695
    asked = sim.pages("60"), sim.pages("120")
    sim.clock.now_ms += HOUR_MS
    assert run(sim)
    assert (sim.pages("60"), sim.pages("120")) == asked
    assert sim.pipeline.verify(HOURLY, FEBRUARY, declared=[HOURLY], now_ms=sim.clock()).disagreements == ()
    assert sim.pipeline.broken(HOURLY, [FEBRUARY], declared=[HOURLY], now_ms=sim.clock()) == []
    sim.clock.now_ms += 23 * HOUR_MS
    assert sim.pipeline.due(HOURLY, now_ms=sim.clock()) == [FEBRUARY]
    assert sim.pipeline.broken(HOURLY, [FEBRUARY], declared=[HOURLY], now_ms=sim.clock() + 60_000) == [FEBRUARY]
    assert run(sim)
    assert (sim.pages("60"), sim.pages("120")) == (asked[0] + 3, asked[1])  # the hour twice; whether it was delisted
    assert sim.pipeline.due(HOURLY, now_ms=sim.clock()) == []
    assert gaps(sim)[0].closed_at is None


def test_a_candle_that_appears_in_a_finished_month_closes_its_gap(sim: World) -> None:
    hole(sim)
    run(sim)
    sim.clock.now_ms += HOUR_MS
    assert run(sim)
    sim.exchange.faults.clear()
    sim.clock.now_ms += 24 * HOUR_MS
    asked = sim.pages("60")

    assert run(sim)

    assert sim.pages("60") == asked + 1
    assert gaps(sim)[0].closed_at is not None
    assert len(sim.table("linear:BTCUSDT:60")) == 696
    assert sim.pipeline.verdict(HOURLY, FEBRUARY).results["no_gaps"].passed


def test_while_the_coarser_candle_holds_volume_the_gap_is_never_known(sim: World) -> None:
    fault(sim, "drop", "60", HOLE)
    run(sim)
    for _ in range(3):
        sim.clock.now_ms += 24 * HOUR_MS
        assert not run(sim)
    (gap,) = gaps(sim)
    assert gap.confirmed_at is None
    result = sim.pipeline.verdict(HOURLY, FEBRUARY).results["no_gaps"]
    assert (result.severity, result.counts["missing"], result.counts["known_missing"]) == ("ERROR", 1, 0)
    assert "the exchange's own coarser candle (120 at 2024-02-10T06:00:00Z) holds volume" in result.sentence
    for interval, open_time in (("120", "2024-02-10T06:00"), ("240", "2024-02-10T04:00"), ("720", "2024-02-10T00:00")):
        fault(sim, "drop", interval, open_time)
        sim.clock.now_ms += 24 * HOUR_MS
        assert not run(sim), "the next coarser candle speaks against it too"
    fault(sim, "drop", "D", "2024-02-10T00:00")
    fault(sim, "drop", "W", "2024-02-05T00:00")
    sim.clock.now_ms += 24 * HOUR_MS
    assert run(sim), "the exchange says no more that there was volume"


def test_a_smaller_volume_than_the_finer_ones_hold_speaks_against_nothing(sim: World) -> None:
    fault(sim, "drop", "60", HOLE)
    fault(sim, "correct", "120", "2024-02-10T06:00", volume="0.001")
    run(sim)
    sim.clock.now_ms += HOUR_MS
    assert run(sim)


def test_a_coarser_candle_that_has_not_closed_is_waited_for(settings: Settings, database: Database) -> None:
    april = Cell(date(2024, 4, 1), "BTCUSDT")
    with world(settings, database, now="2024-04-10 12:30") as sim:
        fault(sim, "drop", "240", "2024-04-10T04:00")
        fault(sim, "correct", "720", "2024-04-10T00:00", volume="0")
        fault(sim, "drop", "240", "2024-04-10T12:00")
        fault(sim, "correct", "720", "2024-04-10T12:00", volume="0")
        four = Dataset("linear", Interval("240"), date(2024, 1, 1), "month", ("BTCUSDT",))
        run(sim, april, four)
        sim.clock.now_ms = ms("2024-04-10 16:30")
        run(sim, april, four)
        sim.clock.now_ms = ms("2024-04-10 19:30")
        run(sim, april, four)
        assert [iso(round(gap.open_time.timestamp() * 1000)) for gap in gaps(sim)] == ["2024-04-10T04:00:00Z"]
        sim.clock.now_ms = ms("2024-04-11 00:30")
        run(sim, april, four)
        assert len(gaps(sim)) == 2


def test_before_2022_nothing_coarser_is_asked(settings: Settings, database: Database) -> None:
    old = Dataset("linear", Interval("60"), date(2021, 1, 1), "month", ("BTCUSDT",))
    cell = Cell(date(2021, 3, 1), "BTCUSDT")
    with world(settings, database) as sim:
        fault(sim, "drop", "60", "2021-03-10T07:00")
        run(sim, cell, old)
        asked = sim.pages("120")
        sim.clock.now_ms += HOUR_MS
        assert run(sim, cell, old)
        assert sim.pages("120") == asked
        assert gaps(sim)[0].evidence["coarser"] is None


def test_a_day_is_compared_with_its_week_across_the_end_of_the_year(settings: Settings, database: Database) -> None:
    cell = Cell(date(2023, 1, 1), "BTCUSDT")  # 2023-12-31 was a Sunday, 2023-01-01 too: its week began in 2022
    with world(settings, database) as sim:
        fault(sim, "drop", "D", "2023-01-01")
        run(sim, cell, DAILY)
        sim.clock.now_ms += HOUR_MS
        assert not run(sim, cell, DAILY)
        (gap,) = gaps(sim)
        coarser = gap.evidence["coarser"]
        assert (coarser["interval"], coarser["open_time"]) == ("W", "2022-12-26T00:00:00Z")
        assert 0 < float(coarser["finer_volume"]) < float(coarser["volume"])


def test_what_the_exchange_refuses_confirms_no_gap(sim: World) -> None:
    hole(sim)
    run(sim)
    sim.clock.now_ms += HOUR_MS
    refuse = {"code": 10001, "message": "params error", "query": {"start": str(ms("2024-02-10 07:00"))}}
    sim.exchange.faults.add([{"ret_code": refuse}])
    assert not run(sim)
    assert gaps(sim) == []


def test_a_candle_that_appears_later_closes_its_gap_and_nothing_is_deleted(sim: World) -> None:
    april = Cell(date(2024, 4, 1), "BTCUSDT")
    fault(sim, "drop", "60", "2024-04-09T07:00")
    fault(sim, "correct", "120", "2024-04-09T06:00", volume="0")
    run(sim, april)
    sim.clock.now_ms += HOUR_MS
    assert run(sim, april)
    assert gaps(sim)[0].closed_at is None
    sim.exchange.faults.clear()
    sim.clock.now_ms = ms("2024-05-01 00:10")  # the month is read once more
    assert run(sim, april)
    (gap,) = gaps(sim)
    assert gap.confirmed_at is not None
    assert gap.closed_at is not None
    assert sim.pipeline.verdict(HOURLY, april).results["no_gaps"].passed
    assert len(sim.table("linear:BTCUSDT:60")) == 720


def test_a_gap_is_due_after_waits_that_grow_to_a_day(sim: World) -> None:
    fault(sim, "drop", "60", HOLE)
    waits = []
    for _ in range(8):
        run(sim)
        start = sim.clock()
        assert sim.pipeline.due(HOURLY, now_ms=sim.clock()) == sim.pipeline.unfinished(HOURLY, now_ms=sim.clock()) == []
        while not sim.pipeline.due(HOURLY, now_ms=sim.clock.now_ms):
            sim.clock.now_ms += HOUR_MS
        waits.append((sim.clock.now_ms - start) // HOUR_MS)
    assert waits == [1, 1, 2, 4, 8, 16, 24, 24]


def test_other_gaps_of_a_month_with_a_known_one_are_errors_alone(sim: World) -> None:
    hole(sim)
    run(sim)
    sim.clock.now_ms += HOUR_MS
    assert run(sim)
    for batch in list((sim.settings.home / "work/raw/linear/60/BTCUSDT/2024-02-01").iterdir()):
        batch.write_bytes(b"spoilt")
    fault(sim, "drop", "60", "2024-02-20T00:00")
    sim.clock.now_ms += 1000
    assert not run(sim)
    result = sim.pipeline.verdict(HOURLY, FEBRUARY).results["no_gaps"]
    assert (result.severity, result.total, result.offenders[0].what) == ("ERROR", 1, "missing")
    assert (result.counts["missing"], result.counts["known_missing"]) == (1, 1)


def test_a_vanished_candle_is_kept_and_never_becomes_a_known_gap(sim: World) -> None:
    april = Cell(date(2024, 4, 1), "BTCUSDT")
    run(sim, april)
    fault(sim, "drop", "60", "2024-04-09T07:00")
    fault(sim, "drop", "120", "2024-04-09T06:00")
    for now in ("2024-05-01 00:10", "2024-05-01 02:10", "2024-05-03 02:10"):
        sim.clock.now_ms = ms(now)
        assert run(sim, april)
    assert gaps(sim) == []
    assert len(sim.table("linear:BTCUSDT:60")) == 720
    assert {row.kind for row in sim.query("select kind from kline.candle_revisions")} == {"vanished"}
