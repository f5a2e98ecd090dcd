"""How often the exchange may be asked: the budget that all processes share, and its file form.

Bybit allows 600 requests in any 5 s per IP (bybit-v5.md 3.1). The budget is spent one by one at an
even pace (GCRA with a burst of one), so R per second is exceeded in no second, whatever processes
start, stop or are killed. Over PostgreSQL database.rate_budget implements the same protocol.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from pyrate_limiter import GCRA, Decision, Rate, StateAlgorithm, StateStore

from kline_pipeline.errors import Banned, RateLimited, StorageError
from kline_pipeline.market.window import iso

_BURST: Final = 1
# pyrate counts in whole milliseconds, and a request leaves a little after its grant: 2 % below the
# rate R + 1 grants span 1.02 s at least.
_SHARE: Final = 0.98
_RECORD_BYTES: Final = 2048


class Budget(Protocol):
    """A number of requests per second that several processes share."""

    def acquire(self, timeout_s: float) -> None:
        """Return when one request may be sent.

        Raises:
            RateLimited: no turn came within `timeout_s`.
            Banned: a cool-down lasts longer than `timeout_s`; `retry_after_s` says how long.
        """

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds` from now on; a longer one that runs stays."""


def pace(requests_per_second: float) -> Rate:
    """Return the GCRA rate under which `requests_per_second` is exceeded in no second."""
    per_1000_s = max(1, int(requests_per_second * 1000 * _SHARE))
    return Rate(per_1000_s, 1_000_000, burst=_BURST)


@dataclass(slots=True)
class _State:
    tat_us: int = 0
    cool_until_ms: int = 0
    cool_s: float = 0.0
    reason: str = ""

    def bound(self, rate: Rate, now_ms: int) -> bool:
        """Say whether times lay too far ahead and were cut, as after a clock was set back."""
        one_us = rate.interval * 1000 // rate.limit + 1
        tat_us = min(self.tat_us, now_ms * 1000 + rate.burst * one_us)
        cool_until_ms = min(self.cool_until_ms, now_ms + round(self.cool_s * 1000))
        changed = (tat_us, cool_until_ms) != (self.tat_us, self.cool_until_ms)
        self.tat_us, self.cool_until_ms = tat_us, cool_until_ms
        return changed

    def cooling(self, rate: Rate, now_ms: int) -> Decision:
        """Refuse while a cool-down lasts."""
        left_ms = self.cool_until_ms - now_ms
        return Decision(rate, left_ms) if left_ms > 0 else Decision()


class _FlockStore(StateStore):
    """The state in a file, each step under an exclusive flock.

    The file is opened for every step: a lock belongs to an open file, and a forked child that
    inherits one would get the lock at once (stack.md part 2, 5). It is unlocked before it is
    closed, as a child may hold a copy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> Decision:
        with self._locked() as descriptor:
            state = _read(descriptor)
            changed = state.bound(rates[0], now)
            decision = state.cooling(rates[0], now)
            if decision.allowed:
                (tat_us,), decision = algorithm.step(rates, (state.tat_us,), now, weight)
                state.tat_us = int(tat_us)
                changed = changed or decision.allowed
            if changed:
                _write(descriptor, state)
            return decision

    def read(self, algorithm: StateAlgorithm, rates: list[Rate]) -> tuple[float, ...]:  # noqa: ARG002
        return (self.state().tat_us,)

    def state(self) -> _State:
        with self._locked() as descriptor:
            return _read(descriptor)

    def reset(self) -> None:
        with self._locked() as descriptor:
            _write(descriptor, _State())

    def cool_down(self, until_ms: int, seconds: float, reason: str) -> None:
        with self._locked() as descriptor:
            state = _read(descriptor)
            if until_ms > state.cool_until_ms:
                state.cool_until_ms, state.cool_s, state.reason = until_ms, seconds, reason[:200]
                _write(descriptor, state)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            msg = f"the file of the request budget {self._path} cannot be opened ({exc}); make its folder writable"
            raise StorageError(msg) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


class FileBudget:
    """A budget in a file, shared by every process of a user that names the same file.

    Safe in threads and after fork. Threads of one process queue inside it, so that only one per
    process asks the file.
    """

    def __init__(
        self,
        path: Path,
        requests_per_second: float,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = _FlockStore(path)
        self._algorithm = GCRA()
        self._rate = pace(requests_per_second)
        self._clock_ms = clock_ms
        self._sleep = sleep
        # By process: a lock that another thread held during a fork would never be free again.
        self._turnstiles: dict[int, threading.Lock] = {}

    def acquire(self, timeout_s: float) -> None:
        """Return when one request may be sent; see Budget."""
        until_ms = self._clock_ms() + round(timeout_s * 1000)
        turnstile = self._turnstiles.setdefault(os.getpid(), threading.Lock())
        if not turnstile.acquire(timeout=max(0.0, timeout_s)):
            raise no_turn(timeout_s)
        try:
            while (wait_ms := self._ask()) > 0:
                left_ms = until_ms - self._clock_ms()
                if wait_ms > left_ms:
                    self._refuse(timeout_s, wait_ms)
                self._sleep(wait_ms / 1000)
        finally:
            turnstile.release()

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds`; see Budget."""
        self._store.cool_down(self._clock_ms() + round(seconds * 1000), seconds, reason)

    def _ask(self) -> int:
        decision = self._store.check(self._algorithm, [self._rate], self._clock_ms(), 1)
        return 0 if decision.allowed else max(1, decision.retry_after_ms or 1)

    def _refuse(self, timeout_s: float, wait_ms: int) -> None:
        state = self._store.state()
        now_ms = self._clock_ms()
        if state.cool_until_ms > now_ms:
            raise refused_by_cool_down(wait_ms / 1000, state.reason, now_ms=now_ms)
        raise no_turn(timeout_s)


def refused_by_cool_down(wait_s: float, reason: str, *, now_ms: int | None = None) -> Banned:
    """Return the error of a cool-down that lasts longer than the caller would wait."""
    begin_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    until_ms = begin_ms + round(wait_s * 1000)
    msg = f"no request is sent before {iso(until_ms)}, because {reason}; try again after that"
    return Banned(msg, retry_after_s=wait_s)


def no_turn(timeout_s: float) -> RateLimited:
    """Return the error of a budget that gave no turn in time."""
    msg = (
        f"no turn to send a request came within {timeout_s:.0f} s; raise BYBIT_REQUESTS_PER_SECOND or run less at once"
    )
    return RateLimited(msg)


def _read(descriptor: int) -> _State:
    text = os.pread(descriptor, _RECORD_BYTES, 0)
    try:
        return _State(**json.loads(text))
    except (ValueError, TypeError):  # new, or not ours
        return _State()


def _write(descriptor: int, state: _State) -> None:
    # One write of fixed length: a kill leaves the old record or the new one.
    os.pwrite(descriptor, json.dumps(asdict(state)).encode().ljust(_RECORD_BYTES), 0)
