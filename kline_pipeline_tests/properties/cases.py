"""Strategies for cases: listings with holes, windows, dropped candles and faults of every kind."""

from typing import Any

from hypothesis import strategies as st

from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.small_exchange import GRACE_MS, Case

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = 1_712_752_496_000  # 2024-04-10T12:34:56Z
CODES = ("1", "3", "15", "60", "240", "D", "W", "M")
Faults = st.SearchStrategy[dict[str, dict[str, Any]]]
_SLOTS = st.integers(0, 2600)

# Each passes by itself: together they hit one request at most four times, and a request has five tries.
TRANSIENT: Faults = st.sampled_from(
    [
        {"http": {"status": 500}}, {"http": {"status": 502}}, {"http": {"status": 429}},
        {"ret_code": {"code": 10006}}, {"ret_code": {"code": 10016}}, {"ret_code": {"code": 10000}},
        {"slow": {"seconds": 30}}, {"reset": {}}, {"truncate": {}}, {"wrong_symbol": {}},
    ]
)  # fmt: skip
HARMLESS: Faults = st.sampled_from(
    [{"shuffle": {}}, {"shuffle": {"probability": 0.5}}, {"limit_headers": {"limit": 9, "remaining": 0}}]
)


@st.composite
def transient_faults(draw: st.DrawFn) -> tuple[dict[str, Any], ...]:
    """Return faults that a careful client outlives, and some that change nothing."""
    found = [
        {kind: {**words, "times": 1, **draw(_WHERE)}}
        for fault in draw(st.lists(TRANSIENT, max_size=4))
        for kind, words in fault.items()
    ]
    return (*found, *draw(st.lists(HARMLESS, max_size=1)))


_WHERE: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}), st.just({"path": "kline"}), st.integers(1, 6).map(lambda n: {"nth": n}), st.just({"probability": 0.5})
)
PERSISTENT = st.lists(
    st.tuples(TRANSIENT, st.sampled_from([0.05, 0.2, 0.6, 1.0])).map(
        lambda pair: {kind: {**words, "probability": pair[1]} for kind, words in pair[0].items()}
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@st.composite
def windows(draw: st.DrawFn, interval: Interval) -> Window:
    """Return a window on the grid whose candles have all closed, mostly near the lives that `cases` draws."""
    closed_ms = interval.closed_end(NOW_MS, GRACE_MS)
    end_ms = interval.shift(closed_ms, -draw(_SLOTS if interval.code in CODES[:5] else st.integers(0, 80)))
    start_ms = interval.shift(end_ms, -draw(st.integers(1, 2300 if interval.code in CODES[:5] else 120)))
    return Window(max(start_ms, interval.ceil(0)), end_ms)


@st.composite
def cases(draw: st.DrawFn, *, holes_of_days: bool = True) -> tuple[Case, Window]:
    """Return a case without faults and a window of closed candles of it.

    Args:
        draw: of hypothesis.
        holes_of_days: every hole between two lives has a whole UTC day in it, so that probes must see it.
    """
    interval = Interval(draw(st.sampled_from(CODES)))
    window = draw(windows(interval))
    span_ms = max(window.end_ms - window.start_ms, MINUTE_MS)
    around_ms = st.integers(window.start_ms - span_ms, window.end_ms).map(lambda ms: ms // MINUTE_MS * MINUTE_MS)
    first_ms = max(draw(around_ms), 1_546_300_800_000)  # not before 2019
    lives: list[tuple[int, int | None]] = [(min(first_ms, NOW_MS - 2 * DAY_MS) // MINUTE_MS * MINUTE_MS, None)]
    if draw(st.booleans()):
        lives = _parted(draw, lives[0][0], holes_of_days=holes_of_days)
    category = draw(st.sampled_from(["linear", "spot", "inverse"]))
    case = Case(Series(category, "AUSDT", interval), tuple(lives), NOW_MS, concurrency=draw(st.integers(1, 6)))
    return case, window


def _parted(draw: st.DrawFn, first_ms: int, *, holes_of_days: bool) -> list[tuple[int, int | None]]:
    room = max((NOW_MS - first_ms) // MINUTE_MS, 3 * 1440)
    until_ms = first_ms + draw(st.integers(1, room)) * MINUTE_MS
    if until_ms >= NOW_MS or draw(st.booleans()):
        return [(first_ms, min(until_ms, NOW_MS // MINUTE_MS * MINUTE_MS))]
    least_ms = 2 * DAY_MS if holes_of_days else MINUTE_MS
    again_ms = until_ms + least_ms + draw(st.integers(0, 4000)) * MINUTE_MS
    return [(first_ms, until_ms), (again_ms, None)] if again_ms < NOW_MS else [(first_ms, until_ms)]
