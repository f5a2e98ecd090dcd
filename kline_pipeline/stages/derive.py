"""Deriving and judging one partition, and keeping the verdict; nothing here asks the exchange or writes to a sink.

Under the lock of the series the generation is compared with the ledger's: a lower one steps back, and the verdict that
stands is returned.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from kline_pipeline.candles.derive import Derivation, Generation, derive
from kline_pipeline.checks.verdict import Judgement, Verdict, judge, verdict_of
from kline_pipeline.database.locks import series_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import CorruptFile
from kline_pipeline.evidence import coverage, listings, revisions
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import BatchName
from kline_pipeline.sinks.landing import ToLand
from kline_pipeline.stages.stores import Stores

_DAY_MS: Final = 86_400_000


def derive_cell(stores: Stores, dataset: Dataset, cell: Cell, *, now_ms: int) -> Verdict:
    """Derive, judge and keep one partition; return the verdict that stands.

    Args:
        stores: of the KLINE_HOME.
        dataset, cell: the partition.
        now_ms: what had closed where no raw batch says so.

    Raises:
        CorruptFile: a raw batch is not what was written.
        StorageError: the database or a folder failed.
    """
    series = dataset.series(cell.symbol)
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        series_lock(connection, series)
        names = stores.raw.names(series, cell.date)
        key = series_id(connection, series)
        known = coverage.row(connection, key, cell.date)
        generation = Generation.of(names)
        if known is not None and known.generation and Generation.parse(known.generation) > generation:
            return read_cell(stores, dataset, cell)[0]
        listing = listings.read(connection, dataset.category, cell.symbol)
        window = dataset.window(cell.date)
        parts = listing.windows(dataset.interval, window) if listing else [window]
        derivation = derivation_of(stores, dataset, cell, names, now_ms=now_ms)
        judgement = judge_cell(dataset, cell, derivation, parts, known.fetch_error if known else None)
        verdict = verdict_of(judgement, derivation, window=window, generation=str(generation), listed=bool(parts))
        stores.working.write(series, cell.date, judgement.landing, verdict)
        revisions.record(connection, key, derivation.revisions)
        coverage.record(connection, key, cell.date, _ledger(verdict), known)
        if dataset.interval.typical_ms < _DAY_MS:
            coverage.record_days(connection, key, window, judgement.expected_ms, judgement.present_ms)
    return verdict


def derivation_of(
    stores: Stores, dataset: Dataset, cell: Cell, names: Sequence[BatchName], *, now_ms: int
) -> Derivation:
    """Return what the named raw batches of a partition say.

    Raises:
        CorruptFile: one is gone, or not what was written.
    """
    batches = [stores.raw.read(dataset.series(cell.symbol), cell.date, name) for name in names]
    return derive(batches, dataset.window(cell.date), dataset.interval, grace_ms=stores.grace_ms, now_ms=now_ms)


def judge_cell(
    dataset: Dataset, cell: Cell, derivation: Derivation, parts: Sequence[Window], fetch_error: str | None
) -> Judgement:
    """Return what the rules say of a derivation; `parts` are those of the window in which the series is listed."""
    return judge(
        derivation,
        window=dataset.window(cell.date),
        listed=parts,
        interval=dataset.interval,
        category=dataset.category,
        fetch_error=fetch_error,
        repair=f"kline-pipeline backfill {dataset.series(cell.symbol)} --from {cell.date} --to {cell.date}",
    )


def read_cell(stores: Stores, dataset: Dataset, cell: Cell) -> tuple[Verdict, ToLand]:
    """Return the verdict that stands on a partition, and what may land of it.

    Raises:
        CorruptFile: it was never derived, or its file is not what was written.
    """
    series = dataset.series(cell.symbol)
    working = stores.working.read(series, cell.date)
    if working is None:
        raise CorruptFile(f"{series} {cell.date} has no working candles; backfill or rebuild it")
    verdict = msgspec.json.decode(working.verdict, type=Verdict)
    return verdict, ToLand(
        series=series,
        date=cell.date,
        window=verdict.window,
        candles=working.candles,
        sha256=verdict.sha256,
        generation=Generation.parse(verdict.generation),
        sinks=dataset.sinks,
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
    )
