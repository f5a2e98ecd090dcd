"""Which partitions a repair has something to do on, by the ledger, the raw batches and the sinks; nobody is asked.

Only what is distrusted is written down. A known gap and what a person accepted are not broken.
"""

from collections.abc import Sequence
from typing import Any

from kline_pipeline.candles.derive import Generation
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import CorruptFile
from kline_pipeline.evidence import coverage
from kline_pipeline.market.window import to_ms
from kline_pipeline.stages.consistent import consistent_cell
from kline_pipeline.stages.land import SINK_CHECKS, stored_result
from kline_pipeline.stages.stores import Stores


def broken_cells(
    stores: Stores, dataset: Dataset, cells: Sequence[Cell], *, declared: Sequence[Dataset], now_ms: int
) -> list[Cell]:
    """Return those of some partitions that lack or spoil something, or contradict others, in the order given.

    Args:
        stores: of the KLINE_HOME.
        dataset, cells: the partitions.
        declared: all datasets, as `consistent` compares those of the same category.
        now_ms: decides what has closed.

    Raises:
        StorageError: the database or a folder failed.
    """
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        rows = {
            Cell(row.date, row.symbol): row
            for row in coverage.rows(connection, dataset.category, dataset.interval.code)
        }
    closed_ms = now_ms - stores.grace_ms
    return [
        cell
        for cell in cells
        if not _is_done(rows.get(cell), closed_ms=closed_ms)
        or not _is_sound(stores, dataset, cell, rows[cell])
        or is_inconsistent(stores, dataset, cell, declared)
    ]


def distrust_inconsistent(
    stores: Stores, dataset: Dataset, cells: Sequence[Cell], *, declared: Sequence[Dataset], now_ms: int
) -> list[Cell]:
    """Have those of some landed partitions that contradict others read once more whole, and return them.

    Args:
        stores: of the KLINE_HOME.
        dataset, cells: the partitions.
        declared: all datasets.
        now_ms: of the exchange; what it said before no longer counts.
    """
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        rows = coverage.rows(connection, dataset.category, dataset.interval.code)
    keys = {Cell(row.date, row.symbol): row.series_id for row in rows if row.state == "landed"}
    found = [cell for cell in cells if cell in keys and is_inconsistent(stores, dataset, cell, declared)]
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        for cell in found:
            coverage.distrust(connection, keys[cell], cell.date, now_ms=now_ms)
    return found


def is_inconsistent(stores: Stores, dataset: Dataset, cell: Cell, declared: Sequence[Dataset]) -> bool:
    """Return whether `consistent` finds an error; a file that cannot be compared is another matter."""
    try:
        result = consistent_cell(stores, dataset, cell, declared)
    except CorruptFile:
        return False
    return not result.passed and result.severity == "ERROR"


def _is_done(row: Any | None, *, closed_ms: int) -> bool:
    """Return whether the ledger says that nothing is left to do."""
    if row is None or row.generation is None or row.fetch_error is not None or row.missing:
        return False
    if row.ask_again_at is not None and to_ms(row.ask_again_at) <= closed_ms:  # a known gap, as all the rest is well
        return False
    has_closed = to_ms(row.closes_at or row.window_end) <= closed_ms
    return row.state in {"landed", "not_listed"} and bool(row.read_whole or not has_closed)


def _is_sound(stores: Stores, dataset: Dataset, cell: Cell, row: Any) -> bool:
    """Return whether raw batches, working candles and sinks are there, and are what was written."""
    series = dataset.series(cell.symbol)
    try:
        names = stores.raw.names(series, cell.date)
        if str(Generation.of(names, row.prune_epoch)) != row.generation:  # one is lost, or not derived yet
            return False
        if not all(stores.raw.is_sound(series, cell.date, name) for name in names):
            return False
        return all(stored_result(stores, dataset, cell, SINK_CHECKS[sink]).passed for sink in dataset.sinks)
    except CorruptFile:
        return False
