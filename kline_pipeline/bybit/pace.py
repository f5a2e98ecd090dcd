"""The arithmetic of the request budget: pace, share, cool-down, start of an hour. Pure: no clock, storage or waiting.

Waiting is in ratelimit; the state is kept by file_budget and, with the same arithmetic in SQL, by database/rate_budget.
"""

import random
from dataclasses import dataclass
from typing import Final

from pyrate_limiter import GCRA, Rate

# A burst of b and r grants per second in the long run put at most b - 1 + ceil(r) grants into any second, so
# r = R - (b - 1) keeps R. A burst of one never makes up for waking late: eight processes of 16 threads on two busy
# cores got 95 % of 50/s and 90 % of 110/s from a file, 87 % and 80 % from the database. A burst makes up for (b - 1)/r
# of lateness, 20 ms at 50/s with two and 19 ms at 110/s with three, which got them 96 to 97 %.
_RATE_PER_BURST: Final = 40
# A request leaves a little after its grant, and pyrate counts in whole milliseconds: R + 1 requests span 1 s still
# when one left 20 ms late (burst of one, 2 %) or 15 ms (1.5 %; with 1 % a busy machine once sent 51 of 50 in a second).
_BELOW_ALONE: Final = 0.98
_BELOW_WITH_BURST: Final = 0.985

LEAST_SHARE: Final = 1 / 8
_MOST_WAITING: Final = 64  # processes that wait for an instant; one more is a clock that was set back
SHARE_DOUBLES_S: Final = 60.0
SLOW_ONCE_S: Final = 1.0
SLOW_REPEATED_S: Final = 60.0
# What Bybit's own skill file advises after repeated 10006 (bybit-v5.md 3.1).
SLOW_COOL_S: Final = 10.0
# The exchange counts what arrives. What waits on the way, in a network that stalls or on a busy machine, arrives all
# at once. Of 600 requests in 5 s the ceiling of 110/s leaves room for half a second of that. So the longer the oldest
# request has been waiting for its answer, the slower the others leave: after a stall of any length up to 10 s, which is
# as long as an answer is waited for, no 5 s hold more than 600 (a test stalls it).
LAG_LEAST_S: Final = 0.4
LAG_KEPT_S: Final = 5.0
LAG_REQUESTS: Final = 590
LAG_BASE_S: Final = 5.0
LAG_FACTOR: Final = 2.0
# 10006 was seen on the public kline at 21:00:03 (bybit-v5.md 3.1): load at the candle close, so we stay away from it.
QUIET_MS: Final = 5_000
_QUIET_JITTER_MS: Final = 3_000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How grants follow each other.

    Attributes:
        per_1000_s: grants in 1000 s in the long run, at a full share.
        burst: grants that may be given at once after a pause, at a full share; at less it is one.
    """

    per_1000_s: int
    burst: int

    @property
    def step_s(self) -> float:
        """Seconds between grants at a full share."""
        return 1000 / self.per_1000_s

    @property
    def tolerance_s(self) -> float:
        """Seconds of lateness that are made up for at a full share."""
        return (self.burst - 1) * self.step_s

    def rate(self, share: float) -> Rate:
        """Return the GCRA rate at a share of the pace.

        With less than a full share there is no burst: its length in time would grow with the step, and let out more
        than the rate just when the exchange asked for less.
        """
        return Rate(max(1, int(self.per_1000_s * share)), 1_000_000, burst=self.burst if share >= 1 else 1)


def pace(requests_per_second: float) -> Pace:
    """Return the pace under which no sliding second has more grants than `requests_per_second`.

    Below 1, and between two whole numbers below 40, a second may hold the next whole number.
    """
    burst = 1 + int(requests_per_second // _RATE_PER_BURST)
    if burst == 1:
        return Pace(max(1, int(requests_per_second * 1000 * _BELOW_ALONE)), 1)
    return Pace(int((int(requests_per_second) - (burst - 1)) * 1000 * _BELOW_WITH_BURST), burst)


def share_at(share: float, at_ms: int, now_ms: int) -> float:
    """Return what a share of `at_ms` has grown to: it doubles every 60 s, up to 1."""
    # Beyond ten doublings any share is whole again; 2 ** years would be too large a number.
    doublings = min(10.0, max(0, now_ms - at_ms) / 1000 / SHARE_DOUBLES_S)
    return float(min(1.0, share * 2**doublings))


def lag_share(at: Pace, lag_s: float) -> float:
    """Return the share of a pace that is left while the oldest request has been waiting for its answer for so long."""
    if lag_s < LAG_LEAST_S:
        return 1.0
    return min(1.0, LAG_REQUESTS / (LAG_BASE_S + LAG_FACTOR * lag_s) * at.step_s)


def is_quiet(now_ms: int) -> bool:
    """Say whether a time, UTC, is in the first 5 s of an hour, when nobody sends."""
    return now_ms % _HOUR_MS < QUIET_MS


def hour_wait_ms(now_ms: int, source: random.Random) -> int:
    """Return how long a request waits that would go out in the first 5 s of an hour: 0 at any other time.

    Args:
        now_ms: UTC.
        source: gives every process and call an instant of its own, between hh:00:05 and hh:00:08.
    """
    if not is_quiet(now_ms):
        return 0
    return QUIET_MS - now_ms % _HOUR_MS + source.randint(0, _QUIET_JITTER_MS)


def brief(reason: str) -> str:
    """Return a reason as it is stored: 200 characters that a JSON record and a text column can hold."""
    return "".join(char if char.isprintable() else " " for char in reason[:200])


def repeated(reason: str) -> str:
    """Return why the third slow-down within a minute is a cool-down."""
    return f"the exchange asked three times within {SLOW_REPEATED_S:.0f} s for fewer requests, last: {reason}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of asking for a grant.

    Attributes:
        granted: one request may be sent now.
        now_ms: the clock by which it was judged, UTC milliseconds.
        wait_ms: when it makes sense to ask again; without the start of an hour, which is `hour_wait_ms`.
        cool_until_ms: end of a cool-down that runs, else 0.
        reason: of that cool-down.
        reserved: the instant after the wait is kept for who asked, who says so when it asks again.
    """

    granted: bool
    now_ms: int
    wait_ms: int = 0
    cool_until_ms: int = 0
    reason: str = ""
    reserved: bool = False


