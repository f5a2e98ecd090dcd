"""Recorded candles of Bybit pass every check without a warning; series of one symbol add up to each other exactly.

Counts of what was compared are printed (pytest -s) and must not be zero where there is something to compare.
"""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kline_pipeline.checks.report import CheckResult
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset, floor_date
from kline_pipeline.market.interval import Interval
from kline_pipeline.simulator.grid import parse_time_ms
from kline_pipeline.simulator.replay import ReplayHistory
from kline_pipeline_tests.worlds import World, world

pytestmark = pytest.mark.realdata

NOW = "2026-11-25 00:00:00"
PLAIN, WITH_TURNOVER = "linear_no_turnover", "linear_with_turnover"
MINUTES = ("1", "5", "15", "30", "60", "240")
LONG = ("5", "30", "60", "D", "W")
# Files of one symbol reach back differently far: a pair has more in common than all of them.
CASES = [
    *((PLAIN, symbol, MINUTES) for symbol in ("DOGEUSDT", "DOTUSDT")),
    *((WITH_TURNOVER, symbol, (code,)) for symbol in ("DOGEUSDT", "1000PEPEUSDT", "XPINUSDT") for code in LONG),
    *(
        (WITH_TURNOVER, symbol, pair)
        for symbol in ("DOGEUSDT", "1000PEPEUSDT", "XPINUSDT")
        for pair in (("5", "30"), ("30", "60"), ("60", "D"), ("D", "W"))
    ),
]


def fetch(one: World, symbol: str, codes: Sequence[str]) -> list[tuple[Dataset, list[Cell]]]:
    """Run the whole flow over every series of a symbol, from its first candle to its last."""
    instrument = one.exchange.history.find("linear", symbol, one.clock())
    assert instrument is not None
    start_ms, end_ms = instrument.lives[0]
    assert end_ms is not None
    start, end = (datetime.fromtimestamp(time_ms / 1000, tz=UTC).date() for time_ms in (start_ms, end_ms - 1))
    kept = []
    for code in codes:
        grain = "year" if code in ("D", "W") else "month"
        dataset = Dataset("linear", Interval(code), floor_date(start, grain), grain, (symbol,))
        cells = [Cell(day, symbol) for day in dataset.dates(parse_time_ms(NOW)) if day <= end]
        one.run(dataset, *((str(cell.date), symbol) for cell in cells))
        kept.append((dataset, cells))
    return kept


def results(one: World, kept: Sequence[tuple[Dataset, list[Cell]]]) -> list[tuple[str, CheckResult]]:
    declared = [dataset for dataset, _ in kept]
    found = []
    for dataset, cells in kept:
        for cell in cells:
            name = f"{dataset.series(cell.symbol)} {cell.date}"
            found += [(name, result) for result in one.pipeline.verdict(dataset, cell).results.values()]
            found.append((name, one.pipeline.consistent(dataset, cell, declared=declared)))
        found += [
            (dataset.name, one.pipeline.judge_stored(dataset, check)) for check in ("postgres_agrees", "parquet_agrees")
        ]
        found.append((dataset.name, one.pipeline.fresh(dataset, now_ms=one.clock())))
        found.append((dataset.name, one.pipeline.revisions(dataset, now_ms=one.clock())))
    return found


@pytest.mark.parametrize(("folder", "symbol", "codes"), CASES)
def test_recorded_candles_pass_every_check_without_a_warning(
    settings: Settings, database: Database, folder: str, symbol: str, codes: tuple[str, ...]
) -> None:
    history = ReplayHistory(Path(os.environ["KLINE_REALDATA"]) / folder, "linear", codes)
    with world(settings, database, now=NOW, history=history) as one:
        kept = fetch(one, symbol, codes)
        found, borders = results(one, kept), _borders(one, kept)
    counts: Counter[str] = Counter()
    for _, result in found:
        if result.check == "consistent":
            counts.update(result.counts)
        elif result.check == "no_gaps":
            counts["candles"] += result.counts["present"]

    print(f"\n{folder} {symbol} {' '.join(codes)}: {dict(counts)}")  # noqa: T201 - what was compared, for people
    assert {(name, result.sentence) for name, result in found if not result.passed} == set()
    assert counts["candles"] > len(codes)
    assert counts["chained"] == counts["candles"] - len(codes) + borders
    assert (counts["added_up"] > 0) == (len(codes) > 1)
    assert counts["not_compared"] == 0


def _borders(one: World, kept: Sequence[tuple[Dataset, list[Cell]]]) -> int:
    """Return how many joints between partitions there are: each is looked at from both sides."""
    filled = [[cell for cell in cells if one.pipeline.verdict(dataset, cell).rows] for dataset, cells in kept]
    return sum(max(0, len(cells) - 1) for cells in filled)
