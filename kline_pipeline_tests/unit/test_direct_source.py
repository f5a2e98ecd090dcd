"""Pages on their fixed grid, and which of them come from the cache."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.bybit.cache.page_cache import PageCache, open_cache
from kline_pipeline.direct.candles import Fetch
from kline_pipeline.direct.latest import latest
from kline_pipeline.direct.source import SETTLED_MS, pages_of
from kline_pipeline.errors import IncompleteWindow, NotListedYet, TooFewCandles
from kline_pipeline.market.interval import INTERVAL_CODES, Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline_tests.small_exchange import Case, source_of, times_of
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
MARCH = Window(ms("2024-03-01"), ms("2024-04-01"))
CASE = Case(Series.parse("linear:AUSDT:1"), ((ms("2023-01-01 00:07"), None),), NOW_MS)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[PageCache]:
    opened = open_cache(f"file:{tmp_path}", venue="small", ttl_days=7, max_mb=100, clock_ms=lambda: NOW_MS)
    assert opened is not None
    with opened as cache:
        yield cache


def requests(exchange: Exchange) -> int:
    return exchange.stats.requests("kline") + exchange.stats.requests("instruments-info")


def fetch(
    case: Case, window: Window, cache: PageCache | None, exchange: Exchange | None = None
) -> tuple[list[int], int]:
    """Return the open times that came, and the requests that they took."""
    with source_of(case, cache, exchange) as (source, served):
        before = requests(served)
        got = Fetch(source, {case.series: [window]}, server_time_ms=case.now_ms)
        times = times_of([table for _, table in got.tables()])
        return times, requests(served) - before


@given(st.sampled_from(INTERVAL_CODES), st.integers(0, 3000), st.integers(1, 3000))
def test_pages_are_full_neighbours_that_hold_the_window(code: str, back: int, slots: int) -> None:
    interval = Interval(code)
    end_ms = interval.shift(interval.floor(NOW_MS), -back)
    window = Window(max(interval.shift(end_ms, -slots), interval.ceil(0)), max(end_ms, interval.ceil(0)))
    pages = pages_of(window, interval, NOW_MS)
    assert all(left.end_ms == right.start_ms for left, right in pairwise(pages))
    if window:
        assert pages[0].start_ms <= window.start_ms
        assert pages[-1].end_ms >= window.end_ms
    counts = [interval.count(page.start_ms, page.end_ms) for page in pages]
    assert all(count == 1000 for count in counts[:-1])
    assert all(0 < count <= 1000 for count in counts[-1:])


def test_ranges_that_overlap_share_their_pages() -> None:
    interval = Interval("1")
    whole = pages_of(MARCH, interval, NOW_MS)
    part = pages_of(Window(MARCH.start_ms + 7 * 60_000, MARCH.end_ms - 11 * 60_000), interval, NOW_MS)
    assert set(part) <= set(whole)


def test_a_page_that_has_not_settled_ends_where_the_window_does() -> None:
    end_ms = Interval("1").floor(NOW_MS)
    assert pages_of(Window(end_ms - 600_000, end_ms), Interval("1"), NOW_MS)[-1].end_ms == end_ms


def test_the_second_fetch_of_a_closed_month_asks_for_nothing(cache: PageCache) -> None:
    first, asked = fetch(CASE, MARCH, cache)
    assert asked == 46
    assert fetch(CASE, MARCH, cache) == (first, 0)


def test_a_page_from_the_cache_is_not_written_again(cache: PageCache, tmp_path: Path) -> None:
    fetch(CASE, MARCH, cache)
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*.page")}
    fetch(CASE, MARCH, cache)
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*.page")} == before


def test_the_second_fetch_across_the_first_candle_asks_for_nothing(cache: PageCache) -> None:
    born = replace(CASE, lives=((ms("2024-03-10 05:17"), None),))
    first, _ = fetch(born, MARCH, cache)
    assert first[0] == ms("2024-03-10 05:17")
    assert fetch(born, MARCH, cache) == (first, 0)


def test_fetching_again_past_the_cache_asks_for_everything_and_replaces_it(cache: PageCache) -> None:
    fetch(CASE, MARCH, cache)
    with source_of(CASE, cache) as (source, exchange):
        past = type(source)(source.client, cache, grace_ms=source.grace_ms, concurrency=4, refetch=True)
        list(Fetch(past, {CASE.series: [MARCH]}, server_time_ms=NOW_MS).tables())
        assert exchange.stats.requests("kline") == 46
    assert fetch(CASE, MARCH, cache)[1] == 0


def test_what_closed_just_before_the_answer_is_not_kept(cache: PageCache) -> None:
    end_ms = Interval("1").floor(NOW_MS - SETTLED_MS) + 60_000
    window = Window(end_ms - 60_000_000, end_ms)
    assert fetch(CASE, window, cache)[1] == fetch(CASE, window, cache)[1] + 1  # the older page was kept


def test_a_candle_that_was_missing_is_asked_for_again(cache: PageCache) -> None:
    gone = ms("2024-03-10 05:17")
    with pytest.raises(IncompleteWindow) as caught:
        fetch(replace(CASE, dropped_ms=frozenset({gone})), MARCH, cache)
    assert caught.value.missing_ms == (gone,)
    times, asked = fetch(CASE, MARCH, cache)
    assert gone in times
    assert asked == 1


def test_a_hole_in_a_page_beside_the_window_is_no_hole_for_who_wants_it_later(cache: PageCache) -> None:
    page = pages_of(MARCH, CASE.series.interval, NOW_MS)[3]
    gone = page.start_ms + 60_000
    beside = Window(page.start_ms + 600_000, page.end_ms)
    fetch(replace(CASE, dropped_ms=frozenset({gone})), beside, cache)
    times, asked = fetch(CASE, page, cache)
    assert (gone in times, asked) == (True, 1)


def test_an_instrument_that_was_delisted_since_is_looked_up_again(cache: PageCache) -> None:
    fetch(replace(CASE, lives=((ms("2024-03-10 05:17"), None),)), MARCH, cache)
    until_ms = ms("2024-04-05 10:00")
    later = replace(CASE, lives=((ms("2024-03-10 05:17"), until_ms),))
    times, _ = fetch(later, Window(ms("2024-04-01"), ms("2024-04-08")), cache)
    assert times[-1] == until_ms - 60_000


TWICE = ((ms("2024-01-10 05:17"), ms("2024-02-03 10:00")), (ms("2024-03-01 00:30"), None))


def last(case: Case, count: int, cache: PageCache) -> list[int]:
    with source_of(case, cache) as (source, _):
        return times_of([latest(source, case.series, count, end_ms=None, server_time_ms=case.now_ms)])


def test_a_listing_that_was_probed_before_the_relisting_excuses_nothing_after_it(cache: PageCache) -> None:
    between = replace(CASE, series=Series.parse("linear:AUSDT:60"), lives=TWICE[:1], now_ms=ms("2024-02-20 12:00"))
    assert last(between, 100, cache)[-1] == ms("2024-02-03 09:00")
    gone = ms("2024-03-05 05:00")
    after = replace(between, lives=TWICE, now_ms=NOW_MS, dropped_ms=frozenset({gone}))
    assert last(replace(after, dropped_ms=frozenset()), 2, cache)[-1] == ms("2024-04-10 11:00")
    with pytest.raises(IncompleteWindow) as caught:
        fetch(after, Window(ms("2024-03-04"), ms("2024-03-06")), cache)
    assert caught.value.missing_ms == (gone,)


def test_an_instrument_that_had_no_candle_yet_is_looked_up_again(cache: PageCache) -> None:
    announced = replace(CASE, lives=((ms("2024-04-08 08:00"), None),), now_ms=ms("2024-04-01"))
    with pytest.raises(NotListedYet):
        last(announced, 5, cache)
    with pytest.raises(TooFewCandles):
        last(replace(announced, now_ms=NOW_MS), 5000, cache)