@dataclass(slots=True)
class State:
    """What the processes share; a field that a record of another version lacks has its default.

    Attributes:
        tat_us: GCRA's theoretical arrival time, UTC microseconds.
        slot_us: the first instant that nobody has reserved, UTC microseconds. Who finds no grant reserves one and comes
            back then: if all came back for the next grant, eight processes would ask eight times for each (0.4 core).
        cool_until_ms: end of the newest cool-down; `cool_s` its length and `reason` its reason.
        lag_s: the longest that a request waited for its answer lately; it counts until `lag_until_ms`.
        slow_share: share of the pace at `slow_at_ms`, the newest slow-down; `slow_before_ms` is the one before.
    """

    tat_us: int = 0
    slot_us: int = 0
    cool_until_ms: int = 0
    cool_s: float = 0.0
    reason: str = ""
    slow_share: float = 1.0
    slow_at_ms: int = 0
    slow_before_ms: int = 0
    lag_s: float = 0.0
    lag_until_ms: int = 0

    def ask(self, at: Pace, now_ms: int, *, lag_s: float = 0.0, reserved: bool = False) -> Reply:
        """Give a grant, or reserve an instant for one, or say how long there is none.

        Args:
            at: the pace.
            now_ms: UTC.
            lag_s: how long the oldest request of who asks has been waiting for its answer.
            reserved: who asks comes back at the instant that the last reply reserved.
        """
        self._bound(at, now_ms)
        self._lag(now_ms, lag_s)
        if self.cool_until_ms > now_ms:
            return Reply(
                granted=False,
                now_ms=now_ms,
                wait_ms=self.cool_until_ms - now_ms,
                cool_until_ms=self.cool_until_ms,
                reason=self.reason,
            )
        if is_quiet(now_ms):
            return Reply(granted=False, now_ms=now_ms)
        rate = at.rate(min(share_at(self.slow_share, self.slow_at_ms, now_ms), lag_share(at, self.lag_s)))
        if not reserved and self.slot_us > now_ms * 1000:
            return self._reserved(rate, now_ms, self.slot_us)
        (tat_us,), decision = GCRA().step([rate], (self.tat_us,), now_ms, 1)
        self.tat_us = int(tat_us)
        wait_ms = decision.retry_after_ms or 0
        if decision.allowed or reserved:
            return Reply(decision.allowed, now_ms, wait_ms, reserved=reserved)
        return self._reserved(rate, now_ms, (now_ms + wait_ms) * 1000)

    def _reserved(self, rate: Rate, now_ms: int, instant_us: int) -> Reply:
        self.slot_us = instant_us + rate.interval * 1000 // rate.limit
        wait_ms = max(1, -(-(instant_us - now_ms * 1000) // 1000))
        return Reply(granted=False, now_ms=now_ms, wait_ms=wait_ms, reserved=True)

    def cool_down(self, now_ms: int, seconds: float, reason: str) -> None:
        """Begin a cool-down, unless a longer one runs."""
        until_ms = now_ms + round(seconds * 1000)
        if until_ms > self.cool_until_ms:
            self.cool_until_ms, self.cool_s, self.reason = until_ms, seconds, brief(reason)

    def slow_down(self, now_ms: int, reason: str) -> bool:
        """Halve the share; False when that was just done."""
        if 0 <= now_ms - self.slow_at_ms < SLOW_ONCE_S * 1000:
            return False
        self.slow_share = max(LEAST_SHARE, share_at(self.slow_share, self.slow_at_ms, now_ms) / 2)
        if now_ms - self.slow_before_ms <= SLOW_REPEATED_S * 1000:
            self.cool_down(now_ms, SLOW_COOL_S, repeated(reason))
        self.slow_before_ms, self.slow_at_ms = self.slow_at_ms, now_ms
        return True

    def _lag(self, now_ms: int, lag_s: float) -> None:
        if now_ms >= self.lag_until_ms:
            self.lag_s = 0.0
        if lag_s >= max(self.lag_s, LAG_LEAST_S):
            self.lag_s, self.lag_until_ms = lag_s, now_ms + round(LAG_KEPT_S * 1000)

    def _bound(self, at: Pace, now_ms: int) -> None:
        """Cut times that lie too far ahead, as after a clock was set back."""
        ahead_us = round(max(at.burst, 1 / LEAST_SHARE) * (at.step_s * 1_000_000 + 1))
        self.tat_us = min(self.tat_us, now_ms * 1000 + ahead_us)
        self.slot_us = min(self.slot_us, now_ms * 1000 + _MOST_WAITING * ahead_us)
        self.cool_until_ms = min(self.cool_until_ms, now_ms + round(self.cool_s * 1000))
        self.slow_at_ms = min(self.slow_at_ms, now_ms)
        self.slow_before_ms = min(self.slow_before_ms, now_ms)
        self.lag_until_ms = min(self.lag_until_ms, now_ms + round(LAG_KEPT_S * 1000))
