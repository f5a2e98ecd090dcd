"""Bybit's limit per IP: so many requests in any 5 s, 403 beyond. Counts; does not answer."""

import threading
from collections import deque

WINDOW_MS = 5_000
SECOND_MS = 1_000


class RequestLimit:
    """A sliding window over the server clock; refused requests count too, as traffic does.

    Attributes:
        max_in_5s: most requests in any 5 s since the beginning or the last `forget_peaks`.
        max_in_1s: the same of any second.
    """

    def __init__(self, requests_per_5s: int) -> None:
        """Allow `requests_per_5s` requests in any 5 s."""
        self._allowed = requests_per_5s
        self._admitted: deque[int] = deque()
        self._lock = threading.Lock()
        self.forget_peaks()

    def forget_peaks(self) -> None:
        """Count the busiest spans anew; what the limit has seen stays seen."""
        with self._lock:
            self.max_in_5s = self.max_in_1s = 0
            self._of_5s: deque[int] = deque()
            self._of_1s: deque[int] = deque()

    def admit(self, now_ms: int) -> bool:
        """Count a request at `now_ms` and say whether it is within the limit."""
        with self._lock:
            self.max_in_5s = max(self.max_in_5s, _slid(self._of_5s, now_ms, WINDOW_MS))
            self.max_in_1s = max(self.max_in_1s, _slid(self._of_1s, now_ms, SECOND_MS))
            return _slid(self._admitted, now_ms, WINDOW_MS) <= self._allowed


def _slid(times: deque[int], now_ms: int, width_ms: int) -> int:
    times.append(now_ms)
    while times[0] <= now_ms - width_ms:
        times.popleft()
    return len(times)
