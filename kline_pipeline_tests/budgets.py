"""What tests of the request budget share: a clock that only sleeping moves, and counting grants."""

import threading
from bisect import bisect_left
from collections.abc import Sequence

from kline_pipeline.bybit.ratelimit import Budget

NOON_MS = 1_712_750_400_000 + 2_096_000  # far from the start of an hour
NEXT_HOUR_MS = 1_712_754_000_000


class Hand:
    """A clock that only sleeping moves; threads may share it."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms
        self._lock = threading.Lock()

    def __call__(self) -> int:
        return self.now_ms

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now_ms += max(1, round(seconds * 1000))


def most_in(times_ms: Sequence[int], span_ms: int) -> int:
    """Return the most of the ascending times in any half-open span."""
    return max((bisect_left(times_ms, start + span_ms) - at for at, start in enumerate(times_ms)), default=0)


def grants_until(budget: Budget, hand: Hand, end_ms: int) -> list[int]:
    """Take grants one after the other and return their times before `end_ms`."""
    times = []
    while hand() < end_ms:
        budget.acquire(600)
        times.append(hand())
    return [when for when in times if when < end_ms]
