"""The first and the last candle of a life near a known day; which days those are is found by lives.

A day has 1440 minutes, more than a page: a coarser interval narrows it to an hour, then the finest
interval that the exchange serves finds the candle. Both look a little past the coarser answer, so
that a candle which that one lacked by mistake is seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.errors import BadInterval
from kline_pipeline.market.interval import DAY_MS, INTERVAL_CODES, MINUTE_MS, Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso

# Two days of each fit into a page; 60 first, as then one hour of minutes is left.
_NARROWING: Final = ("60", "30", "15", "5", "3", "120", "240", "360", "720")
_HOUR_MS: Final = 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Edge:
    """One end of a life.

    Attributes:
        time_ms: open time of the first candle, or close of the last one, UTC.
        interval: whose candle it is; the finest that the exchange serves, if it has that day in it.
    """

    time_ms: int
    interval: Interval


class Prober:
    """Asks for open times of one instrument and keeps what was asked and answered.

    Attributes:
        name: category:symbol.
        asked: one dictionary per request, ready for JSON.
    """

    def __init__(self, client: BybitClient, category: str, symbol: str) -> None:
        """Prepare; nothing is asked."""
        self._client = client
        self._category = category
        self._symbol = symbol
        self.name = f"{category}:{symbol}"
        self.asked: list[dict[str, Any]] = []

    def times(self, interval: Interval, window: Window) -> NDArray[np.int64]:
        """Return the open times in a window of at most 1000 slots, ascending and unique.

        Raises:
            ExchangeError: no usable answer; BadInterval when the interval is not served.
        """
        return self.times_and_older(interval, window)[0]

    def times_and_older(self, interval: Interval, window: Window) -> tuple[NDArray[np.int64], bool]:
        """Return what `times` does, and whether the answer held rows outside the window.

        Raises:
            ExchangeError: no usable answer; BadInterval when the interval is not served.
        """
        about: dict[str, Any] = {"interval": interval.code, "window": str(window)}
        self.asked.append(about)
        try:
            page = self._client.kline_page(self._series(interval), window)
        except BadInterval:
            about["refused"] = True
            raise
        times = np.unique(page.rows["open_time_ms"].to_numpy())
        about |= {"server_time": iso(page.server_time_ms), "rows": page.rows.num_rows}
        about |= {"clipped": page.clipped}
        if len(times):
            about |= {"first": iso(int(times[0])), "last": iso(int(times[-1]))}
        return times, page.clipped > 0

    def _series(self, interval: Interval) -> Series:
        return Series(self._category, self._symbol, interval)

    def first_served(
        self, codes: Sequence[str], window_of: Callable[[Interval], Window]
    ) -> tuple[Interval, NDArray[np.int64]]:
        """Return the first of several intervals that is served, and its open times in its window.

        Intervals that the exchange refused before are not asked for again.

        Raises:
            BadInterval: it serves none of them.
        """
        for code in codes:
            interval = Interval(code)
            if self._series(interval) in self._client.refused:
                continue
            try:
                return interval, self.times(interval, window_of(interval))
            except BadInterval:
                continue
        msg = f"{self._client.host} serves none of the intervals {', '.join(codes)} of {self.name}"
        raise BadInterval(msg + "; ask for another interval")


def first_edge(prober: Prober, day: Window) -> Edge:
    """Return the first candle of a life whose first daily candle is `day`."""
    around = Window(day.start_ms - DAY_MS, day.end_ms)
    return _edge(prober, around, Edge(day.start_ms, Interval("D")), last=False)


def last_edge(prober: Prober, day: Window) -> Edge:
    """Return the last candle of a life whose last daily candle is `day`."""
    around = Window(day.start_ms, day.end_ms + DAY_MS)
    return _edge(prober, around, Edge(day.end_ms, Interval("D")), last=True)


def _edge(prober: Prober, around: Window, otherwise: Edge, *, last: bool) -> Edge:
    for _ in range(2):
        codes = _finer(otherwise.interval)
        try:
            interval, times = prober.first_served(codes, partial(_on_grid, around))
        except BadInterval:
            return otherwise
        if not len(times):
            return otherwise
        opens_ms = _furthest(prober, interval, _on_grid(around, interval), times, last=last)
        closes_ms = interval.shift(opens_ms, 1)
        otherwise = Edge(closes_ms if last else opens_ms, interval)
        pad_ms = min(closes_ms - opens_ms, _HOUR_MS)
        around = Window(opens_ms - pad_ms, closes_ms + pad_ms)
    return otherwise


def _furthest(prober: Prober, interval: Interval, asked: Window, times: NDArray[np.int64], *, last: bool) -> int:
    """Return the outermost open time; where candles fill the window to its very edge, what lies beyond it is asked too.

    A coarser candle that the exchange leaves out would otherwise end a life too early, and nobody would miss the rest.
    """
    size_ms = asked.end_ms - asked.start_ms
    while len(times):
        opens_ms = int(times[-1 if last else 0])
        if interval.shift(opens_ms, 1) < asked.end_ms if last else opens_ms > asked.start_ms:
            return opens_ms
        beyond = asked.end_ms if last else asked.start_ms - size_ms
        asked = Window(beyond, beyond + size_ms)
        times = prober.times(interval, asked)
    return opens_ms


def _finer(interval: Interval) -> Sequence[str]:
    if interval.code == "D":
        return _NARROWING
    return INTERVAL_CODES[: INTERVAL_CODES.index(interval.code)]


def _on_grid(window: Window, interval: Interval) -> Window:
    return Window(interval.floor(window.start_ms), interval.ceil(window.end_ms))
