"""Pages: their plan, what they prove and lack, and fetching them in order."""

import threading
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.bybit.pages import Page, PageFailure, fetch_pages, missing, plan
from kline_pipeline.errors import BadSymbol, CountryBlocked, ExchangeUnavailable
from kline_pipeline.market.interval import INTERVAL_CODES, Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso
from kline_pipeline_tests.exchanges import NOW_MS, canned, ok, simulated

MINUTE = Series.parse("linear:BTCUSDT:1")
DAY = Window(1_712_534_400_000, 1_712_620_800_000)  # 2024-04-08
OPEN_HOUR = Window(1_712_750_400_000, 1_712_754_000_000)  # 12:00 to 13:00, it is 12:34:56


@given(
    code=st.sampled_from(INTERVAL_CODES),
    start_ms=st.integers(1_500_000_000_000, 1_700_000_000_000),
    length_ms=st.integers(0, 200_000_000_000),
)
def test_a_plan_holds_every_slot_once_in_full_pages(code: str, start_ms: int, length_ms: int) -> None:
    interval = Interval(code)
    pages = plan(Window(start_ms, start_ms + length_ms), interval)
    slots = [interval.count(page.start_ms, page.end_ms) for page in pages]
    assert sum(slots) == interval.count(start_ms, start_ms + length_ms)
    assert all(slot == 1000 for slot in slots[:-1])
    assert all(1 <= slot <= 1000 for slot in slots)
    assert all(a.end_ms == b.start_ms for a, b in pairwise(pages))


def test_a_month_of_minutes_is_forty_five_pages() -> None:
    january = Window(1_704_067_200_000, 1_706_745_600_000)
    assert len(plan(january, Interval("1"))) == 45


def test_a_page_proves_only_what_had_closed_when_the_exchange_answered() -> None:
    with simulated() as (asked, _):
        page = asked.client.kline_page(MINUTE, OPEN_HOUR)
    assert page.rows.num_rows == 35  # 12:00 to 12:34, the last one open
    assert iso(page.closed_window(10_000).end_ms) == "2024-04-10T12:34:00Z"
    assert iso(page.closed_window(57_000).end_ms) == "2024-04-10T12:33:00Z"
    assert not page.closed_window(3_600_000)
    assert len(missing(page, 10_000)) == 0


def test_a_page_names_the_closed_candles_that_it_lacks() -> None:
    drop = {"category": "linear", "symbol": "BTCUSDT", "open_time": "2024-04-10T12:05"}
    with simulated() as (asked, exchange):
        exchange.faults.replace([{"drop": drop}])
        page = asked.client.kline_page(MINUTE, OPEN_HOUR)
    assert [iso(int(time_ms)) for time_ms in missing(page, 10_000)] == ["2024-04-10T12:05:00Z"]


def test_duplicates_stay_in_the_page() -> None:
    same = {"category": "linear", "symbol": "BTCUSDT", "open_time": "2024-04-10T12:05"}
    for kind in ("duplicate", "contradict"):
        with simulated() as (asked, exchange):
            exchange.faults.replace([{kind: same}])
            page = asked.client.kline_page(MINUTE, OPEN_HOUR)
        assert page.rows.num_rows == 36
        assert len(missing(page, 10_000)) == 0


def test_rows_in_any_order_are_all_kept() -> None:
    times = [OPEN_HOUR.start_ms + minute * 60_000 for minute in (3, 1, 2, 0)]
    rows = [[str(time_ms), "1", "1", "1", "1", "1", "1"] for time_ms in times]
    body = ok({"symbol": "BTCUSDT", "category": "linear", "list": rows})
    with canned(lambda _: httpx.Response(200, json=body)) as asked:
        page = asked.client.kline_page(MINUTE, OPEN_HOUR)
    assert page.rows["open_time_ms"].to_pylist() == times


def test_pages_come_in_the_order_of_the_asks_with_every_candle() -> None:
    windows = plan(DAY, Interval("1")) * 5
    with simulated() as (asked, _):
        pages = list(fetch_pages(asked.client.kline_page, [(MINUTE, window) for window in windows], 4))
    assert [page.window for page in pages] == windows
    assert sum(page.rows.num_rows for page in pages if isinstance(page, Page)) == 5 * 1440


def test_a_symbol_that_is_refused_does_not_stop_the_others() -> None:
    window = plan(DAY, Interval("1"))[0]
    unknown = Series.parse("linear:NOPEUSDT:1")
    with simulated() as (asked, _):
        first, second, third = fetch_pages(
            asked.client.kline_page, [(MINUTE, window), (unknown, window), (MINUTE, window)], 2
        )
    assert isinstance(first, Page)
    assert isinstance(third, Page)
    assert isinstance(second, PageFailure)
    assert (second.series, second.window) == (unknown, window)
    assert isinstance(second.error, BadSymbol)


@pytest.mark.parametrize(
    ("fault", "error"),
    [({"http": {"status": 503}}, ExchangeUnavailable), ({"country_block": {}}, CountryBlocked)],
)
def test_an_exchange_that_is_down_stops_the_work(fault: dict[str, object], error: type[Exception]) -> None:
    windows = plan(Window(DAY.start_ms - 40 * 86_400_000, DAY.end_ms), Interval("1"))
    with simulated(retry_max_attempts=2) as (asked, exchange):
        exchange.faults.replace([fault])
        with pytest.raises(error):
            list(fetch_pages(asked.client.kline_page, [(MINUTE, window) for window in windows], 2))
    assert len(asked.sent) <= 8  # two threads, two pages each, two tries


def test_pages_before_the_one_that_failed_have_been_yielded() -> None:
    windows = plan(DAY, Interval("60")) * 6
    calls = iter(range(100))
    lock = threading.Lock()

    def handler(_: httpx.Request) -> httpx.Response:
        with lock:
            number = next(calls)
        body = ok({"symbol": "BTCUSDT", "category": "linear", "list": []})
        return httpx.Response(200, json=body) if number < 3 else httpx.Response(503)

    hourly = Series.parse("linear:BTCUSDT:60")
    seen: list[object] = []
    with canned(handler, retry_max_attempts=1) as asked, pytest.raises(ExchangeUnavailable):
        seen.extend(fetch_pages(asked.client.kline_page, [(hourly, window) for window in windows], 1))
    assert len(seen) == 3


def test_no_more_than_twice_the_concurrency_is_asked_ahead() -> None:
    taken = 0

    def asks() -> Iterator[tuple[Series, Window]]:
        nonlocal taken
        for window in plan(Window(DAY.start_ms - 20 * 86_400_000, DAY.end_ms), Interval("1")):
            taken += 1
            yield MINUTE, window

    with simulated() as (asked, _):
        answers = fetch_pages(asked.client.kline_page, asks(), 2)
        next(answers)
        assert taken == 4
        answers.close()
    assert asked.client.requests.total() <= 4
    assert asked.client.server_time_ms_seen == NOW_MS
