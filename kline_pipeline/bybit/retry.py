"""Trying a call again; what may be tried again is said by the error class alone (`retryable`).

The wait is what the server asks for, else exponential with jitter. A wait that would pass the total deadline is not
begun, and an error that is given up says after how many tries. How long one try may take is told by connection.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import ExchangeError, KlineError

logger = logging.getLogger(__name__)
T = TypeVar("T")


def with_retries(
    call: Callable[[], T],
    settings: BybitSettings,
    *,
    asked: str,
    sleep: Callable[[float], None] = time.sleep,
    clock_s: Callable[[], float] = time.monotonic,
    uncounted_s: Callable[[], float] = lambda: 0.0,
) -> T:
    """Return what `call` returns, trying again after errors whose class is retryable.

    Args:
        call: one attempt.
        settings: attempts, waits and the total deadline.
        asked: what is asked for, for the log.
        sleep: how to wait, seconds.
        clock_s: a clock that only goes forward, seconds.
        uncounted_s: seconds so far that do not count for the deadline: a request that waits for its turn in the
            budget is no failure of the exchange, and must not lose its second try by it.

    Raises:
        KlineError: the last error: it is not retryable, or no attempt or time is left.
    """
    began_s = clock_s()
    retrying = Retrying(
        sleep=sleep,
        retry=retry_if_exception(_is_retryable),
        wait=_ServerHintElse(
            wait_exponential_jitter(
                multiplier=settings.retry_initial_delay_s,
                exp_base=settings.retry_backoff_factor,
                max=settings.retry_max_delay_s,
                jitter=settings.retry_initial_delay_s,
            )
        ),
        stop=stop_after_attempt(settings.retry_max_attempts)
        | _StopBeforeWaiting(settings.retry_total_s, lambda: clock_s() - began_s - uncounted_s()),
        before_sleep=lambda state: _log(state, asked),
        reraise=True,
    )
    try:
        return retrying(call)
    except KlineError as exc:
        tries = int(retrying.statistics.get("attempt_number", 1))
        if tries > 1:
            exc.args = (f"{exc} (given up after {tries} tries)", *exc.args[1:])
        raise


class _ServerHintElse(wait_base):
    """Wait as long as the error asks, else as another rule says."""

    def __init__(self, otherwise: wait_base) -> None:
        self._otherwise = otherwise

    def __call__(self, retry_state: RetryCallState) -> float:
        error = _error(retry_state)
        if isinstance(error, ExchangeError) and error.retry_after_s is not None:
            return error.retry_after_s
        return self._otherwise(retry_state)


class _StopBeforeWaiting(stop_base):
    """Stop when the time that counts, the next wait included, would pass the total deadline."""

    def __init__(self, limit_s: float, elapsed_s: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._elapsed_s = elapsed_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        elapsed_s = max(self._elapsed_s(), retry_state.idle_for)
        return elapsed_s + retry_state.upcoming_sleep > self._limit_s


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, KlineError) and error.retryable


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _log(state: RetryCallState, asked: str) -> None:
    error = _error(state)
    fields = {
        "asked": asked,
        "attempt": state.attempt_number,
        "elapsed_ms": round((state.seconds_since_start or 0.0) * 1000, 3),
        "wait_s": round(state.upcoming_sleep, 3),
        "error": type(error).__name__,
        "reason": str(error),
    }
    # The reason is in the text too: a notebook shows nothing else.
    logger.warning("exchange request is tried again: %s", error, extra=fields)
