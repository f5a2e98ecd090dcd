"""How dates and symbols are cut into the rectangles that one Dagster run takes; running them is done elsewhere."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Final, TypeVar

from kline_pipeline.datasets import Cell, Dataset, next_date
from kline_pipeline.errors import UnknownSeries

MOST_CANDLES: Final = 2_100_000  # "about two million": two years of one symbol's minutes plus the open month fit
MOST_CELLS: Final = 250  # of KLINE_RUN_PARTITIONS: Dagster's planned check rows grow with the square of it

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class RangeRun:
    """The partitions of one run: every date with every symbol.

    Attributes:
        dates: neighbours in the grain of the dataset, ascending, at least one.
        symbols: neighbours in the order of Dagster's dynamic partitions, at least one.
    """

    dataset: Dataset
    dates: tuple[date, ...]
    symbols: tuple[str, ...]

    @property
    def cells(self) -> list[Cell]:
        """The partitions, symbol by symbol, each from the oldest date on."""
        return [Cell(day, symbol) for symbol in self.symbols for day in self.dates]

    @property
    def expected(self) -> int:
        """Candles that the whole windows of the partitions have, whether listed and closed or not."""
        return len(self.symbols) * sum(_slots(self.dataset, day) for day in self.dates)

    @property
    def range_tags(self) -> dict[str, str]:
        """The tags that give a Dagster run these partitions."""
        first, last = partition_key(self.cells[0]), partition_key(self.cells[-1])
        if first == last:
            return {"dagster/partition": first}
        return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def partition_key(cell: Cell) -> str:
    """Return Dagster's name of a partition: 2024-01-01|BTCUSDT."""
    return f"{cell.date.isoformat()}|{cell.symbol}"


def rectangles(cells: Iterable[Cell]) -> list[tuple[tuple[date, ...], tuple[str, ...]]]:
    """Return few (dates, symbols) that hold exactly the partitions, each once; none where there are none.

    Dates and symbols ascend, with holes where the partitions have them: symbols that lack the same dates go together,
    or dates that lack the same symbols, whichever gives fewer.
    """
    dates: dict[str, list[date]] = {}
    symbols: dict[date, list[str]] = {}
    for cell in sorted(set(cells)):
        dates.setdefault(cell.symbol, []).append(cell.date)
        symbols.setdefault(cell.date, []).append(cell.symbol)
    by_symbol = [(days, tuple(sorted(them))) for days, them in _alike(dates).items()]
    by_date = [(tuple(days), them) for them, days in _alike(symbols).items()]
    return sorted(by_symbol if len(by_symbol) <= len(by_date) else by_date)


def plan_runs(
    dataset: Dataset,
    dates: Iterable[date],
    symbols: Iterable[str],
    *,
    known: Sequence[str],
    most: int = MOST_CELLS,
    most_candles: int = MOST_CANDLES,
) -> list[RangeRun]:
    """Return the fewest even rectangles that hold exactly every date with every symbol; none when either is empty.

    A Dagster range takes all that lies between its first and last key, so neither dates nor symbols of a run
    have a hole in between. A run keeps as many dates of a symbol together as fit, for they are fetched as one span.

    Args:
        dataset: whose partitions they are.
        dates: first dates of partitions, in any order.
        symbols: in any order; twice counts once.
        known: all symbols of the dataset in the order of Dagster's dynamic partitions.
        most: partitions of one run, KLINE_RUN_PARTITIONS.
        most_candles: expected candles of one run; a partition is never cut.

    Raises:
        UnknownSeries: a symbol is not among `known`.
    """
    place = {symbol: index for index, symbol in enumerate(known)}
    wanted = list(dict.fromkeys(symbols))
    if strange := [symbol for symbol in wanted if symbol not in place]:
        raise UnknownSeries(f"{dataset.name} has no symbol {', '.join(strange)}; add it with `series add`")
    date_blocks = _blocks(sorted(set(dates)), lambda one, two: next_date(one, dataset.grain) == two)
    symbol_blocks = _blocks(sorted(wanted, key=place.__getitem__), lambda one, two: place[one] + 1 == place[two])
    runs = []
    for symbol_block in symbol_blocks:
        for date_block in date_blocks:
            for days in _cut_dates(dataset, date_block, most, most_candles):
                candles = sum(_slots(dataset, day) for day in days)
                side = max(1, min(most // len(days), most_candles // max(1, candles)))
                runs += [RangeRun(dataset, tuple(days), tuple(part)) for part in _even(symbol_block, side)]
    return runs


def out_of_step(runs: Sequence[RangeRun]) -> list[RangeRun]:
    """Return the runs with the first and the last one cut by their dates, where there are several of both.

    Workers that begin with runs of one length fetch at once, each at half the rate, and land at once, when nobody asks
    the exchange; a shorter run at the beginning brings them out of step. At the end it leaves no worker idle for long.
    """
    if len(runs) < 2:  # noqa: PLR2004 - nobody to be in step with
        return list(runs)
    first, *between, last = runs
    return [*_cut(first, len(first.dates) // 3), *between, *_cut(last, -(-len(last.dates) * 2 // 3))]


def _cut(run: RangeRun, after: int) -> list[RangeRun]:
    """Cut a run after so many of its dates, at least one; the whole of it where it has no more."""
    after = max(1, after)
    parts = (run.dates[:after], run.dates[after:])
    return [replace(run, dates=dates) for dates in parts if dates]


def _cut_dates(dataset: Dataset, days: list[date], most: int, most_candles: int) -> list[list[date]]:
    largest = max(_slots(dataset, day) for day in days)
    return _even(days, max(1, min(most, most_candles // max(1, largest))))


def _even(items: list[T], most: int) -> list[list[T]]:
    """Cut into the fewest pieces of at most `most`, as even as can be."""
    pieces = -(-len(items) // most)
    bounds = [len(items) * number // pieces for number in range(pieces + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]


def _alike(held: Mapping[K, list[T]]) -> dict[tuple[T, ...], list[K]]:
    """Return the keys that hold the same, by what they hold."""
    found: dict[tuple[T, ...], list[K]] = {}
    for key, items in held.items():
        found.setdefault(tuple(items), []).append(key)
    return found


def _blocks(items: list[T], neighbours: Callable[[T, T], bool]) -> list[list[T]]:
    blocks: list[list[T]] = []
    for item in items:
        if blocks and neighbours(blocks[-1][-1], item):
            blocks[-1].append(item)
        else:
            blocks.append([item])
    return blocks


def _slots(dataset: Dataset, day: date) -> int:
    window = dataset.window(day)
    return dataset.interval.count(window.start_ms, window.end_ms)
