"""A fetch is complete or says what is missing, and tells it from what was never listed."""

import threading
from dataclasses import replace

import pytest

from kline_pipeline.direct.candles import Fetch, closed_window
from kline_pipeline.direct.latest import latest
from kline_pipeline.errors import (
    BadSymbol,
    BetweenListings,
    Contradiction,
    Delisted,
    ExchangeError,
    IncompleteWindow,
    MalformedAnswer,
    NotListedYet,
    TooFewCandles,
    UsageError,
)
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.small_exchange import GRACE_MS, Case, source_of, times_of
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
SERIES = Series.parse("linear:AUSDT:1")
TWICE = ((ms("2024-01-10 05:17"), ms("2024-02-03 10:00")), (ms("2024-03-01 00:30"), ms("2024-04-01 08:00")))
CASE = Case(SERIES, TWICE, NOW_MS)


def day(first: str, last: str) -> Window:
    return Window(ms(first), ms(last))


def fetched(case: Case, *windows: Window) -> tuple[list[int], list[Window]]:
    with source_of(case) as (source, _):
        fetch = Fetch(source, {case.series: windows}, server_time_ms=case.now_ms)
        times = times_of([table for _, table in fetch.tables()])
        return times, fetch.unlisted[case.series]


@pytest.mark.parametrize(
    ("window", "error", "told"),
    [
        (day("2024-01-01", "2024-01-05"), NotListedYet, "2024-01-10T05:17:00Z"),
        (day("2024-02-05", "2024-02-06"), BetweenListings, "from 2024-02-03T10:00:00Z to 2024-03-01T00:30:00Z"),
        (day("2024-04-02", "2024-04-03"), Delisted, "2024-04-01T08:00:00Z"),
    ],
)
def test_why_there_is_no_candle_is_told_apart(window: Window, error: type[ExchangeError], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        fetched(CASE, window)
    assert caught.value.window == window
    assert not caught.value.retryable


def test_what_was_not_listed_is_said_beside_what_was() -> None:
    times, unlisted = fetched(CASE, day("2024-02-03", "2024-03-02"))
    assert unlisted == [day("2024-02-03 10:00", "2024-03-01 00:30")]
    assert len(times) == 10 * 60 + 23 * 60 + 30


def test_every_missing_candle_is_named() -> None:
    gone = {ms("2024-01-20 05:00"), ms("2024-01-20 05:01"), ms("2024-01-22"), ms("2024-01-31 23:59")}
    window = day("2024-01-20", "2024-02-01")
    with pytest.raises(IncompleteWindow, match="4 are missing although it was listed") as caught:
        fetched(replace(CASE, dropped_ms=frozenset(gone)), window)
    assert caught.value.missing_ms == tuple(sorted(gone))
    assert caught.value.window == window


def test_a_candle_that_only_one_answer_lacks_is_there() -> None:
    gone = ms("2024-01-20 05:00")
    drop = {"drop": {"category": "linear", "symbol": "AUSDT", "open_time": str(gone), "nth": 1}}
    times, _ = fetched(replace(CASE, faults=(drop,)), day("2024-01-20", "2024-01-21"))
    assert gone in times


def test_a_contradiction_that_is_gone_when_asked_again_is_none() -> None:
    about = {"category": "linear", "symbol": "AUSDT", "open_time": str(ms("2024-01-20 05:00"))}
    window = day("2024-01-20", "2024-01-21")
    assert len(fetched(replace(CASE, faults=({"contradict": {**about, "times": 1}},)), window)[0]) == 1440
    with pytest.raises(Contradiction, match="2024-01-20T05:00:00Z"):
        fetched(replace(CASE, faults=({"contradict": about},)), window)


def test_several_series_are_fetched_side_by_side_in_their_order() -> None:
    hourly = Series("linear", "AUSDT", Series.parse("linear:AUSDT:60").interval)
    window = day("2024-01-20", "2024-01-23")
    with source_of(CASE) as (source, _):
        fetch = Fetch(source, {hourly: [window], SERIES: [window]}, server_time_ms=NOW_MS)
        counts: dict[Series, int] = {}
        for series, table in fetch.tables():
            counts[series] = counts.get(series, 0) + len(table)
    assert list(counts.items()) == [(hourly, 72), (SERIES, 3 * 1440)]


def test_inverse_does_not_take_linear_candles_for_its_own() -> None:
    inverse = replace(CASE, series=Series.parse("inverse:AUSDT:1"))
    linear_only = CASE.exchange()
    with source_of(inverse, None, linear_only) as (source, _), pytest.raises(BadSymbol):
        list(Fetch(source, {inverse.series: [day("2024-01-20", "2024-01-21")]}, server_time_ms=NOW_MS).tables())


def test_an_impossible_candle_is_no_candle() -> None:
    about = {"category": "linear", "symbol": "AUSDT", "open_time": str(ms("2024-01-20 05:00"))}
    broken = {"correct": {**about, "close": "1e5"}}
    with pytest.raises(MalformedAnswer):
        fetched(replace(CASE, faults=(broken,)), day("2024-01-20", "2024-01-21"))


def test_what_is_wrong_beside_the_window_is_nobodys_business() -> None:
    about = {"category": "linear", "symbol": "AUSDT", "open_time": str(ms("2024-01-20 05:00"))}
    beside = day("2024-01-20 05:01", "2024-01-20 08:00")
    assert len(fetched(replace(CASE, faults=({"contradict": about},)), beside)[0]) == 179


@pytest.mark.parametrize("window", [day("1969-01-01", "1969-01-02"), day("0024-01-01", "0024-01-02")])
def test_before_anything_was_listed_nothing_is_asked_for(window: Window) -> None:
    with pytest.raises(NotListedYet, match="2024-01-10T05:17:00Z"):
        fetched(CASE, window)
    times, unlisted = fetched(CASE, Window(window.start_ms, ms("2024-01-10 05:20")))
    assert (len(times), unlisted) == (3, [Window(window.start_ms, ms("2024-01-10 05:17"))])
    with pytest.raises(NotListedYet):
        last(CASE, 3, "1960-01-01")


@pytest.mark.parametrize("count", [2.5, "abc", None])
def test_what_is_no_number_is_no_count(count: object) -> None:
    with source_of(CASE) as (source, exchange), pytest.raises(UsageError, match="no number of candles"):
        latest(source, SERIES, count, end_ms=None, server_time_ms=NOW_MS)  # type: ignore[arg-type]
    assert exchange.stats.requests("kline") == 0


def test_the_window_ends_with_what_has_closed() -> None:
    window = closed_window(SERIES, ms("2024-04-10"), ms("2024-04-11"), server_time_ms=NOW_MS, grace_ms=GRACE_MS)
    assert window == day("2024-04-10", "2024-04-10 12:34")
    with pytest.raises(UsageError, match="has closed"):
        closed_window(SERIES, ms("2024-04-10 12:34"), ms("2024-04-11"), server_time_ms=NOW_MS, grace_ms=GRACE_MS)


def last(case: Case, count: int, end: str | None = None) -> list[int]:
    with source_of(case) as (source, _):
        end_ms = None if end is None else ms(end)
        return times_of([latest(source, case.series, count, end_ms=end_ms, server_time_ms=case.now_ms)])


def test_the_last_candles_reach_across_a_hole_between_listings() -> None:
    times = last(CASE, 2000, "2024-03-02")
    assert len(times) == 2000
    assert times[-1] == ms("2024-03-01 23:59")
    assert ms("2024-02-03 09:59") in times


def test_fewer_than_asked_is_an_error_that_says_how_many_exist() -> None:
    hourly = replace(CASE, series=Series.parse("linear:AUSDT:60"))
    with pytest.raises(TooFewCandles, match="only 5 exist") as caught:
        last(hourly, 10, "2024-01-10 10:00")
    assert caught.value.exist == 5


def test_the_last_candles_before_the_first_are_none() -> None:
    with pytest.raises(NotListedYet):
        last(CASE, 10, "2024-01-09")


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_a_count_that_cannot_be_is_refused_before_anything_is_asked(count: int) -> None:
    with source_of(CASE) as (source, exchange), pytest.raises(UsageError, match="1 to 100,000"):
        latest(source, SERIES, count, end_ms=None, server_time_ms=NOW_MS)
    assert exchange.stats.requests("kline") == 0


def test_a_missing_candle_among_the_last_is_an_error() -> None:
    gone = ms("2024-03-20 05:00")
    with pytest.raises(IncompleteWindow) as caught:
        last(replace(CASE, dropped_ms=frozenset({gone})), 500, "2024-03-20 06:00")
    assert caught.value.missing_ms == (gone,)


def test_no_thread_is_left_when_a_fetch_is_given_up() -> None:
    with source_of(CASE) as (source, _):
        tables = Fetch(source, {SERIES: [day("2024-01-20", "2024-01-30")]}, server_time_ms=NOW_MS).tables()
        next(tables)
        assert any(thread.name.startswith("pages") for thread in threading.enumerate())
        tables.close()  # type: ignore[attr-defined]
    gone = frozenset({ms("2024-01-20 05:00")})
    with pytest.raises(IncompleteWindow) as caught:
        fetched(replace(CASE, dropped_ms=gone), day("2024-01-20", "2024-01-30"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pages")]
    assert caught.value.missing_ms
