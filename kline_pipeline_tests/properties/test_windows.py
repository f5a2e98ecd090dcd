"""The arithmetic of windows against plain sets of minutes."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window, intersect_all, merge, subtract, windows_of

WINDOWS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: Window(pair[0], pair[0] + pair[1])), max_size=6
)


def points(windows: list[Window]) -> set[int]:
    return {point for window in windows for point in range(window.start_ms, window.end_ms)}


def tidy(windows: list[Window]) -> bool:
    return all(left.end_ms < right.start_ms for left, right in pairwise(windows))


@given(WINDOWS)
def test_merging_keeps_every_point_and_leaves_disjoint_windows(windows: list[Window]) -> None:
    assert points(merge(windows)) == points(windows)
    assert tidy(merge(windows))


@given(WINDOWS, WINDOWS)
def test_subtracting_leaves_exactly_what_is_not_taken(windows: list[Window], taken: list[Window]) -> None:
    assert points(subtract(windows, taken)) == points(windows) - points(taken)
    assert tidy(subtract(windows, taken))


@given(WINDOWS, WINDOWS)
def test_intersecting_leaves_exactly_what_is_in_both(windows: list[Window], others: list[Window]) -> None:
    assert points(intersect_all(windows, others)) == points(windows) & points(others)


@given(st.sets(st.integers(0, 60)))
def test_windows_of_open_times_hold_these_open_times_and_no_other(minutes: set[int]) -> None:
    minute = Interval("1")
    times = np.array(sorted(minutes), dtype=np.int64) * 60_000

    windows = windows_of(times, minute)

    assert [int(time) for window in windows for time in minute.grid(window.start_ms, window.end_ms)] == times.tolist()
    assert tidy(windows)
