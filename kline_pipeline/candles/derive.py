"""Candles from raw batches: which row counts for each open time, and what differs; rules are in checks/.

Per open time the page with the newest server time that covers it decides, then the batch id, then the page's position.
Rows of older pages matter only as revisions. A closed candle that an older page has and the deciding one lacks is kept
and recorded as vanished. Rows that had not closed when they were served are dropped and counted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kline_pipeline.candles.answers import NONE, Answers
from kline_pipeline.candles.rows import Rows
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import BatchName, RawBatch


class Generation(msgspec.Struct, frozen=True, order=True):
    """Which answers of the exchange a derivation knew; a lower one steps back.

    Attributes:
        prune_epoch: how often batches of the partition were taken away; each time it is raised first.
        server_time_ms: newest server time of the batches, 0 when there are none.
        batches: how many batches.
        digest: of their ids, to tell equal from merely as new.
    """

    prune_epoch: int
    server_time_ms: int
    batches: int
    digest: str

    @classmethod
    def of(cls, names: Sequence[BatchName], prune_epoch: int = 0) -> Self:
        """Return the generation of the batches of a partition."""
        newest_ms = max((name.server_time_ms for name in names), default=0)
        return cls(prune_epoch, newest_ms, len(names), digest_of(sorted(name.id for name in names)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the generation of its text; one of three parts is older than pruning."""
        *epoch, server_time_ms, batches, digest = text.split("/")
        return cls(int(epoch[0]) if epoch else 0, int(server_time_ms), int(batches), digest)

    def __str__(self) -> str:
        return f"{self.prune_epoch}/{self.server_time_ms}/{self.batches}/{self.digest}"


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """A closed candle that two raw batches tell differently.

    Attributes:
        open_time_ms: of the candle.
        kind: changed, or vanished when the newer batch lacks it.
        old, new: the six numbers as canonical text; new is None for a vanished one.
        old_batch, new_batch: ids of the batches.
    """

    open_time_ms: int
    kind: str
    old: dict[str, str]
    new: dict[str, str] | None
    old_batch: str
    new_batch: str


@dataclass(frozen=True, slots=True)
class Derivation:
    """What the raw batches of a partition say.

    Attributes:
        candles: CANDLE_SCHEMA, ascending and unique by open time; contradicting rows stand with their first one.
        expected_end_ms: exclusive end of what had closed by the answers, at most the end of the partition.
        contradictions: rows (CANDLE_SCHEMA) that differ from the one in `candles` of the same page, in order.
        off_grid_ms: open times that are not on the grid of the interval, ascending.
        dropped: rows that had not closed when they were served.
        duplicates: exact repetitions that were removed.
        revisions: what older batches tell differently.
        answers: which pages cover each open time.
        needed: ids of the batches that decide about an open time, or alone have a candle; newer ones say all the rest.
    """

    candles: pa.Table
    expected_end_ms: int
    contradictions: pa.Table
    off_grid_ms: NDArray[np.int64]
    dropped: int
    duplicates: int
    revisions: tuple[Revision, ...]
    answers: Answers
    needed: frozenset[str]


def derive(
    batches: Sequence[RawBatch], window: Window, interval: Interval, *, grace_ms: int, now_ms: int
) -> Derivation:
    """Return the candles that the batches of one partition hold.

    Args:
        batches: all of the partition, in any order.
        window: of the partition.
        interval: of the series.
        grace_ms: a candle counts as closed this long after its end.
        now_ms: what had closed where no batch says so.
    """
    rows = Rows.of(batches, window, interval)
    current = rows.closed & rows.decides
    order = np.flatnonzero(current)[np.argsort(rows.times[current], kind="stable")]
    times, slots = rows.times[order], rows.slot[order]
    on_grid = times == rows.slots[slots] if len(order) else np.zeros(0, dtype=bool)
    kept, again = _split(order[on_grid], rows)
    contradicts = again[~rows.equal(again, rows.first_of_slot(kept)[rows.slot[again]])]
    vanished, revisions = _revise(rows, kept)
    everything = np.concatenate([kept, vanished])
    everything = everything[np.argsort(rows.times[everything], kind="stable")]
    return Derivation(
        candles=rows.table.take(pa.array(everything)),
        expected_end_ms=_expected_end(rows, window, interval, grace_ms, now_ms),
        contradictions=rows.table.take(pa.array(contradicts)),
        off_grid_ms=np.unique(times[~on_grid]),
        dropped=int(np.count_nonzero(~rows.closed)),
        duplicates=len(again) - len(contradicts),
        revisions=revisions,
        answers=rows.answers,
        needed=_needed(rows, vanished),
    )


