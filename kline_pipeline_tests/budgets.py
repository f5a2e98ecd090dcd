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


def arrivals_around_a_stall(budget: Budget, hand: Hand, stall_ms: int) -> list[int]:
    """Return when requests arrive, ascending, that are sent for 5 s, into a stall of the network, and 6 s beyond it.

    What is sent during the stall arrives at its end, all at once; nobody holds back but the budget.
    """
    begins_ms = hand() + 5000
    ends_ms = begins_ms + stall_ms
    first_ms: list[int] = []
    arrived = []

    def lag_s() -> float:
        return (hand() - first_ms[0]) / 1000 if first_ms and hand() < ends_ms else 0.0

    while hand() < ends_ms + 6000:
        budget.acquire(600, lag_s)
        sent_ms = hand()
        stalled = begins_ms <= sent_ms < ends_ms
        if stalled and not first_ms:
            first_ms.append(sent_ms)
        arrived.append(ends_ms if stalled else sent_ms)
    return sorted(arrived)
