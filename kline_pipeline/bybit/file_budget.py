"""The request budget in a file, shared by all processes of a user; its form in PostgreSQL is database/rate_budget.

The arithmetic is in pace, the waiting in ratelimit.
"""

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from kline_pipeline.bybit.pace import Reply, State, pace, share_at
from kline_pipeline.bybit.ratelimit import Lag, Standing, Turns, no_lag, tell_slow_down
from kline_pipeline.errors import StorageError

_RECORD_BYTES: Final = 2048


class FileBudget:
    """A budget in a file, shared by every process of a user that names the same file; see ratelimit.Budget.

    Safe in threads and after fork; a process may be killed at any moment.

    Args:
        path: of the file, made when it is not there; one that cannot be read is begun anew.
        requests_per_second: of all processes together.
        clock_ms: UTC milliseconds; None is the clock of this machine.
        sleep: how to wait, seconds.
        source: of the instants after the start of an hour; None is one that no two processes share.
    """

    def __init__(
        self,
        path: Path,
        requests_per_second: float,
        *,
        clock_ms: Callable[[], int] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        source: random.Random | None = None,
    ) -> None:
        self._path = path
        self._pace = pace(requests_per_second)
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._turns = Turns(self._ask, clock_ms=clock_ms, sleep=sleep, source=source)

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        """Return when one request may be sent; see Budget."""
        self._turns.acquire(timeout_s, lag_s)

    def standing(self) -> Standing:
        """Return how it stands; see Budget."""
        with self._shared() as state:
            now_ms = self._clock_ms()
            cool_down_s = max(0, state.cool_until_ms - now_ms) / 1000
            return Standing(cool_down_s, share_at(state.slow_share, state.slow_at_ms, now_ms))

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds`; see Budget."""
        with self._shared() as state:
            state.cool_down(self._clock_ms(), seconds, reason)

    def slow_down(self, reason: str) -> None:
        """Halve the pace of everybody; see Budget."""
        with self._shared() as state:
            counted = state.slow_down(self._clock_ms(), reason)
        if counted:
            tell_slow_down(state.slow_share, reason)

    def _ask(self, lag_s: float, reserved: bool) -> Reply:  # noqa: FBT001 - as Turns asks
        # The clock is read under the lock: who waited for it would judge by an old time.
        with self._shared() as state:
            return state.ask(self._pace, self._clock_ms(), lag_s=lag_s, reserved=reserved)

    @contextmanager
    def _shared(self) -> Iterator[State]:
        """Give the state for the length of the block, and keep what the block made of it."""
        with self._locked() as descriptor:
            state = _read(descriptor)
            before = replace(state)
            yield state
            if state != before:
                # One write of fixed length: a kill leaves the old record or the new one.
                os.pwrite(descriptor, msgspec.json.encode(state).ljust(_RECORD_BYTES), 0)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the file exclusively.

        It is opened for every step: a lock belongs to an open file, and a forked child that inherits one would get the
        lock at once (stack.md part 2, 5). It is unlocked before it is closed, as a child may hold a copy.
        """
        try:
            descriptor = self._opened()
        except OSError as exc:
            msg = f"the file of the request budget {self._path} cannot be opened ({exc}); make its folder writable"
            raise StorageError(msg) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _opened(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)


def _read(descriptor: int) -> State:
    try:
        return msgspec.json.decode(os.pread(descriptor, _RECORD_BYTES, 0), type=State)
    except (msgspec.DecodeError, UnicodeDecodeError):  # new, or not ours
        return State()
