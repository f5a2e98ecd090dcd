"""Arithmetic of Bybit's interval codes: floors, steps, which interval divides which.

All times are UTC milliseconds. Nothing here knows candles or instruments.
"""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
# 1970-01-05 was the first Monday: Bybit's weeks start on Monday 00:00 UTC.
MONDAY_MS = 4 * DAY_MS
# As seconds this lies in the year 5138, as milliseconds in 1973: smaller numbers are seconds.
SMALLEST_MS = 100_000_000_000
# Minutes of every interval; a month has no constant length.
MINUTES: dict[str, int] = {
    **{code: int(code) for code in ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")},
    "D": 1440,
    "W": 10080,
}
INTERVALS: tuple[str, ...] = (*MINUTES, "M")


def floor_ms(interval: str, at_ms: int) -> int:
    """Return the open_time of the candle of `interval` that contains `at_ms`."""
    if interval == "M":
        at = _datetime(at_ms)
        return month_ms(at.year * 12 + at.month - 1)
    if interval == "W":
        return (at_ms - MONDAY_MS) // WEEK_MS * WEEK_MS + MONDAY_MS
    step = MINUTES[interval] * MINUTE_MS
    return at_ms // step * step


def floor_all_ms(interval: str, at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `floor_ms` of every element."""
    if interval == "M":
        months = at_ms.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    if interval == "W":
        return (at_ms - MONDAY_MS) // WEEK_MS * WEEK_MS + MONDAY_MS
    step = MINUTES[interval] * MINUTE_MS
    return at_ms // step * step


def ceil_ms(interval: str, at_ms: int) -> int:
    """Return the first open_time of `interval` at or after `at_ms`."""
    floored = floor_ms(interval, at_ms)
    return floored if floored == at_ms else shift_ms(interval, floored, 1)


def shift_ms(interval: str, open_ms: int, steps: int) -> int:
    """Return the open_time `steps` candles after (before, if negative) the one at `open_ms`."""
    if interval == "M":
        return month_ms(month_number(open_ms) + steps)
    return open_ms + steps * MINUTES[interval] * MINUTE_MS


def steps_between(interval: str, first_ms: int, last_ms: int) -> int:
    """Return how many steps lead from one open_time to a later one."""
    if interval == "M":
        return month_number(last_ms) - month_number(first_ms)
    return (last_ms - first_ms) // (MINUTES[interval] * MINUTE_MS)


def divides(fine: str, coarse: str) -> bool:
    """Say whether every candle of `coarse` consists of whole candles of `fine`."""
    if coarse == "M":
        return fine != "W"
    return fine != "M" and MINUTES[coarse] % MINUTES[fine] == 0


def month_number(at_ms: int) -> int:
    """Return year * 12 + (month - 1) of the month that contains `at_ms`."""
    at = _datetime(at_ms)
    return at.year * 12 + at.month - 1


def month_ms(number: int) -> int:
    """Return the start of the month with this `month_number`."""
    return utc_ms(number // 12, number % 12 + 1, 1)


def utc_ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    """Return UTC milliseconds of a calendar time."""
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1000


def parse_time_ms(text: str) -> int:
    """Return UTC milliseconds of ISO text (no offset means UTC) or of a number of (milli)seconds.

    Raises:
        ValueError: the text is neither.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        number = int(text)
        return number if number >= SMALLEST_MS else number * 1000
    at = datetime.fromisoformat(text)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return (int(at.timestamp()) * 1000) + at.microsecond // 1000


def _datetime(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC)
