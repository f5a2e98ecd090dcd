"""Deriving and judging one partition, and keeping the verdict; nothing here asks the exchange or writes to a sink.

Under the lock of the partition the generation is compared with the ledger's: a lower one steps back, and the verdict
that stands is returned.
"""

import logging
from typing import Final

import msgspec
import pyarrow as pa

from kline_pipeline.candles.derive import Generation
from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import CorruptFile
from kline_pipeline.evidence import coverage, known_gaps, revisions
from kline_pipeline.evidence.partitions import known_of
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.log.about import about, elapsed_ms, now_ns
from kline_pipeline.sinks.landing import ToLand
from kline_pipeline.stages.look import Looked, look
from kline_pipeline.stages.prune import prune_cell
from kline_pipeline.stages.stores import Stores

logger: Final = logging.getLogger(__name__)
_DAY_MS: Final = 86_400_000


def derive_partition(stores: Stores, dataset: Dataset, cell: Cell, *, now_ms: int) -> tuple[Verdict, ToLand]:
    """Derive, judge and keep one partition; return the verdict that stands, and what may land of it.

    Batches of a finished one that newer ones make superfluous are pruned, and it is derived again from the rest.

    Args:
        stores: of the KLINE_HOME.
        dataset, cell: the partition.
        now_ms: what had closed where no raw batch says so.

    Raises:
        CorruptFile: a raw batch is not what was written.
        StorageError: the database or a folder failed.
    """
    began_ns = now_ns()
    with about(series=dataset.series(cell.symbol), date=cell.date, window=dataset.window(cell.date)):
        verdict, partition, looked = _derive(stores, dataset, cell, now_ms=now_ms)
        if looked is not None:
            stores.count(*verdict.results.values())
        if looked is not None and prune_cell(stores, dataset, cell, looked):
            again, partition, _ = _derive(stores, dataset, cell, now_ms=now_ms)
            verdict = msgspec.structs.replace(again, revisions=verdict.revisions)
        _tell(verdict, began_ns)
    return verdict, partition


def _tell(verdict: Verdict, began_ns: int) -> None:
    level = logging.WARNING if verdict.quarantined else logging.INFO
    fields: dict[str, object] = {
        "elapsed_ms": elapsed_ms(began_ns),
        "rows": verdict.rows,
        "missing": verdict.missing,
        "revisions": verdict.revisions,
    }
    if verdict.quarantined:
        fields["reasons"] = verdict.reasons
    logger.log(level, "partition quarantined" if verdict.quarantined else "partition derived", extra=fields)


def _derive(stores: Stores, dataset: Dataset, cell: Cell, *, now_ms: int) -> tuple[Verdict, ToLand, Looked | None]:
    """Return the verdict that stands, what may land, and what was looked at, None when newer answers are known."""
    series = dataset.series(cell.symbol)
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        partition_lock(connection, series, cell.date)
        key = series_id(connection, series)
        names, known = stores.raw.names(series, cell.date), known_of(connection, dataset, cell)
        stands = known.row.generation if known.row is not None else None
        if stands and Generation.parse(stands) > Generation.of(names, known.prune_epoch):
            return *read_cell(stores, dataset, cell), None
        looked = look(stores, dataset, cell, known, names, now_ms=now_ms)
        judgement = looked.judgement
        stores.working.write(series, cell.date, judgement.landing, looked.verdict)
        revisions.record(connection, key, looked.derivation.revisions)
        known_gaps.close(connection, key, known.let_in.gaps_among(judgement.present_ms), now_ms=now_ms)
        coverage.record(connection, key, cell.date, _ledger(looked.verdict), known.row)
        if dataset.interval.typical_ms < _DAY_MS:
            window = dataset.window(cell.date)
            coverage.record_days(connection, key, window, judgement.expected_ms, judgement.present_ms)
    return looked.verdict, _to_land(dataset, cell, looked.verdict, judgement.landing, proved=True), looked


def read_cell(stores: Stores, dataset: Dataset, cell: Cell) -> tuple[Verdict, ToLand]:
    """Return the verdict that stands on a partition, and what may land of it, still to be proved to be what was judged.

    Raises:
        CorruptFile: it was never derived, or its file is not what was written.
    """
    series = dataset.series(cell.symbol)
    working = stores.working.read(series, cell.date)
    if working is None:
        raise CorruptFile(f"{series} {cell.date} has no working candles; backfill or rebuild it")
    verdict = msgspec.json.decode(working.verdict, type=Verdict)
    return verdict, _to_land(dataset, cell, verdict, working.candles, proved=False)


def read_verdict(stores: Stores, dataset: Dataset, cell: Cell) -> Verdict:
    """Return the verdict that stands on a partition; its candles are not read.

    Raises:
        CorruptFile: it was never derived, or the foot of its file is not what was written.
    """
    series = dataset.series(cell.symbol)
    verdict = stores.working.verdict(series, cell.date)
    if verdict is None:
        raise CorruptFile(f"{series} {cell.date} has no working candles; backfill or rebuild it")
    return msgspec.json.decode(verdict, type=Verdict)


def _to_land(dataset: Dataset, cell: Cell, verdict: Verdict, candles: pa.Table, *, proved: bool) -> ToLand:
    return ToLand(
        series=dataset.series(cell.symbol),
        date=cell.date,
        window=verdict.window,
        candles=candles,
        sha256=verdict.sha256,
        generation=Generation.parse(verdict.generation),
        sinks=dataset.sinks,
        proved=proved,
    )


def _ledger(verdict: Verdict) -> coverage.Derived:
    state = "not_listed" if verdict.not_listed else "quarantined" if verdict.quarantined else "pending"
    return coverage.Derived(
        state=state,
        window=verdict.window,
        expected=verdict.expected,
        present=verdict.present,
        missing=verdict.missing,
        first_ms=verdict.first_ms,
        last_ms=verdict.last_ms,
        sha256=verdict.sha256,
        generation=verdict.generation,
        reasons=verdict.reasons,
        known_missing=verdict.known_missing,
        read_whole=verdict.read_whole,
        closes_ms=verdict.closes_ms,
        ask_again_ms=verdict.ask_again_ms,
    )
