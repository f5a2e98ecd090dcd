"""Looking at one partition: its raw batches derived, and judged with all that is known of it; nothing is written.

Whoever looks holds the lock of the partition: without it batches may be pruned meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.candles.derive import Derivation, Generation, derive
from kline_pipeline.checks.verdict import Judgement, Verdict, judge, verdict_of
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence.partitions import Known
from kline_pipeline.market.window import Window, absent_of, to_ms
from kline_pipeline.raw_batches.store import BatchName
from kline_pipeline.stages.stores import Stores

_KNOWN_WAIT_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Looked:
    """One partition as its raw batches and the database tell it."""

    names: list[BatchName]
    known: Known
    generation: Generation
    derivation: Derivation
    judgement: Judgement
    verdict: Verdict


def look(stores: Stores, dataset: Dataset, cell: Cell, known: Known, names: list[BatchName], *, now_ms: int) -> Looked:
    """Return a partition derived from some raw batches and judged.

    Raises:
        CorruptFile: a batch is gone, or not what was written.
        StorageError: the folder failed.
    """
    window, generation = dataset.window(cell.date), Generation.of(names, known.prune_epoch)
    if known.row is not None and known.row.filled_at is not None and not _had_batches(known.row.generation):
        now_ms = to_ms(known.row.filled_at)  # by the exchange's clock, from which ours may differ
    derivation = derivation_of(stores, dataset, cell, names, now_ms=now_ms)
    fetch_error = known.row.fetch_error if known.row is not None else None
    judgement = judge(
        derivation,
        window=window,
        listed=known.parts,
        interval=dataset.interval,
        category=dataset.category,
        fetch_error=fetch_error,
        repair=stores.command("repair", dataset, cell),
        let_in=known.let_in,
    )
    verdict = verdict_of(
        judgement,
        derivation,
        window=window,
        generation=str(generation),
        listed=bool(known.parts),
        closes_ms=known.closes_ms,
        read_whole=_read_whole(stores, known, derivation, window),
        ask_again_ms=_ask_again(stores, known, derivation, judgement),
    )
    return Looked(names, known, generation, derivation, judgement, verdict)


def derivation_of(
    stores: Stores, dataset: Dataset, cell: Cell, names: Sequence[BatchName], *, now_ms: int
) -> Derivation:
    """Return what the named raw batches of a partition say.

    Raises:
        CorruptFile: one is gone, or not what was written.
    """
    batches = [stores.raw.read(dataset.series(cell.symbol), cell.date, name) for name in names]
    return derive(batches, dataset.window(cell.date), dataset.interval, grace_ms=stores.grace_ms, now_ms=now_ms)


def _had_batches(generation: str | None) -> bool:
    """Return whether raw batches were known once: where they are lost, nothing says any more what had closed."""
    return generation is not None and Generation.parse(generation).batches > 0


def known_gaps_in(known: Known, judgement: Judgement) -> NDArray[np.int64]:
    """Return the open times of the known gaps that are still missing, ascending; what a person accepted is no gap."""
    absent = absent_of(judgement.expected_ms, judgement.present_ms)
    gaps = np.array([gap.open_time_ms for gap in known.let_in.gaps if gap.confirmed_ms is not None], dtype=np.int64)
    return np.intersect1d(absent, gaps) if len(absent) else absent


def _read_whole(stores: Stores, known: Known, derivation: Derivation, window: Window) -> bool:
    """Return whether all was read after its last candle had closed; of what is not listed, whether that was probed."""
    if not known.parts:
        return known.listing is not None and known.listing.probed_at_ms >= window.end_ms
    return derivation.answers.cover(known.parts, max(known.closes_ms + stores.grace_ms, known.read_after_ms))


def _ask_again(stores: Stores, known: Known, derivation: Derivation, judgement: Judgement) -> int | None:
    if not judgement.reasons:
        # A known gap may be filled after all.
        return derivation.answers.ask_again_ms(known_gaps_in(known, judgement), _KNOWN_WAIT_MS)
    if known.row is not None and known.row.fetch_error is not None:
        return None if known.row.ask_again_at is None else to_ms(known.row.ask_again_at)
    return derivation.answers.ask_again_ms(judgement.bad_ms, stores.confirm_after_ms)
