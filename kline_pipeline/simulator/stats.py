"""What was asked and what was answered, for GET /_sim/stats. Requests to /_sim do not count."""

import threading
from collections import Counter
from typing import Any

from kline_pipeline.simulator.wire import Response


class Stats:
    """Counts of market requests; safe to use from many threads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Count anew from zero."""
        with self._lock:
            self._outcomes: dict[str, Counter[str]] = {}
            self._intervals: Counter[str] = Counter()
            self._symbols: Counter[str] = Counter()
            self._candles = 0
            self._first_ms: int | None = None
            self._last_ms: int | None = None

    def count(self, kind: str, symbol: str, interval: str, response: Response, arrived_ms: int) -> None:
        """Count a request that came at `arrived_ms`; `symbol` and `interval` only matter for kind kline."""
        with self._lock:
            self._first_ms = arrived_ms if self._first_ms is None else min(self._first_ms, arrived_ms)
            self._last_ms = arrived_ms if self._last_ms is None else max(self._last_ms, arrived_ms)
            self._outcomes.setdefault(kind, Counter())[response.outcome] += 1
            self._candles += response.candles
            if kind == "kline":
                self._intervals[interval] += 1
                self._symbols[symbol] += 1

    def given_up(self, kind: str, response: Response) -> None:
        """Count an answer anew that was counted and that nobody waited for: its candles were not served."""
        with self._lock:
            self._outcomes[kind][response.outcome] -= 1
            self._outcomes[kind]["given_up"] += 1
            self._candles -= response.candles

    def requests(self, kind: str) -> int:
        """Return how many requests of this kind were answered, whatever the outcome."""
        with self._lock:
            return sum(self._outcomes.get(kind, Counter()).values())

    def snapshot(self) -> dict[str, Any]:
        """Return requests by kind and outcome, kline requests by interval and by symbol.

        The times of the first and the last request, in ms of the server clock, are None before any.
        """
        with self._lock:
            return {
                "market_requests": sum(sum(found.values()) for found in self._outcomes.values()),
                "first_request_ms": self._first_ms,
                "last_request_ms": self._last_ms,
                "requests": {kind: dict(+found) for kind, found in self._outcomes.items()},
                "requests_by_interval": dict(self._intervals),
                "requests_by_symbol": dict(self._symbols),
                "candles_served": self._candles,
            }
