"""How a question reaches the exchange: paid from the shared budget, tried again, counted; and how we give way to it.

What is asked, and what an answer holds, is told in client and messages; when a try is worth it, in retry.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from kline_pipeline.bybit.connection import Connection
from kline_pipeline.bybit.limit_headers import limit_left
from kline_pipeline.bybit.messages import Answer, Envelope, open_envelope
from kline_pipeline.bybit.ratelimit import Budget
from kline_pipeline.bybit.retry import with_retries
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import (
    AuthenticationRefused,
    BadRequest,
    Banned,
    ClockSkew,
    CountryBlocked,
    ExchangeError,
    ExchangeUnavailable,
    MalformedAnswer,
    RateLimited,
    ServerBusy,
    TimedOut,
)
from kline_pipeline.log.about import elapsed_ms, now_ns
from kline_pipeline.metrics import REQUEST_SECONDS, REQUESTS, RETRIES, Tally

logger: Final = logging.getLogger(__name__)
T = TypeVar("T")
_BUDGET_TIMEOUT_S: Final = 300.0
# What metrics call the outcome of a request; the first class that fits.
_OUTCOMES: Final = (
    (TimedOut, "timeout"),
    (ServerBusy, "server_busy"),
    (ExchangeUnavailable, "connection_error"),
    (RateLimited, "rate_limited"),
    (Banned, "banned"),
    (CountryBlocked, "country_blocked"),
    (MalformedAnswer, "malformed"),
    (BadRequest, "bad_request"),
    (AuthenticationRefused, "authentication"),
    (ExchangeError, "unexpected"),
)
_LITTLE_LEFT: Final = 0.2  # of the requests that X-Bapi-Limit allows
_PATHS: Final = {"instruments": "/v5/market/instruments-info", "key": "/v5/user/query-api"}


@dataclass(slots=True)
class _Tries:
    """What the tries of one question know of each other: how many, seconds waited for turns, was the clock set."""

    sent: int = 0
    turns_s: float = 0.0
    clock_set: bool = False


class Asking:
    """Asks one host, for any number of threads.

    Attributes:
        requests: requests sent, by (kind, outcome); the outcome is "ok" or the name of the error.
        server_time_ms_seen: newest server time of any answer, UTC; 0 before the first.
    """

    def __init__(
        self,
        connection: Connection,
        settings: BybitSettings,
        budget: Budget,
        sleep: Callable[[float], None],
        tally: Tally,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            connection: to the host.
            settings: tries, waits, deadline and cool-down.
            budget: pays for every request.
            sleep: how to wait between tries, seconds.
            tally: counts every request.
        """
        self.requests: Counter[tuple[str, str]] = Counter()
        self.server_time_ms_seen = 0
        self._connection = connection
        self._settings = settings
        self._budget = budget
        self._sleep = sleep
        self._tally = tally
        self._lock = threading.Lock()
        self._waiting: dict[object, float] = {}  # when it was sent, by request, the oldest first

    def ask(self, kind: str, params: Mapping[str, str], asked: str, read: Callable[[Answer, Envelope], T]) -> T:
        """Return what `read` makes of a good answer, after as many tries as it takes.

        Args:
            kind: kline, instruments, key or time.
            params: of the query.
            asked: the question in words, for errors and log.
            read: raises an ExchangeError where the answer is not what was asked for.

        Raises:
            ExchangeError: no usable answer after all tries.
        """
        tries = _Tries()
        return with_retries(
            lambda: self._once(kind, params, asked, read, tries),
            self._settings,
            asked=asked,
            sleep=self._sleep,
            uncounted_s=lambda: tries.turns_s,
        )

    def _once(
        self,
        kind: str,
        params: Mapping[str, str],
        asked: str,
        read: Callable[[Answer, Envelope], T],
        tries: "_Tries",
    ) -> T:
        began_s = time.monotonic()
        self._budget.acquire(_BUDGET_TIMEOUT_S, self._lag_s)
        tries.turns_s += time.monotonic() - began_s
        sent_ns = now_ns()
        answer = None
        tries.sent += 1
        if tries.sent > 1:
            self._tally.add(RETRIES, kind=kind)
        try:
            with self._sent(kind):
                answer = self._connection.get(_PATHS.get(kind, f"/v5/market/{kind}"), params, asked)
            envelope = open_envelope(answer)
            self._connection.clock.heard(envelope.time or 0)
            value = read(answer, envelope)
        except ExchangeError as exc:
            self._count(kind, type(exc).__name__, next(name for known, name in _OUTCOMES if isinstance(exc, known)))
            _tell(kind, type(exc).__name__, tries.sent, sent_ns)
            self._give_way(exc)
            if answer is not None and isinstance(exc, RateLimited):
                self._heed_limit(answer, self._connection.clock.now_ms())
            if isinstance(exc, ClockSkew) and kind != "time":
                self._mend_clock(exc, tries)
            raise
        self._count(kind, "ok", "ok", envelope.time or 0)
        _tell(kind, "ok", tries.sent, sent_ns)
        self._heed_limit(answer, envelope.time or 0)
        return value

    @contextmanager
    def _sent(self, kind: str) -> Iterator[None]:
        """Count a request as waiting for its answer for the length of the block."""
        ticket, began_s = object(), time.monotonic()
        with self._lock:
            self._waiting[ticket] = began_s
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[ticket]
            self._tally.observe(REQUEST_SECONDS, time.monotonic() - began_s, kind=kind)

    def _lag_s(self) -> float:
        """Return how long the oldest request has been waiting for its answer."""
        with self._lock:
            oldest_s = next(iter(self._waiting.values()), None)
        return 0.0 if oldest_s is None else time.monotonic() - oldest_s

    def _mend_clock(self, refusal: ClockSkew, tries: _Tries) -> None:
        """Ask for the time, by which the next try is signed; once, as bybit-v5.md 3.3 says, and then it is for good."""
        if tries.clock_set:
            refusal.retryable = False
            return
        tries.clock_set = True
        self._connection.clock.forget()
        # Without an answer the next try is signed by our clock and may be refused again.
        with suppress(ExchangeError):
            self._once("time", {}, "its time", lambda _answer, _envelope: None, _Tries())

    def _count(self, kind: str, outcome: str, told: str, server_time_ms: int = 0) -> None:
        self._tally.add(REQUESTS, kind=kind, outcome=told)
        with self._lock:
            self.requests[kind, outcome] += 1
            self.server_time_ms_seen = max(self.server_time_ms_seen, server_time_ms)

    def _give_way(self, error: ExchangeError) -> None:
        # For every process that shares the budget, not for this one alone.
        if isinstance(error, Banned):
            error.retry_after_s = self._settings.cool_down_s
            self._budget.cool_down(error.retry_after_s, str(error))
        elif isinstance(error, RateLimited):
            self._budget.slow_down(str(error))
            if error.retry_after_s is not None:
                self._budget.cool_down(min(error.retry_after_s, self._settings.cool_down_s), str(error))

    def _heed_limit(self, answer: Answer, server_time_ms: int) -> None:
        # Public answers mostly lack these headers; where there are any, they come before the 10006 (bybit-v5.md 3.1).
        left = limit_left(answer.headers)
        if left is None or left.remaining > _LITTLE_LEFT * left.limit:
            return
        reason = f"{answer.host} says that {left.remaining} of {left.limit} requests are left"
        self._budget.slow_down(reason)
        wait_s = (left.reset_ms - server_time_ms) / 1000
        if left.remaining <= 0 and wait_s > 0:
            self._budget.cool_down(min(wait_s, self._settings.cool_down_s), reason)


def _tell(kind: str, outcome: str, attempt: int, sent_ns: int) -> None:
    # A page takes 2 ms of CPU in all: a line that nobody sees is not even put together.
    if logger.isEnabledFor(logging.DEBUG):
        fields = {"kind": kind, "outcome": outcome, "attempt": attempt, "elapsed_ms": elapsed_ms(sent_ns)}
        logger.debug("the exchange was asked", extra=fields)
