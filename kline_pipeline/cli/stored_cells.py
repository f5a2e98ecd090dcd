"""Which partitions of a series are stored, for commands that look again at what is there; nobody is asked for them."""

from datetime import date
from typing import TYPE_CHECKING

from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import UsageError
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import day_of, end_of, start_of

if TYPE_CHECKING:
    from kline_pipeline.opening import Opened


def stored_cells(
    work: "Opened",
    dataset: Dataset,
    series: Series,
    *,
    start: str | None,
    end: str | None,
    now_ms: int,
    required: bool = True,
) -> list[Cell]:
    """Return the partitions in the range that were ever fetched or derived, ascending; at least one where `required`.

    Raises:
        UsageError: there is none and must be, or the range is none.
    """
    first, last = _ends(dataset, start, end, now_ms)
    known = work.pipeline.stored_dates(dataset, series.symbol, now_ms=now_ms)
    cells = [Cell(day, series.symbol) for day in known if first <= day <= last]
    if required and not cells:
        raise UsageError(
            f"nothing is stored of {series} between {first} and {last}; begin with: kline-pipeline backfill {series}"
        )
    return cells


def possible_cells(dataset: Dataset, series: Series, *, start: str | None, end: str | None, now_ms: int) -> list[Cell]:
    """Return all partitions of a series in the range up to now, stored or not, ascending."""
    first, last = _ends(dataset, start, end, now_ms)
    return [Cell(day, series.symbol) for day in dataset.dates(now_ms) if first <= day <= last]


def _ends(dataset: Dataset, start: str | None, end: str | None, now_ms: int) -> tuple[date, date]:
    first = dataset.start if start is None else dataset.floor(day_of(start_of(start, now_ms)))
    return first, dataset.floor(day_of(now_ms if end is None else end_of(end, now_ms) - 1))