def _split(order: NDArray[np.int64], rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each open time, and the rows that come again, both in order."""
    times = rows.times[order]
    first = np.concatenate(([True], times[1:] != times[:-1])) if len(order) else np.zeros(0, dtype=bool)
    return order[first], order[~first]


def _revise(rows: Rows, kept: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[Revision, ...]]:
    """Return the rows that vanished from newer pages (the newest each), and all revisions in order of time."""
    if not len(rows.slots):
        return np.zeros(0, dtype=np.int64), ()
    old = rows.closed & ~rows.decides & (rows.times == rows.slots[rows.slot])
    stale = np.flatnonzero(old)
    if not len(stale):
        return stale, ()
    stale = stale[np.lexsort((rows.page[stale], rows.times[stale]))]
    now = rows.first_of_slot(kept)[rows.slot[stale]]
    changed = np.zeros(len(stale), dtype=bool)
    present = now != NONE
    changed[present] = ~rows.equal(stale[present], now[present])
    gone = stale[~present]
    last = np.concatenate((rows.times[gone][1:] != rows.times[gone][:-1], [True])) if len(gone) else gone.astype(bool)
    revisions = [_revision(rows, int(row), None) for row in gone[last]]
    revisions += [_revision(rows, int(row), int(new)) for row, new in zip(stale[changed], now[changed], strict=True)]
    return gone[last], tuple(sorted(revisions, key=lambda found: (found.open_time_ms, found.old_batch)))


def _revision(rows: Rows, old: int, new: int | None) -> Revision:
    pages, deciding = rows.answers.pages, int(rows.answers.newest[rows.slot[old]])
    return Revision(
        open_time_ms=int(rows.times[old]),
        kind="vanished" if new is None else "changed",
        old=rows.numbers(old),
        new=None if new is None else rows.numbers(new),
        old_batch=pages[int(rows.page[old])].batch,
        new_batch=pages[deciding].batch,
    )


def _needed(rows: Rows, vanished: NDArray[np.int64]) -> frozenset[str]:
    places = np.union1d(np.unique(rows.answers.newest), rows.page[vanished])
    return frozenset(rows.answers.pages[place].batch for place in places if place != NONE)


def _expected_end(rows: Rows, window: Window, interval: Interval, grace_ms: int, now_ms: int) -> int:
    """Return the end of what had closed for the page that reaches furthest; later pages of earlier windows say less.

    What closed beyond that page's window while it was asked is the next fetch's business, unless all of it has closed.
    """
    if not len(rows.ends):
        return max(window.start_ms, min(window.end_ms, interval.closed_end(now_ms, grace_ms)))
    reached_ms = int(rows.ends.max())
    reaching = np.flatnonzero(rows.ends == reached_ms)
    server_time_ms = max(rows.answers.pages[place].server_time_ms for place in reaching)
    has_closed = interval.closed_end(server_time_ms, grace_ms) >= window.end_ms
    return window.end_ms if has_closed else max(window.start_ms, reached_ms)


def digest_of(ids: Sequence[str]) -> str:
    """Return a short digest of the ids of batches, in the order given."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
