"""Taking raw batches away: those that newer ones make superfluous, and those that are spoilt.

First the prune epoch of the partition is raised and committed, then files go, all under its lock: whoever derives
afterwards has a higher generation than anybody before, at whatever instant this is killed.
"""

import logging

from kline_pipeline.database.locks import partition_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.stages.look import Looked
from kline_pipeline.stages.stores import Stores

logger = logging.getLogger(__name__)


def prune_cell(stores: Stores, dataset: Dataset, cell: Cell, looked: Looked) -> bool:
    """Delete the batches of a finished partition that nothing depends on, and return whether there were any.

    Args:
        stores: of the KLINE_HOME.
        dataset, cell: the partition.
        looked: what was kept of it: what its batches tell differently is in the table of revisions.

    Raises:
        StorageError: the database or the folder failed; the rest goes next time.
    """
    series = dataset.series(cell.symbol)
    superfluous = [name for name in looked.names if name.id not in looked.derivation.needed]
    if not superfluous or not looked.verdict.finished:
        return False
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        partition_lock(connection, series, cell.date)
        if stores.raw.names(series, cell.date) != looked.names:
            return False  # a newer answer came meanwhile; whoever derives it prunes
        _raise_epoch(stores, dataset, cell)
        for name in superfluous:
            stores.raw.delete(series, cell.date, name)
    fields = {"series": series, "date": cell.date, "window": dataset.window(cell.date), "batches": len(superfluous)}
    logger.debug("superfluous raw batches deleted", extra=fields)
    return True


def set_spoilt_aside(stores: Stores, dataset: Dataset, cell: Cell) -> None:
    """Move raw batches that are not what was written to corrupt/ beside raw/, with a warning each.

    Raises:
        CorruptFile: a file of another name lies among the batches.
        StorageError: the database or the folder failed.
    """
    series = dataset.series(cell.symbol)
    if all(stores.raw.is_sound(series, cell.date, name) for name in stores.raw.names(series, cell.date)):
        return
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        partition_lock(connection, series, cell.date)
        names = stores.raw.names(series, cell.date)
        spoilt = [name for name in names if not stores.raw.is_sound(series, cell.date, name)]
        if spoilt:
            _raise_epoch(stores, dataset, cell)
        for name in spoilt:
            where = stores.raw.set_aside(series, cell.date, name)
            fields = {"series": series, "date": cell.date, "window": dataset.window(cell.date), "location": where}
            logger.warning("raw batch %s is not what was written; it is set aside", name, extra=fields)


def _raise_epoch(stores: Stores, dataset: Dataset, cell: Cell) -> None:
    """Commit a higher epoch through a connection of its own; the caller holds the lock."""
    with stores.database.engine.begin() as connection:
        coverage.raise_prune_epoch(connection, series_id(connection, dataset.series(cell.symbol)), cell.date)
