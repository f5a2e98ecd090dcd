"""Which partitions of a series are stored, for commands that look again at what is there; nobody is asked for them."""

from typing import TYPE_CHECKING

from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import UsageError
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import day_of, end_of, start_of

if TYPE_CHECKING:
    from kline_pipeline.opening import Opened


def stored_cells(
    work: "Opened", dataset: Dataset, series: Series, *, start: str | None, end: str | None, now_ms: int
) -> list[Cell]:
    """Return the partitions in the range that were ever fetched or derived, ascending; at least one.

    Raises:
        UsageError: there is none, or the range is none.
    """
    first = dataset.start if start is None else dataset.floor(day_of(start_of(start, now_ms)))
    last = dataset.floor(day_of(now_ms if end is None else end_of(end, now_ms) - 1))
    known = work.pipeline.stored_dates(dataset, series.symbol, now_ms=now_ms)
    cells = [Cell(day, series.symbol) for day in known if first <= day <= last]
    if not cells:
        raise UsageError(
            f"nothing is stored of {series} between {first} and {last}; begin with: kline-pipeline backfill {series}"
        )
    return cells
