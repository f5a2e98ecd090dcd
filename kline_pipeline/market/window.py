"""Half-open windows of time and their arithmetic; what a window means for a series is decided elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.market.interval import Interval


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open range of time [start_ms, end_ms), UTC milliseconds since the epoch.

    Raises:
        ValueError: the end lies before the start.
    """

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        if self.end_ms < self.start_ms:
            msg = f"a window cannot end ({iso(self.end_ms)}) before it starts ({iso(self.start_ms)})"
            raise ValueError(msg)

    def __str__(self) -> str:
        return f"[{iso(self.start_ms)}, {iso(self.end_ms)})"

    def __bool__(self) -> bool:
        return self.end_ms > self.start_ms

    def __contains__(self, time_ms: int) -> bool:
        return self.start_ms <= time_ms < self.end_ms

    def intersect(self, other: "Window") -> "Window":
        """Return the common part; an empty window (false) when there is none."""
        start_ms = max(self.start_ms, other.start_ms)
        return Window(start_ms, max(start_ms, min(self.end_ms, other.end_ms)))


def iso(time_ms: int) -> str:
    """Return a UTC time as people read it: 2024-01-31T23:59:00Z, milliseconds only where there are any.

    What lies outside the years 1 to 9999, as in a spoilt file or a row of a strange hand, is told as milliseconds.
    """
    try:
        moment = datetime.fromtimestamp(time_ms // 1000, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return f"{time_ms:,} ms"
    rest_ms = time_ms % 1000
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{rest_ms:03d}Z" if rest_ms else "Z")


def to_ms(moment: datetime) -> int:
    """Return UTC milliseconds of an aware datetime.

    Raises:
        ValueError: the datetime has no time zone.
    """
    if moment.tzinfo is None:
        msg = f"{moment} has no time zone; times here are UTC and say so"
        raise ValueError(msg)
    return round(moment.timestamp() * 1000)


def merge(windows: Iterable[Window]) -> list[Window]:
    """Return the union as disjoint windows in ascending order; touching ones are joined, empty ones left out."""
    merged: list[Window] = []
    for window in sorted(window for window in windows if window):
        if merged and window.start_ms <= merged[-1].end_ms:
            merged[-1] = Window(merged[-1].start_ms, max(merged[-1].end_ms, window.end_ms))
        else:
            merged.append(window)
    return merged


def subtract(windows: Iterable[Window], taken: Iterable[Window]) -> list[Window]:
    """Return what of `windows` no window of `taken` covers, disjoint and ascending."""
    rest: list[Window] = []
    cuts = merge(taken)
    for window in merge(windows):
        start_ms = window.start_ms
        for cut in cuts:
            if cut.end_ms <= start_ms or cut.start_ms >= window.end_ms:
                continue
            if cut.start_ms > start_ms:
                rest.append(Window(start_ms, cut.start_ms))
            start_ms = max(start_ms, cut.end_ms)
        if start_ms < window.end_ms:
            rest.append(Window(start_ms, window.end_ms))
    return rest


def intersect_all(windows: Iterable[Window], others: Sequence[Window]) -> list[Window]:
    """Return the common part of two sets of windows, disjoint and ascending."""
    return merge(window.intersect(other) for window in windows for other in others)


def absent_of(expected_ms: NDArray[np.int64], present_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of some times (ascending, unique) that are not among others (in any order), ascending."""
    # All of them there, ascending or newest first as the exchange serves them, is the rule, and costs no sorting.
    if np.array_equal(expected_ms, present_ms) or np.array_equal(expected_ms, present_ms[::-1]):
        return expected_ms[:0]
    return expected_ms[~np.isin(expected_ms, present_ms)]


def windows_of(open_times_ms: NDArray[np.int64], interval: Interval) -> list[Window]:
    """Return the windows that ascending open times on the grid fill: one for each run of neighbours."""
    if not len(open_times_ms):
        return []
    closes_ms = interval.close_times(open_times_ms)
    breaks = np.flatnonzero(open_times_ms[1:] != closes_ms[:-1])
    firsts = np.concatenate(([0], breaks + 1))
    lasts = np.concatenate((breaks, [len(open_times_ms) - 1]))
    return [Window(int(open_times_ms[first]), int(closes_ms[last])) for first, last in zip(firsts, lasts, strict=True)]
