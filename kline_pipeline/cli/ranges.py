"""Which partitions a command means by its keys and its --from and --to; what is done with them is not decided here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import UsageError
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import day_of, end_of, start_of
from kline_pipeline.market.window import Window, iso


@dataclass(frozen=True, slots=True)
class Selection:
    """A rectangle of partitions of one dataset: dates ascending x symbols in the order of the command."""

    dataset: Dataset
    dates: tuple[date, ...]
    symbols: tuple[str, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every partition, by symbol and date."""
        return [Cell(day, symbol) for symbol in self.symbols for day in self.dates]

    @property
    def window(self) -> Window:
        """From the first open time of the first partition to the end of the last."""
        return Window(self.dataset.window(self.dates[0]).start_ms, self.dataset.window(self.dates[-1]).end_ms)


def parse_keys(keys: Sequence[str]) -> list[Series]:
    """Return the series of the keys, each once, in the order given.

    Raises:
        UnknownSeries: a key is none.
    """
    return list(dict.fromkeys(Series.parse(key) for key in keys))


def grouped(series: Sequence[Series], declared: Sequence[Dataset]) -> list[tuple[Dataset, tuple[str, ...]]]:
    """Return the datasets of the series with the symbols asked of each, in the order of the keys.

    Raises:
        UsageError: a series belongs to no declared dataset.
    """
    by_name = {dataset.name: dataset for dataset in declared}
    found: dict[str, list[str]] = {}
    for one in series:
        name = f"{one.category}_{one.interval.code}"
        if name not in by_name:
            raise UsageError(f"{one} belongs to no dataset; add it with: kline-pipeline series add {one}")
        found.setdefault(name, []).append(one.symbol)
    return [(by_name[name], tuple(symbols)) for name, symbols in found.items()]


def select(
    dataset: Dataset,
    symbols: tuple[str, ...],
    first_ms: Mapping[str, int],
    *,
    start: str | None,
    end: str | None,
    now_ms: int,
) -> tuple[Selection, str]:
    """Return the whole partitions that a range touches, and a sentence where that is more than was asked ("" else).

    Args:
        dataset: whose partitions.
        symbols: whose, of the dataset.
        first_ms: open time of the first candle of each symbol, which is where a range without --from begins.
        start: as typed; None for the first candle.
        end: as typed; None for now.
        now_ms: the exchange's time.

    Raises:
        UsageError: the range is none, lies in the future, or begins before the dataset does although there are candles.
    """
    first = min(first_ms[symbol] for symbol in symbols)
    start_ms = first if start is None else start_of(start, now_ms)
    end_ms = now_ms if end is None else end_of(end, now_ms)
    if start_ms >= end_ms:
        began = f"--from {start}" if start else f"the first candle ({iso(start_ms)})"
        raise UsageError(f"{began} is not before --to {end or 'now'}: nothing lies between them")
    first_day = dataset.floor(day_of(start_ms))
    if first_day < dataset.start:
        if start is not None and dataset.floor(day_of(max(first, start_ms))) < dataset.start:
            raise UsageError(
                f"{dataset.name} begins on {dataset.start}, and there are candles before; "
                f"set start = {first_day} for it in datasets.toml, or give --from {dataset.start}"
            )
        first_day = dataset.start
    last_day = dataset.floor(day_of(end_ms - 1))
    dates = tuple(day for day in dataset.dates(now_ms) if first_day <= day <= last_day)
    if not dates:
        raise UsageError(f"{dataset.name} begins on {dataset.start}, after the end of that range")
    selection = Selection(dataset, dates, symbols)
    return selection, _widened(selection, start_ms if start else None, end_ms, now_ms)


def _widened(selection: Selection, start_ms: int | None, end_ms: int, now_ms: int) -> str:
    dataset, window = selection.dataset, selection.window
    earlier = start_ms is not None and window.start_ms < dataset.interval.floor(start_ms)
    later = min(window.end_ms, now_ms) > end_ms
    if not earlier and not later:
        return ""
    return f"{dataset.name}: widened to whole partitions (one a {dataset.grain}), {window}"
