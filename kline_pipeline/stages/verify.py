"""Every check again on what is stored of one partition: raw batches, candles, ledger and sinks against each other.

Nothing is written, and nobody is asked. A dataset as a whole (`fresh`, `revisions`) is not looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import CorruptFile
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.partitions import known_of
from kline_pipeline.evidence.series_ids import find_series_id
from kline_pipeline.market.window import Window, iso, merge, to_ms
from kline_pipeline.sinks import candles_postgres
from kline_pipeline.stages.consistent import consistent_cell
from kline_pipeline.stages.derive import read_cell
from kline_pipeline.stages.land import SINK_CHECKS, stored_result
from kline_pipeline.stages.look import look
from kline_pipeline.stages.stores import Stores


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in one partition, a sentence each.

    Attributes:
        disagreements: errors of a check, and what does not agree with each other; empty means that all is right.
        warnings: of a check; they do not make the partition wrong.
    """

    disagreements: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def verify_cell(stores: Stores, dataset: Dataset, cell: Cell, *, declared: Sequence[Dataset], now_ms: int) -> Verified:
    """Return what disagrees in one partition.

    Args:
        stores: of the KLINE_HOME.
        dataset, cell: the partition.
        declared: all datasets, as `consistent` compares those of the same category.
        now_ms: what had closed where no raw batch says so.

    Raises:
        StorageError: the database or a folder failed.
    """
    try:
        anew = _derived_again(stores, dataset, cell, now_ms)
    except CorruptFile as exc:
        return Verified((str(exc),))
    warnings = tuple(one.sentence for one in anew.results.values() if not one.passed and one.severity == "WARN")
    try:
        stands, partition = read_cell(stores, dataset, cell)
        partition.prove()
    except CorruptFile as exc:
        return Verified((*anew.reasons, str(exc)), warnings)
    found = list(anew.reasons)
    if stands.sha256 != anew.sha256:
        found.append(f"the candles ({stands.rows}) are not those of the raw batches ({anew.rows}); run repair")
    found += _ledger(stores, dataset, cell, stands)
    if not stands.quarantined:
        found += _sinks(stores, dataset, cell)
    try:
        beside = consistent_cell(stores, dataset, cell, declared)
    except CorruptFile as exc:  # of a neighbour, as the file of the partition itself was read
        return Verified((*found, f"consistent: {exc}"), warnings)
    if beside.passed:
        return Verified(tuple(found), warnings)
    if beside.severity == "WARN":
        return Verified(tuple(found), (*warnings, beside.sentence))
    return Verified((*found, beside.sentence), warnings)


def verify_rest(stores: Stores, dataset: Dataset, symbol: str) -> tuple[str, ...]:
    """Return what the table holds of a series outside of every partition that was derived, in a sentence; mostly none.

    Raises:
        DatabaseUnavailable: the server went away.
    """
    if "postgres" not in dataset.sinks:
        return ()
    series = dataset.series(symbol)
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        rows = coverage.rows(connection, dataset.category, dataset.interval.code, symbol)
    windows = merge(Window(to_ms(row.window_start), to_ms(row.window_end)) for row in rows if row.generation)
    count, first_ms = candles_postgres.strays(stores.database, series, windows)
    if not count:
        return ()
    first = "none at a time that is one" if first_ms is None else f"the first at {iso(first_ms)}"
    told = f"{count} rows outside of every partition that was derived, {first}"
    return (f"kline.candles holds {told}; backfill {series} there, or delete them",)


def _derived_again(stores: Stores, dataset: Dataset, cell: Cell, now_ms: int) -> Verdict:
    series = dataset.series(cell.symbol)
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        partition_lock(connection, series, cell.date)
        names, known = stores.raw.names(series, cell.date), known_of(connection, dataset, cell)
        return look(stores, dataset, cell, known, names, now_ms=now_ms).verdict


def _ledger(stores: Stores, dataset: Dataset, cell: Cell, stands: Verdict) -> Iterator[str]:
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        key = find_series_id(connection, dataset.series(cell.symbol))
        row = coverage.row(connection, key, cell.date) if key is not None else None
    if row is None:
        yield "the ledger does not know it; run rebuild"
        return
    if row.sha256 != stands.sha256:
        yield "the ledger has another checksum than the candles; run rebuild"
    if (row.expected, row.present, row.missing) != (stands.expected, stands.present, stands.missing):
        yield "the ledger counts other candles than there are; run rebuild"
    if row.state == "pending":
        yield "derived and not landed; run backfill"


def _sinks(stores: Stores, dataset: Dataset, cell: Cell) -> Iterator[str]:
    for sink in dataset.sinks:
        result = stored_result(stores, dataset, cell, SINK_CHECKS[sink])
        if not result.passed:
            yield f"{result.sentence}; run rebuild"
