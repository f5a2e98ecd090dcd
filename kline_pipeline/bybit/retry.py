"""Trying a call again; what may be tried again is said by the error class alone (`retryable`).

The wait is what the server asks for, else exponential with jitter. A wait that would pass the limit
is not begun.
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
) -> T:
    """Return what `call` returns, trying again after errors whose class is retryable.

    Args:
        call: one attempt.
        settings: attempts and waits.
        asked: what is asked for, for the log.
        sleep: how to wait, seconds.

    Raises:
        KlineError: the last error, unchanged: it is not retryable, or no attempt or time is left.
    """
    limit_s = settings.retry_max_attempts * (settings.retry_max_delay_s + settings.timeout_s)
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
        stop=stop_after_attempt(settings.retry_max_attempts) | _StopBeforeWaiting(limit_s),
        before_sleep=lambda state: _log(state, asked),
        reraise=True,
    )
    return retrying(call)


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
    """Stop when the waits between attempts, the next included, would pass a limit.

    Unlike tenacity's stop_before_delay it does not count the time in which a request waits for the
    budget: that is no failure of the exchange and must not cost a request its second attempt.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        return retry_state.idle_for + retry_state.upcoming_sleep > self._limit_s


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, KlineError) and error.retryable


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _log(state: RetryCallState, asked: str) -> None:
    error = _error(state)
    fields = {
        "asked": asked,
        "attempt": state.attempt_number,
        "wait_s": round(state.upcoming_sleep, 3),
        "error": type(error).__name__,
        "reason": str(error),
    }
    logger.warning("exchange request is tried again", extra=fields)
