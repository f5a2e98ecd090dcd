"""The intervals Bybit serves and their grid of open times; windows and columns are elsewhere.

All times are UTC milliseconds since the epoch. Weeks begin on Monday 00:00 UTC and months on the first, 00:00 UTC
(bybit-v5.md 1.4); every other grid starts at the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.errors import UnknownSeries

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
WEEK_MS: Final = 7 * DAY_MS
# The epoch was a Thursday: the first Monday is 1970-01-05.
_FIRST_MONDAY_MS: Final = 4 * DAY_MS

INTERVAL_CODES: Final[Sequence[str]] = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")
# The smallest interval whose candles are made of whole ones; none where candles of one straddle those of the other.
_COARSER: Final = {
    "1": "3", "3": "15", "5": "15", "15": "30", "30": "60", "60": "120", "120": "240", "240": "720", "360": "720",
    "720": "D", "D": "W",
}  # fmt: skip
_ALIASES: Final = {
    "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "60m": "60", "120m": "120", "240m": "240",
    "360m": "360", "720m": "720", "1h": "60", "2h": "120", "4h": "240", "6h": "360", "12h": "720",
    "1d": "D", "1w": "W", "1M": "M", "d": "D", "w": "W", "1D": "D", "1W": "W",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interval:
    """One of Bybit's candle intervals, by its code.

    Attributes:
        code: Bybit's spelling, the only one that is stored or put in a path.
    """

    code: str

    def __post_init__(self) -> None:
        if self.code not in INTERVAL_CODES:
            msg = f"interval {self.code!r} is not one of Bybit's: {' '.join(INTERVAL_CODES)}"
            raise UnknownSeries(msg)

    def __str__(self) -> str:
        return self.code

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Return the interval that a person means: Bybit's code, or 1m, 4h, 1d, 1w, 1M.

        Raises:
            UnknownSeries: the text names no interval of Bybit.
        """
        return cls(_ALIASES.get(text, text))

    @property
    def step_ms(self) -> int | None:
        """Length of a candle in milliseconds; None for M, whose candles differ in length."""
        if self.code == "M":
            return None
        if self.code == "W":
            return WEEK_MS
        return DAY_MS if self.code == "D" else int(self.code) * MINUTE_MS

    @property
    def typical_ms(self) -> int:
        """Length of a candle for estimates: 30 days for M, exact for all others."""
        return self.step_ms or 30 * DAY_MS

    def coarser(self) -> "Interval | None":
        """Return the smallest interval whose step is a multiple of this one's; None for W and M."""
        code = _COARSER.get(self.code)
        return None if code is None else Interval(code)

    def floor(self, time_ms: int) -> int:
        """Return the open time of the candle that contains `time_ms`."""
        step_ms = self.step_ms
        if step_ms is None:
            return _ms(np.datetime64(time_ms, "ms").astype("datetime64[M]"))
        return time_ms - (time_ms - self._origin_ms) % step_ms

    def ceil(self, time_ms: int) -> int:
        """Return the first open time at or after `time_ms`."""
        floor_ms = self.floor(time_ms)
        return floor_ms if floor_ms == time_ms else self.shift(floor_ms, 1)

    def shift(self, open_time_ms: int, candles: int) -> int:
        """Return the open time `candles` later (earlier when negative); `open_time_ms` must be on the grid."""
        step_ms = self.step_ms
        if step_ms is None:
            return _ms(np.datetime64(open_time_ms, "ms").astype("datetime64[M]") + candles)
        return open_time_ms + candles * step_ms

    def grid(self, start_ms: int, end_ms: int) -> NDArray[np.int64]:
        """Return every open time in [start_ms, end_ms), ascending, int64 UTC milliseconds; empty when there is none."""
        first_ms = self.ceil(start_ms)
        step_ms = self.step_ms
        if step_ms is not None:
            return np.arange(first_ms, max(end_ms, first_ms), step_ms, dtype=np.int64)
        bounds = np.array([first_ms, self.ceil(end_ms)], dtype="datetime64[ms]").astype("datetime64[M]")
        months = np.arange(bounds[0], bounds[1])
        return months.astype("datetime64[ms]").astype(np.int64)

    def count(self, start_ms: int, end_ms: int) -> int:
        """Return the number of open times in [start_ms, end_ms)."""
        step_ms = self.step_ms
        if step_ms is None:
            return len(self.grid(start_ms, end_ms))
        return max(0, -(-(end_ms - self.ceil(start_ms)) // step_ms))

    def close_times(self, open_times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the close time (exclusive end) of each candle, in the order given; all must be on the grid."""
        step_ms = self.step_ms
        if step_ms is not None:
            return open_times_ms + step_ms
        months = open_times_ms.astype("datetime64[ms]").astype("datetime64[M]") + 1
        return months.astype("datetime64[ms]").astype(np.int64)

    def floors(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the open time of the candle that contains each time, in the order given."""
        step_ms = self.step_ms
        if step_ms is None:
            return times_ms.astype("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
        return times_ms - (times_ms - self._origin_ms) % step_ms

    def closed_end(self, server_time_ms: int, grace_ms: int) -> int:
        """Return the exclusive end of what had closed: every candle that closes at or before server time less grace."""
        return self.floor(server_time_ms - grace_ms)

    def divides(self, coarser: "Interval") -> bool:
        """Tell whether every candle of `coarser` is made of several whole candles of this interval."""
        step_ms, whole_ms = self.step_ms, coarser.step_ms
        if step_ms is None or self.code == "W":
            return False
        if whole_ms is None or coarser.code == "W":
            return DAY_MS % step_ms == 0  # weeks and months are whole days
        return step_ms < whole_ms and whole_ms % step_ms == 0

    @property
    def _origin_ms(self) -> int:
        return _FIRST_MONDAY_MS if self.code == "W" else 0


def _ms(month: np.datetime64) -> int:
    return int(month.astype("datetime64[ms]").astype(np.int64))
