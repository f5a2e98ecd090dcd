"""Reading back what has landed of a series, and what of a window it lacks; nothing is written, and nobody is asked."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kline_pipeline.datasets import Dataset
from kline_pipeline.evidence import coverage, listings
from kline_pipeline.evidence.let_in import LetIn
from kline_pipeline.evidence.partitions import let_in_of
from kline_pipeline.market.schema import empty_candles, snapshot_table
from kline_pipeline.market.window import Window, absent_of, to_ms, windows_of
from kline_pipeline.sinks import candles_parquet, candles_postgres
from kline_pipeline.stages.stores import Stores

NOT_FETCHED: Final = "not fetched: run backfill"
NOT_LANDED: Final = "fetched and not landed: run backfill"
_READERS: Final = 4
LOST: Final = "lost after it had landed: run rebuild"


@dataclass(frozen=True, slots=True)
class Gap:
    """Neighbouring candles that should be stored and are not.

    Attributes:
        window: from the first open time to the end of the last, UTC.
        candles: how many.
        why: one of the texts above, quarantined with its reasons, a known gap, or accepted.
        let_in: it is a known gap or was accepted: the candles do not exist for us, and nothing is to be done.
    """

    window: Window
    candles: int
    why: str
    let_in: bool = False


def stored_candles(stores: Stores, dataset: Dataset, symbol: str, window: Window) -> pa.Table:
    """Return what a sink holds of a series in a window: SNAPSHOT_SCHEMA, ascending and unique; empty where nothing is.

    Snapshots are read where the dataset has them, else the table; a snapshot that differs from the ledger is refused.

    Raises:
        CorruptFile: a snapshot is not what was landed.
        StorageError: the database or a folder failed.
    """
    series = dataset.series(symbol)
    names = (series.category, series.symbol, series.interval.code)
    if "parquet" not in dataset.sinks:
        return snapshot_table(names, candles_postgres.read(stores.database, series, window))

    def part_of(row: Any) -> pa.Table | None:
        proof = {"sha256": row.parquet_sha256, "fingerprint": row.parquet_fingerprint}
        table = candles_parquet.read(stores.snapshots, series, row.date, **proof)
        if table is None:
            return None
        low, high = np.searchsorted(open_times_ms(table), [window.start_ms, window.end_ms])
        return table.slice(low, high - low)

    # Side by side: reading and unpacking is done by Arrow, which lets other threads go on.
    with ThreadPoolExecutor(_READERS) as readers:
        parts = [part for part in readers.map(part_of, _rows(stores, dataset, symbol, window)) if part is not None]
    return pa.concat_tables([snapshot_table(names, empty_candles()), *parts])


def open_times_ms(table: pa.Table) -> NDArray[np.int64]:
    """Return the open times of a table with SNAPSHOT_SCHEMA, UTC milliseconds."""
    times: NDArray[np.int64] = table["open_time"].cast(pa.int64()).to_numpy()
    return times


def gaps(stores: Stores, dataset: Dataset, symbol: str, window: Window, candles: pa.Table) -> list[Gap]:
    """Return what `candles`, read from a window, lack of the open times that the listing expects, ascending.

    Args:
        stores: of the KLINE_HOME.
        dataset, symbol: the series.
        window: of which every candle has closed.
        candles: SNAPSHOT_SCHEMA, as `stored_candles` returns them.
    """
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        listing = listings.read(connection, dataset.category, symbol)
        let_in = let_in_of(connection, dataset.series(symbol), window)
    parts = listing.windows(dataset.interval, window) if listing is not None else [window]
    grid = np.concatenate(
        [np.zeros(0, np.int64), *(dataset.interval.grid(part.start_ms, part.end_ms) for part in parts)]
    )
    absent = absent_of(grid, open_times_ms(candles))
    gone = absent[let_in.lets_miss(absent)]
    absent = absent[~let_in.lets_miss(absent)]
    rows = _rows(stores, dataset, symbol, window)
    found = [*_let_in(gone, dataset, let_in), *(gap for row in rows for gap in _of(absent, row, dataset))]
    known = [Window(to_ms(row.window_start), to_ms(row.window_end)) for row in rows if row.generation is not None]
    return sorted([*found, *_unknown(absent, known, dataset)], key=lambda gap: gap.window)


def _rows(stores: Stores, dataset: Dataset, symbol: str, window: Window) -> Sequence[Any]:
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        rows = coverage.rows(connection, dataset.category, dataset.interval.code, symbol)
    return [row for row in rows if Window(to_ms(row.window_start), to_ms(row.window_end)).intersect(window)]


def _of(absent: NDArray[np.int64], row: Any, dataset: Dataset) -> list[Gap]:
    if row.generation is None:
        return []
    inside = absent[(absent >= to_ms(row.window_start)) & (absent < to_ms(row.window_end))]
    if row.state == "quarantined":
        return _gaps(inside, dataset, f"quarantined: {'; '.join(row.reasons)}")
    if row.state == "pending":
        return _gaps(inside, dataset, NOT_LANDED)
    reached = inside > (to_ms(row.last_open_time) if row.last_open_time is not None else 0)
    return _gaps(inside[~reached], dataset, LOST) + _gaps(inside[reached], dataset, NOT_FETCHED)


def _let_in(gone: NDArray[np.int64], dataset: Dataset, let_in: LetIn) -> list[Gap]:
    why = np.array([let_in.about(int(time_ms), missing=True) for time_ms in gone], dtype=object)
    return [
        replace(gap, let_in=True)
        for about in dict.fromkeys(why.tolist())
        for gap in _gaps(gone[why == about], dataset, about)
    ]


def _unknown(absent: NDArray[np.int64], known: Sequence[Window], dataset: Dataset) -> list[Gap]:
    left = np.ones(len(absent), dtype=bool)
    for window in known:
        left &= (absent < window.start_ms) | (absent >= window.end_ms)
    return _gaps(absent[left], dataset, NOT_FETCHED)


def _gaps(absent: NDArray[np.int64], dataset: Dataset, why: str) -> list[Gap]:
    return [
        Gap(window, dataset.interval.count(window.start_ms, window.end_ms), why)
        for window in windows_of(absent, dataset.interval)
    ]
