"""Each defect that the design names is caught by its rule, at its severity, and only real offenders are listed.

One world per case: hours of February 2024 (and the days of the year) of BTCUSDT and ETHUSDT, of which only BTCUSDT is
spoilt; every check is asked of every partition, and what a case does not name must pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest

from kline_pipeline.checks.report import CheckResult, Offender
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
APRIL = "60 2024-04-01 BTCUSDT"
Red = Mapping[tuple[str, str], tuple[str, Sequence[str]]]
NOW = "2024-04-10 12:34:56"


@dataclass(frozen=True)
class Case:
    """A defect, and the results that are not to pass: severity and first 20 offenders, by partition and check.

    An offender is an open time, or in the sinks a partition. `refused` is said by the run that fails instead.
    """

    name: str
    red: Red
    plan: Sequence[dict[str, Any]] = ()
    afterwards: Callable[[World], object] = field(default=lambda _: None)
    refused: str = ""


def sinks(*partitions: str) -> Red:
    """Return what is red besides where partitions are quarantined."""
    return {("60", check): ("ERROR", partitions) for check in ("postgres_agrees", "parquet_agrees")}


def hours(first: str, count: int = 20) -> list[str]:
    return [iso(ms(first) + n * 3_600_000) for n in range(count)]


def fetch(one: World, *, days: bool = True) -> None:
    if days:
        one.run(DAILY, *((str(cell.date), cell.symbol) for cell in YEARS))
    one.run(HOURLY, *((str(cell.date), cell.symbol) for cell in MONTHS))


def results(one: World) -> Iterator[tuple[str, CheckResult]]:
    """Yield every result of every check: of each partition that was derived, and of each dataset; nothing is landed."""
    for dataset in DECLARED:
        for cell in one.pipeline.derived(dataset):
            name = f"{dataset.interval} {cell.date} {cell.symbol}"
            for result in one.pipeline.verdict(dataset, cell).results.values():
                yield name, result
            yield name, one.pipeline.consistent(dataset, cell, declared=DECLARED)
        for check in ("postgres_agrees", "parquet_agrees"):
            yield f"{dataset.interval}", one.pipeline.judge_stored(dataset, check)
        yield f"{dataset.interval}", one.pipeline.fresh(dataset, now_ms=one.clock())
        yield f"{dataset.interval}", one.pipeline.revisions(dataset, now_ms=one.clock())


def red_of(found: Iterator[tuple[str, CheckResult]]) -> Red:
    return {
        (name, result.check): (result.severity, [_name(one) for one in result.offenders])
        for name, result in found
        if not result.passed
    }


def _name(offender: Offender) -> str:
    return iso(offender.open_time_ms) if offender.open_time_ms is not None else offender.what.split(":")[0]


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


def wait(until: str, *, fetching: bool = True) -> Callable[[World], object]:
    """Return what lets time pass while the exchange is well again, and fetches what has come since."""

    def afterwards(one: World) -> None:
        one.clock.now_ms = ms(until)
        if fetching:
            fetch(one)

    return afterwards


def healed(until: str) -> Callable[[World], object]:
    def afterwards(one: World) -> None:
        one.exchange.faults.clear()
        wait(until)(one)

    return afterwards


def cut_snapshot(one: World) -> None:
    (path,) = one.settings.home.glob("snapshots/linear/60/BTCUSDT/2024-02-01.parquet")
    path.write_bytes(path.read_bytes()[:-100])


def delete_row(one: World) -> None:
    one.query(
        "delete from kline.candles c using kline.series s where s.series_id = c.series_id and s.symbol = 'BTCUSDT' "
        "and s.interval = '60' and open_time = '2024-02-10T07:00Z'"
    )


AHEAD: list[dict[str, Any]] = [{"clock_skew": {**BTC, "seconds": 3600}}, {"partial": BTC}]
SECOND_PAGE = {**BTC, "query": {"start": str(ms("2024-02-11 16:00"))}}
ADDS_UP = {(FEBRUARY, "consistent"): ("ERROR", [THAT_DAY]), (YEAR, "consistent"): ("ERROR", [THAT_DAY])}
CASES = [
    Case("nothing", {}),
    Case("a gap", {(FEBRUARY, "no_gaps"): ("ERROR", [AT]), **sinks("BTCUSDT 2024-02-01")}, [{"drop": CANDLE}]),
    Case("a page lost once", {}, [{"empty": {**SECOND_PAGE, "times": 1}}]),
    Case(
        "a lost page",
        {
            (FEBRUARY, "no_gaps"): ("ERROR", hours("2024-02-11 16:00")),
            ("60 2024-03-01 BTCUSDT", "no_gaps"): ("ERROR", hours("2024-03-01 00:00")),
            **sinks("BTCUSDT 2024-02-01", "BTCUSDT 2024-03-01"),
        },
        [{"empty": SECOND_PAGE}],
    ),
    Case(
        "a contradicting duplicate",
        {(FEBRUARY, "no_duplicates"): ("ERROR", [AT]), **sinks("BTCUSDT 2024-02-01")},
        [{"contradict": CANDLE}],
    ),
    Case(
        "a partial candle under a server time one interval ahead, an hour later",
        {(APRIL, "consistent"): ("WARN", ["2024-04-10T13:00:00Z"])},
        AHEAD,
        healed("2024-04-10 14:34:56"),
    ),
    Case(
        "a partial candle under a server time one interval ahead, when its day has closed",
        {
            (APRIL, "consistent"): ("ERROR", ["2024-04-10T00:00:00Z", "2024-04-10T13:00:00Z"]),
            (YEAR, "consistent"): ("ERROR", ["2024-04-10T00:00:00Z"]),
        },
        AHEAD,
        healed("2024-04-11 00:34:56"),
    ),
    Case(
        "a partial candle under a server time one interval ahead, when its month was read once more",
        {("60", "revisions"): ("WARN", ["2024-04-10T12:00:00Z"])},
        AHEAD,
        healed("2024-05-01 00:34:56"),
    ),
    Case("a page of the wrong category", {}, [{"wrong_category": BTC}], refused="candles of category 'spot' instead"),
    Case(
        "volume and turnover swapped",
        {(FEBRUARY, "well_formed"): ("WARN", [AT]), **ADDS_UP},
        [{"swap": {**CANDLE, "columns": ["volume", "turnover"]}}],
    ),
    Case(
        "open and high swapped",
        {(FEBRUARY, "well_formed"): ("ERROR", [AT]), **sinks("BTCUSDT 2024-02-01")},
        [{"swap": {**CANDLE, "columns": ["open", "high"]}}],
    ),
    Case(
        "a stale series",
        {
            ("60", "fresh"): ("ERROR", ["2024-04-10T05:00:00Z"]),
            (APRIL, "no_gaps"): ("ERROR", hours("2024-04-10 06:00")),
            **sinks("BTCUSDT 2024-04-01"),
        },
        [{"stale": {**BTC, "after": "2024-04-10T06:00"}}],
        wait("2024-04-12 12:34:56"),
    ),
    Case(
        "series that nobody fetched for a day and a half",
        {("60", "fresh"): ("WARN", ["2024-04-10T11:00:00Z"] * 2)},
        afterwards=wait("2024-04-12 00:34:56", fetching=False),
    ),
    Case(
        "a changed closed candle",
        {
            ("60", "revisions"): ("WARN", [AT]),
            **ADDS_UP,
            (FEBRUARY, "consistent"): ("ERROR", [THAT_DAY, NEXT]),
        },
        afterwards=fetch_raw_again,
    ),
    Case(
        "a corrupted Parquet file",
        {("60", "parquet_agrees"): ("ERROR", ["BTCUSDT 2024-02-01"])},
        afterwards=cut_snapshot,
    ),
    Case(
        "a row deleted from PostgreSQL",
        {("60", "postgres_agrees"): ("ERROR", ["BTCUSDT 2024-02-01"])},
        afterwards=delete_row,
    ),
]


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database, now=NOW) as one:
        one.clock.step_ms = 1  # the second answer of two is the later one
        yield one


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_defect_is_caught_by_its_rule_and_nothing_else_is_listed(sim: World, case: Case) -> None:
    sim.exchange.faults.replace(list(case.plan))
    if case.refused:
        with pytest.raises(MalformedAnswer, match=case.refused):
            fetch(sim)
        assert sim.table("linear:BTCUSDT:60") == []
    else:
        fetch(sim)
    case.afterwards(sim)

    found = red_of(results(sim))
    assert {key: (severity, list(offenders)) for key, (severity, offenders) in found.items()} == {
        key: (severity, list(offenders)) for key, (severity, offenders) in case.red.items()
    }
