"""All that the database says of one partition, read at once; what its raw batches say is told in stages/look.py."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence import accepted, coverage, known_gaps, listings
from kline_pipeline.evidence.let_in import NOTHING, LetIn
from kline_pipeline.evidence.series_ids import find_series_id
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, to_ms


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says of one partition.

    Attributes:
        row: of the ledger, None where there is none.
        listing: None for an instrument that was never probed.
        parts: of the window in which the series is listed, ascending; all of it where nobody knows.
        closes_ms: end of the last candle that is listed; of the window where none is.
        let_in: known gaps, and what a person accepted.
        prune_epoch: how often raw batches were taken away.
        read_after_ms: what was read before that is not trusted; 0 where all is.
    """

    row: Any | None
    listing: Listing | None
    parts: list[Window]
    closes_ms: int
    let_in: LetIn
    prune_epoch: int
    read_after_ms: int


def known_of(connection: Connection, dataset: Dataset, cell: Cell) -> Known:
    """Return what the database says of a partition."""
    window = dataset.window(cell.date)
    listing = listings.read(connection, dataset.category, cell.symbol)
    parts = listing.windows(dataset.interval, window) if listing else [window]
    closes_ms = parts[-1].end_ms if parts else window.end_ms
    key = find_series_id(connection, dataset.series(cell.symbol))
    row = None if key is None else coverage.row(connection, key, cell.date)
    let_in = let_in_of(connection, dataset.series(cell.symbol), window)
    epoch = row.prune_epoch if row is not None else 0
    read_after_ms = to_ms(row.read_after) if row is not None and row.read_after is not None else 0
    return Known(row, listing, parts, closes_ms, let_in, epoch, read_after_ms)


def let_in_of(connection: Connection, series: Series, window: Window) -> LetIn:
    """Return the known gaps of a series in a window, and what was accepted there."""
    key = find_series_id(connection, series)
    if key is None:
        return NOTHING
    return LetIn(known_gaps.read(connection, key, window), accepted.read(connection, key, window))
