"""Candles from raw batches: which row counts for each open time, and what differs; rules are in checks/.

Per open time the page with the newest server time that covers it decides, then the batch id, then the page's position.
Rows of older pages matter only as revisions. A closed candle that an older page has and the deciding one lacks is kept
and recorded as vanished. Rows that had not closed when they were served are dropped and counted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.market.interval import Interval
from kline_pipeline.market.schema import NUMBER_COLUMNS, canonical_candles, empty_candles
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import BatchName, RawBatch

_NONE: Final = -1


class Generation(msgspec.Struct, frozen=True, order=True):
    """Which answers of the exchange a derivation knew; a lower one steps back.

    Attributes:
        server_time_ms: newest server time of the batches, 0 when there are none.
        batches: how many batches.
        digest: of their ids, to tell equal from merely as new.
    """

    server_time_ms: int
    batches: int
    digest: str

    @classmethod
    def of(cls, names: Sequence[BatchName]) -> Self:
        """Return the generation of the batches of a partition."""
        newest_ms = max((name.server_time_ms for name in names), default=0)
        return cls(newest_ms, len(names), digest_of(sorted(name.id for name in names)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the generation of its text."""
        server_time_ms, batches, digest = text.split("/")
        return cls(int(server_time_ms), int(batches), digest)

    def __str__(self) -> str:
        return f"{self.server_time_ms}/{self.batches}/{self.digest}"


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
    """

    candles: pa.Table
    expected_end_ms: int
    contradictions: pa.Table
    off_grid_ms: NDArray[np.int64]
    dropped: int
    duplicates: int
    revisions: tuple[Revision, ...]


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
    rows = _Rows.of(batches, window, interval)
    current = rows.closed & (rows.page == rows.deciding[rows.slot])
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
    )


@dataclass(slots=True)
class _Rows:
    """Every row of every batch in one table, with the page it came from and the slot of the grid it falls in."""

    table: pa.Table
    times: NDArray[np.int64]
    page: NDArray[np.int64]
    slot: NDArray[np.int64]
    closed: NDArray[np.bool_]
    slots: NDArray[np.int64]
    deciding: NDArray[np.int64]
    batch_of_page: list[str]
    ends: NDArray[np.int64]
    server_times: NDArray[np.int64]

    @classmethod
    def of(cls, batches: Sequence[RawBatch], window: Window, interval: Interval) -> Self:
        pages = sorted(
            (record.server_time_ms, batch.name.id, position, number, record)
            for number, batch in enumerate(batches)
            for position, record in enumerate(batch.pages)
        )
        rank = {(number, position): place for place, (_, _, position, number, _) in enumerate(pages)}
        slots = interval.grid(window.start_ms, window.end_ms)
        deciding = np.full(len(slots), _NONE, dtype=np.int64)
        for place, (*_, record) in enumerate(pages):
            low, high = np.searchsorted(slots, [record.covered_start_ms, record.covered_end_ms])
            deciding[low:high] = place
        tables = [canonical_candles(batch.rows) for batch in batches]
        table = pa.concat_tables(tables) if tables else empty_candles()
        times = table["open_time_ms"].to_numpy()
        page = np.concatenate(
            [
                np.array([rank[number, position] for position in range(len(batch.pages))])[
                    batch.rows["page"].to_numpy()
                ]
                for number, batch in enumerate(batches)
            ]
            or [np.zeros(0, dtype=np.int64)]
        )
        starts = np.array([record.covered_start_ms for *_, record in pages], dtype=np.int64)
        ends = np.array([record.covered_end_ms for *_, record in pages], dtype=np.int64)
        closed = (times >= starts[page]) & (times < ends[page]) if len(times) else np.zeros(0, dtype=bool)
        slot = np.searchsorted(slots, interval.floors(times))
        return cls(
            table, times, page, np.minimum(slot, max(len(slots) - 1, 0)), closed, slots, deciding,
            [batch_id for _, batch_id, *_ in pages], ends,
            np.array([server_time_ms for server_time_ms, *_ in pages], dtype=np.int64),
        )  # fmt: skip

    def first_of_slot(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.full(len(self.slots), _NONE, dtype=np.int64)
        found[self.slot[rows]] = rows
        return found

    def equal(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        a, b = self.table.take(pa.array(left)), self.table.take(pa.array(right))
        same = np.ones(len(left), dtype=bool)
        for name in NUMBER_COLUMNS:
            same &= pc.equal(a[name], b[name]).to_numpy(zero_copy_only=False).astype(bool)
        return same

    def numbers(self, row: int) -> dict[str, str]:
        return {name: self.table[name][row].as_py() for name in NUMBER_COLUMNS}


def _split(order: NDArray[np.int64], rows: _Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each open time, and the rows that come again, both in order."""
    times = rows.times[order]
    first = np.concatenate(([True], times[1:] != times[:-1])) if len(order) else np.zeros(0, dtype=bool)
    return order[first], order[~first]


def _revise(rows: _Rows, kept: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[Revision, ...]]:
    """Return the rows that vanished from newer pages (the newest each), and all revisions in order of time."""
    old = rows.closed & (rows.page != rows.deciding[rows.slot]) & (rows.times == rows.slots[rows.slot])
    stale = np.flatnonzero(old)
    if not len(stale):
        return stale, ()
    stale = stale[np.lexsort((rows.page[stale], rows.times[stale]))]
    now = rows.first_of_slot(kept)[rows.slot[stale]]
    changed = np.zeros(len(stale), dtype=bool)
    present = now != _NONE
    changed[present] = ~rows.equal(stale[present], now[present])
    gone = stale[~present]
    last = np.concatenate((rows.times[gone][1:] != rows.times[gone][:-1], [True])) if len(gone) else gone.astype(bool)
    revisions = [_revision(rows, int(row), None) for row in gone[last]]
    revisions += [_revision(rows, int(row), int(new)) for row, new in zip(stale[changed], now[changed], strict=True)]
    return gone[last], tuple(sorted(revisions, key=lambda found: (found.open_time_ms, found.old_batch)))


def _revision(rows: _Rows, old: int, new: int | None) -> Revision:
    deciding = int(rows.deciding[rows.slot[old]])
    return Revision(
        open_time_ms=int(rows.times[old]),
        kind="vanished" if new is None else "changed",
        old=rows.numbers(old),
        new=None if new is None else rows.numbers(new),
        old_batch=rows.batch_of_page[int(rows.page[old])],
        new_batch=rows.batch_of_page[deciding],
    )


def _expected_end(rows: _Rows, window: Window, interval: Interval, grace_ms: int, now_ms: int) -> int:
    """Return the end of what had closed for the page that reaches furthest; later pages of earlier windows say less.

    What closed beyond that page's window while it was asked is the next fetch's business, unless all of it has closed.
    """
    if not len(rows.ends):
        return max(window.start_ms, min(window.end_ms, interval.closed_end(now_ms, grace_ms)))
    reached_ms = int(rows.ends.max())
    server_time_ms = int(rows.server_times[rows.ends == reached_ms].max())
    has_closed = interval.closed_end(server_time_ms, grace_ms) >= window.end_ms
    return window.end_ms if has_closed else max(window.start_ms, reached_ms)


def digest_of(ids: Sequence[str]) -> str:
    """Return a short digest of the ids of batches, in the order given."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
