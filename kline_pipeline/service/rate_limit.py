"""How many requests one client may send in a minute, by a sliding window; who a client is, is told in clients.

The library `limits` decides. Its own memory keeps an entry for every address that ever came, starts threads and goes by
a clock that people set; this one has a fixed size and is told the clock.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage.base import SlidingWindowCounterSupport, Storage
from limits.strategies import SlidingWindowCounterRateLimiter

_MOST_CLIENTS: Final = 10_000


class RateLimit:
    """So many requests per minute for each client; for one thread.

    The window slides: what was sent in the minute before counts by the share of it that is still in the window.

    Args:
        per_minute: requests.
        clock_s: a clock that only goes forward, seconds.
        most_clients: whose counts are kept; of more, those are forgotten that were heard of the longest ago.
    """

    def __init__(
        self, per_minute: int, *, clock_s: Callable[[], float] = time.monotonic, most_clients: int = _MOST_CLIENTS
    ) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._counts = Counts(clock_s, most_clients)
        self._limiter = SlidingWindowCounterRateLimiter(self._counts)

    def refused_for_s(self, client: str) -> int:
        """Count a request, and return 0 if it may pass, else after how many whole seconds the next one may."""
        if self._limiter.hit(self._item, client):
            return 0
        window_s = self._item.get_expiry()
        before, before_s, here, here_s = self._counts.get_sliding_window(self._item.key_for(client), window_s)
        left_s = here_s - window_s  # of the current minute
        if here < self._item.amount:
            wait_s = before_s - (self._item.amount - here) * window_s / before
        else:
            wait_s = left_s + window_s - self._item.amount * window_s / here
        return max(1, math.floor(wait_s) + 1)

    def __len__(self) -> int:
        """Return of how many clients something is kept."""
        return len(self._counts)


@dataclass(slots=True)
class _Count:
    """The requests of one client in the minute `window`, and in the one before."""

    window: int = 0
    before: int = 0
    here: int = 0


class Counts(Storage, SlidingWindowCounterSupport):
    """Counts in memory for the sliding windows of `limits`, at most so many; see RateLimit."""

    STORAGE_SCHEME = None

    def __init__(self, clock_s: Callable[[], float], most_clients: int) -> None:
        """Begin with none."""
        super().__init__()
        self._clock_s = clock_s
        self._most_clients = most_clients
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What an access may raise."""
        return KeyError

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` requests if that many are left, and return whether they were."""
        before, before_s, here, _ = self.get_sliding_window(key, expiry)
        if math.floor(before * before_s / expiry + here) + amount > limit:
            return False
        self._counts[key].here += amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return count and seconds left of the window before, whose share falls to 0, and of the current one."""
        now_s = self._clock_s()
        window, into_s = int(now_s // expiry), now_s % expiry
        count = self._counts.setdefault(key, _Count(window))
        self._counts.move_to_end(key)
        if len(self._counts) > self._most_clients:
            self._counts.popitem(last=False)
        if count.window != window:
            count.before = count.here if count.window == window - 1 else 0
            count.window, count.here = window, 0
        return count.before, expiry - into_s if count.before else 0.0, count.here, 2 * expiry - into_s

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget the counts of a key."""
        del expiry
        self._counts.pop(key, None)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Refuse: windows that do not slide are not kept."""
        raise NotImplementedError

    def get(self, key: str) -> int:
        """Return the requests of the current window of a key."""
        count = self._counts.get(key)
        return 0 if count is None else count.here

    def get_expiry(self, key: str) -> float:
        """Refuse: windows that do not slide are not kept."""
        raise NotImplementedError

    def check(self) -> bool:
        """Return that memory can be used."""
        return True

    def reset(self) -> int:
        """Forget all, and return of how many clients."""
        known = len(self._counts)
        self._counts.clear()
        return known

    def clear(self, key: str) -> None:
        """Forget the counts of a key."""
        self._counts.pop(key, None)
