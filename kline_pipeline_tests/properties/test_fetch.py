"""Whatever the listing, the order of rows, the faults, the concurrency: the closed candles, or what is missing."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kline_pipeline.direct.candles import Fetch
from kline_pipeline.direct.latest import latest
from kline_pipeline.direct.source import Source
from kline_pipeline.errors import Contradiction, ExchangeError, IncompleteWindow, NotListed, TooFewCandles
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso
from kline_pipeline_tests.properties.cases import PERSISTENT, cases, transient_faults
from kline_pipeline_tests.small_exchange import Case, all_as_served, sorted_unique, source_of, times_of

# Both lives lie on the page that has not settled yet; the second began minutes ago.
LISTED_AGAIN = (
    Case(
        series=Series("linear", "AUSDT", Interval("240")),
        lives=((1_707_076_800_000, 1_712_337_540_000), (1_712_750_340_000, None)),
        now_ms=1_712_752_496_000,
    ),
    Window(1_709_913_600_000, 1_712_750_400_000),
)


def fetched(source: Source, case: Case, window: Window) -> list[pa.Table]:
    fetch = Fetch(source, {case.series: [window]}, server_time_ms=case.now_ms)
    return [table for _, table in fetch.tables()]


def inner(case: Case, window: Window) -> list[int]:
    """Return the listed open times that lie at no end of a life: without those nobody can know where it ended."""
    ends = {case.series.interval.floor(one - offset) for life in case.lives for one in life if one for offset in (0, 1)}
    step_ms = case.series.interval.typical_ms
    return [one for one in sorted(case.listed(window)) if not any(abs(one - end) <= step_ms for end in ends)]


@settings(max_examples=500)
@given(cases(), transient_faults())
def test_a_fetch_is_exactly_the_closed_candles(drawn: tuple[Case, Window], faults: tuple[dict[str, Any], ...]) -> None:
    case, window = drawn
    case = replace(case, faults=faults)
    expected = sorted(case.listed(window))
    with source_of(case) as (source, _):
        if not expected:
            with pytest.raises(NotListed):
                fetched(source, case, window)
            return
        tables = fetched(source, case, window)
    assert times_of(tables) == expected
    assert all_as_served(tables, case.series.interval)


@settings(max_examples=250)
@given(cases(), transient_faults(), st.data())
def test_what_the_exchange_leaves_out_is_named(
    drawn: tuple[Case, Window], faults: tuple[dict[str, Any], ...], data: st.DataObject
) -> None:
    case, window = drawn
    candidates = inner(case, window)
    if not candidates:
        return
    dropped = data.draw(st.sets(st.sampled_from(candidates), min_size=1, max_size=5))
    case = replace(case, faults=faults, dropped_ms=frozenset(dropped))
    with source_of(case) as (source, _), pytest.raises(IncompleteWindow) as caught:
        fetched(source, case, window)
    assert caught.value.missing_ms == tuple(sorted(dropped))
    assert all(iso(one) in str(caught.value) for one in sorted(dropped)[:3])


@settings(max_examples=200)
@given(cases(holes_of_days=False), PERSISTENT)
def test_faults_that_stay_never_make_a_shorter_list(
    drawn: tuple[Case, Window], faults: tuple[dict[str, Any], ...]
) -> None:
    case, window = drawn
    case = replace(case, faults=faults)
    expected = sorted(case.listed(window))
    with source_of(case) as (source, _):
        tables, error = _tried(source, case, window)
    if error is None:
        assert times_of(tables) == expected
        assert all_as_served(tables, case.series.interval)
    elif isinstance(error, IncompleteWindow):
        # A hole too short for probes to see: what is named as missing is really not there.
        assert error.missing_ms
        assert not set(error.missing_ms) & set(expected)


def _tried(source: Source, case: Case, window: Window) -> tuple[list[pa.Table], ExchangeError | None]:
    try:
        return fetched(source, case, window), None
    except ExchangeError as exc:
        return [], exc


@settings(max_examples=200)
@given(cases(), transient_faults(), st.data())
def test_rows_that_come_twice_count_once_and_contradictions_are_named(
    drawn: tuple[Case, Window], faults: tuple[dict[str, Any], ...], data: st.DataObject
) -> None:
    case, window = drawn
    expected = sorted(case.listed(window))
    if not expected:
        return
    kind = data.draw(st.sampled_from(["duplicate", "contradict"]))
    chosen = data.draw(st.sampled_from(expected))
    about = {"category": case.series.category, "symbol": case.series.symbol, "interval": case.series.interval.code}
    case = replace(case, faults=({kind: {**about, "open_time": str(chosen)}}, *faults))
    with source_of(case) as (source, _):
        if kind == "contradict":
            with pytest.raises(Contradiction) as caught:
                fetched(source, case, window)
            assert caught.value.open_times_ms == (chosen,)
            return
        tables = fetched(source, case, window)
    assert times_of(tables) == expected


@settings(max_examples=200)
@example(drawn=LISTED_AGAIN, faults=(), count=3)
@given(cases(), transient_faults(), st.integers(1, 3000))
def test_the_last_candles_are_exactly_so_many_or_the_error_says_how_many_exist(
    drawn: tuple[Case, Window], faults: tuple[dict[str, Any], ...], count: int
) -> None:
    case, window = drawn
    case = replace(case, faults=faults)
    existing = sorted(case.listed(Window(0, window.end_ms)))
    with source_of(case) as (source, _):
        asked = {"end_ms": window.end_ms, "server_time_ms": case.now_ms}
        if not existing:
            with pytest.raises(NotListed):
                latest(source, case.series, count, **asked)
        elif len(existing) < count:
            with pytest.raises(TooFewCandles) as caught:
                latest(source, case.series, count, **asked)
            assert caught.value.exist == len(existing)
        else:
            candles = latest(source, case.series, count, **asked)
            assert times_of([candles]) == existing[-count:]
            assert all_as_served([candles], case.series.interval)
            assert sorted_unique(times_of([candles]))
