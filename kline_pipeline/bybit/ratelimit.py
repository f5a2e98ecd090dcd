"""How often the exchange may be asked: the budget that all processes share, and how a thread waits for its turn.

Bybit allows 600 requests in any 5 s per IP (bybit-v5.md 3.1). The arithmetic is in pace; where the shared state is kept
is in file_budget and database/rate_budget.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from kline_pipeline.bybit.pace import QUIET_MS, Reply, brief, hour_wait_ms, is_quiet
from kline_pipeline.errors import Banned, RateLimited
from kline_pipeline.market.window import iso

logger: Final = logging.getLogger(__name__)


Lag = Callable[[], float]


def no_lag() -> float:
    """Return that no request is waiting for its answer."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a budget stands.

    Attributes:
        cool_down_s: nobody may ask for so long, 0 where everybody may.
        share: of the pace, 1 unless it was slowed down.
    """

    cool_down_s: float
    share: float


class Budget(Protocol):
    """A number of requests per second that several processes share."""

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        """Return when one request may be sent; never in the first 5 s of an hour, UTC.

        Args:
            timeout_s: how long to wait for the turn.
            lag_s: says how long the oldest request of this process has been waiting for its answer, seconds.

        Raises:
            RateLimited: no turn came within `timeout_s`, or none can.
            Banned: a cool-down lasts longer than `timeout_s`; it says until when, `retry_after_s` how long.
            StorageError: what is shared cannot be reached; no request may be sent.
        """

    def standing(self) -> Standing:
        """Return how it stands; nothing is used up and nobody is waited for."""

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds` from now on; a longer one that runs stays."""

    def slow_down(self, reason: str) -> None:
        """Halve the pace of everybody, down to an eighth, as the exchange asked for fewer requests.

        The pace doubles every 60 s without another one. Several within one second count once; the third
        within 60 s begins a cool-down of 10 s.
        """


class Turns:
    """The threads of one process, waiting for turns: one of them asks what is shared, the others queue behind it.

    Args:
        ask: for a grant, told how long the oldest request has been waiting for its answer, seconds, and whether an
            instant was reserved.
        clock_ms: by which time-outs count; None is a clock that nobody sets.
        sleep: how to wait, seconds.
        source: of the instants after the start of an hour.
    """

    def __init__(
        self,
        ask: Callable[[float, bool], Reply],
        *,
        clock_ms: Callable[[], int] | None,
        sleep: Callable[[float], None],
        source: random.Random | None,
    ) -> None:
        self._ask = ask
        self._clock_ms = clock_ms or (lambda: time.monotonic_ns() // 1_000_000)
        self._sleep = sleep
        self._source = source or random.SystemRandom()
        # By process: a lock that another thread held during a fork would never be free again.
        self._turnstiles: dict[int, threading.Lock] = {}
        # What the thread waits for that has the turnstile: those behind it that lose patience say the same.
        self._awaited: Reply | None = None
        self._told_until_ms = 0

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        """Return when one request may be sent; see Budget."""
        until_ms = self._clock_ms() + round(timeout_s * 1000)
        turnstile = self._turnstiles.setdefault(os.getpid(), threading.Lock())
        if not turnstile.acquire(timeout=max(0.0, timeout_s)):
            raise _refusal(self._awaited, timeout_s)
        reserved = False
        try:
            while not (reply := self._ask(lag_s(), reserved)).granted:
                reserved = reply.reserved
                wait_ms = max(1, reply.wait_ms, hour_wait_ms(reply.now_ms, self._source))
                self._awaited = replace(reply, wait_ms=wait_ms)
                if wait_ms > until_ms - self._clock_ms():
                    raise _refusal(self._awaited, timeout_s)
                self._tell(reply)
                self._sleep(wait_ms / 1000)
        finally:
            self._awaited = None
            turnstile.release()

    def _tell(self, reply: Reply) -> None:
        if reply.cool_until_ms > self._told_until_ms:
            self._told_until_ms = reply.cool_until_ms
            fields = {"until": iso(reply.cool_until_ms), "reason": reply.reason, "wait_s": reply.wait_ms / 1000}
            # Until when and why are in the text too: a notebook shows nothing else.
            logger.warning("no request is sent before %(until)s, because %(reason)s", fields, extra=fields)


def tell_slow_down(share: float, reason: str) -> None:
    """Log that the pace is less now, once per slow-down that counted."""
    fields = {"share": round(share, 3), "reason": brief(reason)}
    logger.warning("requests are slowed down to %(share)s of the pace, because %(reason)s", fields, extra=fields)


def _refusal(awaited: Reply | None, timeout_s: float) -> RateLimited | Banned:
    """Return the error of who gets no turn in time."""
    if awaited and awaited.cool_until_ms:
        msg = f"no request is sent before {iso(awaited.cool_until_ms)}, because {awaited.reason}; try again after that"
        return Banned(msg, retry_after_s=awaited.wait_ms / 1000)
    if awaited and is_quiet(awaited.now_ms):
        msg = (
            f"no request is sent in the first {QUIET_MS // 1000} s of an hour, when the exchange is busiest, and this "
            f"one waits no longer than {timeout_s:.0f} s; try again after {iso(awaited.now_ms + awaited.wait_ms)}"
        )
        return RateLimited(msg, retry_after_s=awaited.wait_ms / 1000)
    msg = (
        f"no turn to send a request came within {timeout_s:.0f} s; raise BYBIT_REQUESTS_PER_SECOND or run less at once"
    )
    return RateLimited(msg)
