"""Bybit's limit per IP: so many requests in any 5 s, 403 beyond. Counts; does not answer."""

import threading
from collections import deque

WINDOW_MS = 5_000


class RequestLimit:
    """A sliding window over the server clock; refused requests count too, as traffic does."""

    def __init__(self, requests_per_5s: int) -> None:
        """Allow `requests_per_5s` requests in any 5 s."""
        self._allowed = requests_per_5s
        self._times: deque[int] = deque()
        self._lock = threading.Lock()
        self.max_in_5s = 0

    def admit(self, now_ms: int) -> bool:
        """Count a request at `now_ms` and say whether it is within the limit."""
        with self._lock:
            self._times.append(now_ms)
            while self._times[0] <= now_ms - WINDOW_MS:
                self._times.popleft()
            self.max_in_5s = max(self.max_in_5s, len(self._times))
            return len(self._times) <= self._allowed
