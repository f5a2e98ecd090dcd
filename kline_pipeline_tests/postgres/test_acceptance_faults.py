"""Each defect that the design names is caught by its rule, at its severity, and only real offenders are listed.

One world per case: hours of February 2024 (and the days of the year) of BTCUSDT and ETHUSDT, of which only BTCUSDT is
spoilt; every check is asked of every partition, and what a case does not name must pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest

from kline_pipeline.checks.report import CheckResult
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import MalformedAnswer
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import iso
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

DAILY = Dataset("linear", Interval("D"), date(2024, 1, 1), "year", ("BTCUSDT", "ETHUSDT"))
DECLARED = (HOURLY, DAILY)
MONTHS = tuple(Cell(date(2024, month, 1), symbol) for symbol in HOURLY.symbols for month in (1, 2, 3, 4))
YEARS = tuple(Cell(date(2024, 1, 1), symbol) for symbol in DAILY.symbols)
BTC = {"category": "linear", "symbol": "BTCUSDT", "interval": "60"}
AT, NEXT, THAT_DAY = "2024-02-10T07:00:00Z", "2024-02-10T08:00:00Z", "2024-02-10T00:00:00Z"
CANDLE = {**BTC, "open_time": "2024-02-10T07:00"}
FEBRUARY, YEAR = "60 2024-02-01 BTCUSDT", "D 2024-01-01 BTCUSDT"
Red = Mapping[tuple[str, str], tuple[str, Sequence[str]]]
SINKS: Red = {
    (FEBRUARY, "postgres_agrees"): ("ERROR", [""]),
    (FEBRUARY, "parquet_agrees"): ("ERROR", [""]),
}  # what is quarantined is red in the sinks too
NOW = "2024-04-10 12:34:56"


@dataclass(frozen=True)
class Case:
    """A defect, and the results that are not to pass: severity and open times, by partition and check."""

    name: str
    red: Red
    plan: Sequence[dict[str, Any]] = ()
    afterwards: Callable[[World], object] = field(default=lambda _: None)


def fetch(one: World, *, days: bool = True) -> None:
    if days:
        one.run(DAILY, *((str(cell.date), cell.symbol) for cell in YEARS))
    one.run(HOURLY, *((str(cell.date), cell.symbol) for cell in MONTHS))


def verdicts(one: World) -> Iterator[tuple[str, CheckResult]]:
    """Yield every result of every check on every partition, as Dagster asks for them."""
    for dataset, cells in ((HOURLY, MONTHS), (DAILY, YEARS)):
        for cell in cells:
            name = f"{dataset.interval} {cell.date} {cell.symbol}"
            for result in one.pipeline.verdict(dataset, cell).results.values():
                yield name, result
            yield name, one.pipeline.consistent(dataset, cell, declared=DECLARED)
            for land in (one.pipeline.land_postgres, one.pipeline.land_parquet):
                yield name, land(dataset, [cell])[cell].result
        yield f"{dataset.interval}", one.pipeline.fresh(dataset, now_ms=one.clock())
        yield f"{dataset.interval}", one.pipeline.revisions(dataset, now_ms=one.clock())


def red_of(results: Iterator[tuple[str, CheckResult]]) -> dict[tuple[str, str], tuple[str, list[str]]]:
    return {
        (name, result.check): (
            result.severity,
            [iso(one.open_time_ms) if one.open_time_ms is not None else "" for one in result.offenders],
        )
        for name, result in results
        if not result.passed
    }


def fetch_raw_again(one: World) -> None:
    """Fetch February once more while the exchange tells it differently, with the older answer still there."""
    folder = one.settings.home / "work/raw/linear/60/BTCUSDT/2024-02-01"
    aside = folder.with_name("aside")
    folder.rename(aside)
    one.clock.now_ms += 60_000
    one.exchange.faults.replace([{"correct": {**CANDLE, "close": "1"}}])
    fetch(one, days=False)
    for path in aside.iterdir():
        path.rename(folder / path.name)
    aside.rmdir()
    fetch(one, days=False)


def wait_two_days(one: World) -> None:
    one.clock.now_ms = ms("2024-04-12 12:34:56")
    with suppress(MalformedAnswer):
        fetch(one)


CASES = [
    Case("nothing", {}),
    Case("a gap", {(FEBRUARY, "no_gaps"): ("ERROR", [AT]), **SINKS}, [{"drop": CANDLE}]),
    Case(
        "a contradicting duplicate",
        {(FEBRUARY, "no_duplicates"): ("ERROR", [AT]), **SINKS},
        [{"contradict": CANDLE}],
    ),
    Case(
        "volume and turnover swapped",
        {
            (FEBRUARY, "well_formed"): ("WARN", [AT]),
            (FEBRUARY, "consistent"): ("ERROR", [THAT_DAY]),
            (YEAR, "consistent"): ("ERROR", [THAT_DAY]),
        },
        [{"swap": {**CANDLE, "columns": ["volume", "turnover"]}}],
    ),
    Case(
        "open and high swapped",
        {(FEBRUARY, "well_formed"): ("ERROR", [AT]), **SINKS},
        [{"swap": {**CANDLE, "columns": ["open", "high"]}}],
    ),
    Case(
        "a changed closed candle",
        {
            ("60", "revisions"): ("WARN", [AT]),
            (FEBRUARY, "consistent"): ("ERROR", [THAT_DAY, NEXT]),
            (YEAR, "consistent"): ("ERROR", [THAT_DAY]),
        },
        afterwards=fetch_raw_again,
    ),
]


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database, now=NOW) as one:
        yield one


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_defect_is_caught_by_its_rule_and_nothing_else_is_listed(sim: World, case: Case) -> None:
    sim.exchange.faults.replace(list(case.plan))
    fetch(sim)
    case.afterwards(sim)

    assert red_of(verdicts(sim)) == case.red
