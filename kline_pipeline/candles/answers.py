"""Which answers of the exchange cover each open time of a partition, and how often and when it was asked.

What the answers hold is in rows.py; which of them counts is decided here by their order alone: the newest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window, windows_of
from kline_pipeline.raw_batches.store import PageRecord

NONE: Final = -1
_LONGEST_WAIT_MS: Final = 86_400_000


class Answer(NamedTuple):
    """One page: the id of its batch, the exchange's clock in it (ms, UTC), and the host."""

    batch: str
    server_time_ms: int
    host: str


@dataclass(frozen=True, slots=True)
class Answers:
    """The pages of a partition over its grid.

    Attributes:
        interval: of the grid.
        slots_ms: every open time of the partition, ascending.
        pages: ascending by server time, then batch, then position: a later one counts more.
        first, newest: per slot the oldest and the newest page that covers it, as places in `pages`; NONE where none.
        newest_ms: per slot the server time of the newest, 0 where none.
    """

    interval: Interval
    slots_ms: NDArray[np.int64]
    pages: tuple[Answer, ...]
    first: NDArray[np.int64]
    newest: NDArray[np.int64]
    newest_ms: NDArray[np.int64]

    @classmethod
    def of(cls, pages: Sequence[tuple[str, PageRecord]], window: Window, interval: Interval) -> Self:
        """Return the answers of pages, given with the ids of their batches in the order in which they count."""
        slots = interval.grid(window.start_ms, window.end_ms)
        first, newest = (np.full(len(slots), NONE, dtype=np.int64) for _ in range(2))
        spans = [np.searchsorted(slots, [record.covered_start_ms, record.covered_end_ms]) for _, record in pages]
        for place, (low, high) in enumerate(spans):
            newest[low:high] = place
            first[low:high][first[low:high] == NONE] = place
        known = tuple(Answer(batch, record.server_time_ms, record.host) for batch, record in pages)
        times = np.array([*(page.server_time_ms for page in known), 0], dtype=np.int64)  # the last one is for NONE
        return cls(interval, slots, known, first, newest, times[newest])

    def held(self, since_ms: int) -> list[Window]:
        """Return what was answered at or after `since_ms` by the exchange's clock, disjoint and ascending."""
        return windows_of(self.slots_ms[(self.newest != NONE) & (self.newest_ms >= since_ms)], self.interval)

    def cover(self, parts: Sequence[Window], since_ms: int) -> bool:
        """Return whether every open time in `parts` was answered at or after `since_ms`."""
        inside = np.zeros(len(self.slots_ms), dtype=bool)
        for part in parts:
            inside |= (self.slots_ms >= part.start_ms) & (self.slots_ms < part.end_ms)
        return bool(np.all((self.newest_ms >= since_ms) & (self.newest != NONE), where=inside))

    def asked(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some open times on the grid that some page covers, in the order given."""
        asked: NDArray[np.int64] = times_ms[self.newest[np.searchsorted(self.slots_ms, times_ms)] != NONE]
        return asked

    def ripe(self, times_ms: NDArray[np.int64], apart_ms: int) -> NDArray[np.int64]:
        """Return those of some open times that two pages at least `apart_ms` apart cover, in the order given."""
        asked = self.asked(times_ms)
        first, newest = self._ends(asked)
        at = np.searchsorted(self.slots_ms, asked)
        ripe: NDArray[np.int64] = asked[(newest - first >= apart_ms) & (self.first[at] != self.newest[at])]
        return ripe

    def of_time(self, time_ms: int) -> tuple[Answer, Answer]:
        """Return the first and the newest answer about an open time that was asked for."""
        slot = int(np.searchsorted(self.slots_ms, time_ms))
        return self.pages[self.first[slot]], self.pages[self.newest[slot]]

    def ask_again_ms(self, times_ms: NDArray[np.int64], wait_ms: int) -> int | None:
        """Return when the first of some open times is to be asked for again, None when none was ever asked for.

        The wait grows with the time that has passed since the first answer, from `wait_ms` to a day.
        """
        asked = self.asked(times_ms)
        if not len(asked):
            return None
        first, newest = self._ends(asked)
        return int((newest + np.maximum(wait_ms, np.minimum(newest - first, _LONGEST_WAIT_MS))).min())

    def _ends(self, asked_ms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at = np.searchsorted(self.slots_ms, asked_ms)
        times = np.array([page.server_time_ms for page in self.pages], dtype=np.int64)
        return times[self.first[at]], times[self.newest[at]]
