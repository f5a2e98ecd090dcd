"""What stays wrong for good is let in by a person, with a reason, and warns from then on."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from kline_pipeline.checks.report import CheckResult
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell
from kline_pipeline.errors import UsageError
from kline_pipeline.market.window import Window
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

FEBRUARY = Cell(date(2024, 2, 1), "BTCUSDT")
HOUR_MS = 3_600_000
AT = "2024-02-10T07:00"
HOUR = Window(ms("2024-02-10 07:00"), ms("2024-02-10 08:00"))
ABOUT = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": AT}


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


def run(one: World) -> bool:
    landed = one.run(HOURLY, (FEBRUARY.date.isoformat(), FEBRUARY.symbol))
    return all(each.result.passed for pair in landed.values() for each in pair)


def land(one: World) -> bool:
    """Derive and land without asking the exchange, as the command does after recording."""
    one.pipeline.derive(HOURLY, [FEBRUARY], now_ms=one.clock())
    landings = one.pipeline.land_postgres(HOURLY, [FEBRUARY]), one.pipeline.land_parquet(HOURLY, [FEBRUARY])
    return all(landing[FEBRUARY].result.passed for landing in landings)


def accept(one: World, window: Window = HOUR, keep: Literal["first", "last"] | None = None) -> list[Cell]:
    return one.pipeline.accept(
        HOURLY, "BTCUSDT", window, reason="known outage", keep=keep, declared=[HOURLY], now_ms=one.clock()
    )


def result(one: World, check: str) -> CheckResult:
    return one.pipeline.verdict(HOURLY, FEBRUARY).results[check]


def volume(one: World) -> Decimal:
    return next(Decimal(row[5]) for row in one.table("linear:BTCUSDT:60") if row[0] == HOUR.start_ms)


def test_a_missing_candle_is_let_go(sim: World) -> None:
    sim.exchange.faults.add([{"drop": ABOUT}])
    assert not run(sim)
    assert accept(sim) == [FEBRUARY]
    assert land(sim)
    gaps = result(sim, "no_gaps")
    assert (gaps.passed, gaps.severity, gaps.offenders[0].what) == (False, "WARN", "missing; accepted: known outage")
    ledger = sim.query("select state, expected, present, missing, known_missing, ask_again_at from kline.coverage")
    assert tuple(ledger[0]) == ("landed", 696, 695, 0, 1, None)
    asked = sim.pages("60")
    sim.clock.now_ms += 48 * HOUR_MS
    assert run(sim)
    assert sim.pages("60") == asked
    assert sim.pipeline.broken(HOURLY, [FEBRUARY], declared=[HOURLY], now_ms=sim.clock()) == []
    assert sim.pipeline.verify(HOURLY, FEBRUARY, declared=[HOURLY], now_ms=sim.clock()).disagreements == ()
    (kept,) = sim.query("select reason, keep, window_start, window_end, evidence from kline.accepted")
    assert (kept.reason, kept.keep) == ("known outage", None)
    assert kept.evidence == [{"open_time": f"{AT}:00Z", "missing": True, "rows": [], "off_grid": []}]


@pytest.mark.parametrize("keep", ["first", "last"])
def test_of_contradicting_rows_the_chosen_one_lands(sim: World, keep: Literal["first", "last"]) -> None:
    sim.exchange.faults.add([{"contradict": {**ABOUT, "volume": "1"}}])
    assert not run(sim)
    with pytest.raises(UsageError, match="2 contradicting rows at 2024-02-10T07:00:00Z; say with --keep"):
        accept(sim)
    accept(sim, keep=keep)
    assert land(sim)
    query = {name: ABOUT[name] for name in ("category", "symbol", "interval")}
    start = {"start": str(HOUR.start_ms), "end": str(HOUR.start_ms), "limit": "1000"}
    served = json.loads(sim.exchange.handle("GET", "/v5/market/kline", {**query, **start}).body)["result"]["list"]
    assert volume(sim) == Decimal(served[0 if keep == "first" else 1][5])
    twice = result(sim, "no_duplicates")
    assert (twice.passed, twice.severity) == (False, "WARN")
    assert f"the {keep} one counts, accepted: known outage" in twice.sentence
    assert len(sim.query("select evidence from kline.accepted")[0].evidence[0]["rows"]) == 2


def test_a_candle_that_fits_into_no_sink_cannot_be_accepted(sim: World) -> None:
    sim.exchange.faults.add([{"correct": {**ABOUT, "volume": "0.1234567890123456789"}}])
    assert not run(sim)
    with pytest.raises(UsageError, match="fits into no sink"):
        accept(sim)


@pytest.mark.parametrize(
    ("window", "reason", "told"),
    [
        (HOUR, "why", "nothing in .* breaks an error rule"),
        (Window(HOUR.start_ms + 1, HOUR.end_ms), "why", "is no range of whole 60 candles"),
        (Window(HOUR.start_ms, HOUR.start_ms), "why", "is no range of whole 60 candles"),
        (HOUR, "  ", "needs a reason"),
    ],
)
def test_what_cannot_be_accepted_is_one_sentence(sim: World, window: Window, reason: str, told: str) -> None:
    run(sim)
    with pytest.raises(UsageError, match=told):
        sim.pipeline.accept(HOURLY, "BTCUSDT", window, reason=reason, keep=None, declared=[HOURLY], now_ms=sim.clock())
    assert sim.query("select 1 from kline.accepted") == []


def test_what_nobody_asked_for_cannot_be_accepted(sim: World) -> None:
    with pytest.raises(UsageError, match="nothing in"):
        accept(sim)


def test_what_is_wrong_outside_the_window_stays_wrong(sim: World) -> None:
    sim.exchange.faults.add([{"drop": ABOUT}, {"drop": {**ABOUT, "open_time": "2024-02-20T00:00"}}])
    assert not run(sim)
    accept(sim)
    assert not land(sim)
    gaps = result(sim, "no_gaps")
    assert (gaps.severity, gaps.total, gaps.counts["known_missing"]) == ("ERROR", 1, 1)


def test_a_contradiction_that_comes_later_is_not_let_in_by_a_decision_about_a_gap(sim: World) -> None:
    sim.exchange.faults.add([{"drop": ABOUT}])
    run(sim)
    accept(sim)
    assert land(sim)
    for batch in list((sim.settings.home / "work/raw/linear/60/BTCUSDT/2024-02-01").iterdir()):
        batch.write_bytes(b"spoilt")  # so that it is read again
    sim.exchange.faults.replace([{"contradict": {**ABOUT, "volume": "1"}}])
    sim.clock.now_ms += 1000
    assert not run(sim)
    assert result(sim, "no_duplicates").severity == "ERROR"


def test_a_wide_window_lets_in_only_what_offended_when_it_was_accepted(sim: World) -> None:
    month = HOURLY.window(FEBRUARY.date)
    sim.clock.step_ms = 1
    sim.exchange.faults.add([{"drop": ABOUT}])
    run(sim)
    accept(sim, month)
    for batch in (Path(sim.settings.work_url) / "raw/linear/60/BTCUSDT/2024-02-01").iterdir():
        batch.unlink()
    sim.exchange.faults.add([{"drop": {**ABOUT, "open_time": "2024-02-10T08:00"}}])

    assert not run(sim)

    verdict = sim.pipeline.verdict(HOURLY, FEBRUARY)
    assert (verdict.quarantined, verdict.missing, verdict.known_missing) == (True, 1, 1)
    assert "2024-02-10T08:00:00Z" in verdict.reasons[0]
