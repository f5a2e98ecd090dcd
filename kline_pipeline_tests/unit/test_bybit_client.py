"""One question to the exchange: what is sent, what is tried again, and what a failure says."""

from collections import Counter

import httpx
import pytest

from kline_pipeline.errors import (
    BadInterval,
    BadSymbol,
    Banned,
    ClockSkew,
    CountryBlocked,
    ExchangeUnavailable,
    MalformedAnswer,
    RateLimited,
    ServerBusy,
)
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.exchanges import NOW_MS, answers, canned, ok, simulated

MINUTE = Series.parse("linear:BTCUSDT:1")
MONTHLY = Series.parse("linear:BTCUSDT:M")
HOUR = Window(1_712_746_800_000, 1_712_750_400_000)  # 2024-04-10 11:00 to 12:00
EMPTY = ok({"symbol": "BTCUSDT", "category": "linear", "list": []})
BUSY = {"retCode": 10016, "retMsg": "Server error", "result": {}, "time": NOW_MS}
LIMITED = {"retCode": 10006, "retMsg": "Too many visits.", "result": {}, "time": NOW_MS}


def test_every_parameter_is_sent_and_the_end_is_the_last_open_time() -> None:
    with canned(answers(EMPTY)) as asked:
        asked.client.kline_page(MINUTE, HOUR)
    (request,) = asked.sent
    assert (request.method, request.url.path, request.content) == ("GET", "/v5/market/kline", b"")
    assert dict(request.url.params) == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "interval": "1",
        "start": "1712746800000",
        "end": "1712750340000",
        "limit": "1000",
    }


def test_the_end_of_a_page_of_months_is_the_first_of_its_last_month() -> None:
    with canned(answers(EMPTY)) as asked:
        asked.client.kline_page(MONTHLY, Window(1_704_067_200_000, 1_711_929_600_000))  # January to March
    assert asked.sent[0].url.params["end"] == "1709251200000"  # 2024-03-01


def test_a_page_of_the_exchange_holds_every_candle_of_its_window_and_no_other() -> None:
    with simulated() as (asked, _):
        page = asked.client.kline_page(MINUTE, HOUR)
    times = page.rows["open_time_ms"].to_pylist()
    assert times == list(range(HOUR.end_ms - 60_000, HOUR.start_ms - 1, -60_000))
    assert (page.server_time_ms, page.receive_time_ms, page.host) == (
        NOW_MS,
        NOW_MS + 5,
        "127.0.0.1:1",
    )
    assert page.clipped == 0
    assert asked.client.requests == Counter({("kline", "ok"): 1})
    assert asked.client.server_time_ms_seen == NOW_MS


def test_a_thousand_slots_come_whole() -> None:
    window = Window(HOUR.end_ms - 1000 * 60_000, HOUR.end_ms)
    with simulated() as (asked, _):
        rows = asked.client.kline_page(MINUTE, window).rows
    assert rows.num_rows == 1000
    assert min(rows["open_time_ms"].to_pylist()) == window.start_ms


@pytest.mark.parametrize(
    "window",
    [
        Window(HOUR.start_ms, HOUR.start_ms),
        Window(HOUR.start_ms + 1, HOUR.end_ms),
        Window(HOUR.start_ms, HOUR.end_ms + 1),
        Window(HOUR.end_ms - 1001 * 60_000, HOUR.end_ms),
    ],
)
def test_a_window_that_no_page_can_hold_is_not_asked_for(window: Window) -> None:
    with canned(answers(EMPTY)) as asked, pytest.raises(ValueError, match="on the grid"):
        asked.client.kline_page(MINUTE, window)
    assert asked.sent == []


def test_older_rows_that_answer_an_empty_window_are_clipped() -> None:
    hole = Window(1_638_403_200_000, 1_638_406_800_000)  # 2021-12-02, between two listings
    with simulated() as (asked, _):
        page = asked.client.kline_page(Series.parse("spot:SHIBUSDT:1"), hole)
    assert page.rows.num_rows == 0
    assert page.clipped > 0


@pytest.mark.parametrize(
    "fault",
    [
        {"http": {"status": 503, "times": 2}},
        {"ret_code": {"code": 10016, "times": 2}},
        {"ret_code": {"code": 10006, "times": 2}},
        {"reset": {"times": 2}},
        {"slow": {"seconds": 60, "times": 2}},
        {"truncate": {"times": 2}},
        {"wrong_symbol": {"answer": "ETHUSDT", "times": 2}},
    ],
)
def test_what_passes_by_itself_is_tried_again_until_the_page_is_right(
    fault: dict[str, object],
) -> None:
    with simulated() as (asked, exchange):
        expected = asked.client.kline_page(MINUTE, HOUR)
        exchange.faults.replace([fault])
        page = asked.client.kline_page(MINUTE, HOUR)
    assert page.rows.equals(expected.rows)
    assert len(asked.sent) == 4
    assert asked.budget.acquired == 4
    assert asked.client.requests["kline", "ok"] == 2
    assert asked.client.requests.total() == 4


def test_a_page_that_stays_of_another_symbol_is_never_taken() -> None:
    with simulated(retry_max_attempts=3) as (asked, exchange):
        exchange.faults.replace([{"wrong_symbol": {"answer": "ETHUSDT"}}])
        with pytest.raises(MalformedAnswer, match="ETHUSDT"):
            asked.client.kline_page(MINUTE, HOUR)
    assert len(asked.sent) == 3


def test_what_the_exchange_refuses_for_good_is_asked_once() -> None:
    with simulated() as (asked, _), pytest.raises(BadSymbol):
        asked.client.kline_page(Series.parse("linear:NOPEUSDT:1"), HOUR)
    assert len(asked.sent) == 1
    assert asked.waits == []


def test_a_blocked_country_is_asked_once_and_nothing_cools_down() -> None:
    with simulated() as (asked, exchange):
        exchange.faults.replace([{"country_block": {}}])
        with pytest.raises(CountryBlocked):
            asked.client.server_time_ms()
    assert len(asked.sent) == 1
    assert asked.budget.cool_downs == []


def test_a_ban_is_told_to_every_process_and_not_waited_for() -> None:
    with simulated() as (asked, exchange):
        exchange.faults.replace([{"ban": {"seconds": 600}}])
        with pytest.raises(Banned):
            asked.client.kline_page(MINUTE, HOUR)
    assert asked.budget.cool_downs == [600]
    assert (len(asked.sent), asked.waits) == (1, [])


def test_a_ban_lasts_as_long_as_the_setting_says() -> None:
    with simulated(cool_down_s=900) as (asked, exchange):
        exchange.faults.replace([{"ban": {"seconds": 600}}])
        with pytest.raises(Banned) as caught:
            asked.client.kline_page(MINUTE, HOUR)
    assert asked.budget.cool_downs == [caught.value.retry_after_s] == [900]


def test_a_rate_limit_slows_everybody_down_and_is_tried_again() -> None:
    with canned(answers(LIMITED, EMPTY)) as asked:
        asked.client.kline_page(MINUTE, HOUR)
    assert len(asked.budget.slow_downs) == 1
    assert asked.budget.cool_downs == []


@pytest.mark.parametrize(
    ("headers", "slowed", "cooled"),
    [
        ({"X-Bapi-Limit": "50", "X-Bapi-Limit-Status": "40"}, 0, []),
        ({"X-Bapi-Limit": "50", "X-Bapi-Limit-Status": "10"}, 1, []),
        (
            {"X-Bapi-Limit": "50", "X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": str(NOW_MS + 1500)},
            1,
            [1.5],
        ),
        ({"X-Bapi-Limit": "50", "X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": str(NOW_MS)}, 1, []),
        ({"X-Bapi-Limit": "many", "X-Bapi-Limit-Status": "few"}, 0, []),
        ({"X-Bapi-Limit": "0", "X-Bapi-Limit-Status": "0"}, 0, []),
        ({"X-Bapi-Limit-Status": "0"}, 0, []),
    ],
)
def test_limit_headers_slow_everybody_down_before_the_limit(
    headers: dict[str, str], slowed: int, cooled: list[float]
) -> None:
    with canned(answers(EMPTY, headers=headers)) as asked:
        asked.client.kline_page(MINUTE, HOUR)
    assert len(asked.budget.slow_downs) == slowed
    assert asked.budget.cool_downs == cooled


def test_the_headers_of_a_refusal_are_heeded_too() -> None:
    headers = {
        "X-Bapi-Limit": "50",
        "X-Bapi-Limit-Status": "0",
        "X-Bapi-Limit-Reset-Timestamp": str(NOW_MS + 3000),
    }
    with canned(answers(LIMITED, headers=headers), retry_max_attempts=1) as asked, pytest.raises(RateLimited):
        asked.client.kline_page(MINUTE, HOUR)
    assert len(asked.budget.cool_downs) == 1


def test_a_clock_that_stays_refused_is_mended_once() -> None:
    refusal = {"retCode": 10002, "retMsg": "invalid request, please check your timestamp", "result": {}, "time": NOW_MS}

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=ok({}) if request.url.path.endswith("/time") else refusal, request=request)

    with canned(handler) as asked, pytest.raises(ClockSkew) as caught:
        asked.client.kline_page(MINUTE, HOUR)
    assert [request.url.path.rsplit("/", 1)[-1] for request in asked.sent] == ["kline", "time", "kline"]
    assert not caught.value.retryable


def test_a_body_that_cannot_be_unpacked_is_malformed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(b"no gzip")
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream, request=request)

    with canned(handler, retry_max_attempts=1) as asked, pytest.raises(MalformedAnswer) as caught:
        asked.client.kline_page(MINUTE, HOUR)
    assert caught.value.http_status == 200


def test_no_try_begins_after_the_total_deadline() -> None:
    options = {"retry_initial_delay_s": 10, "retry_max_delay_s": 10, "retry_total_s": 25, "retry_max_attempts": 9}
    with canned(answers(BUSY), **options) as asked, pytest.raises(ServerBusy, match="given up after 3 tries"):
        asked.client.kline_page(MINUTE, HOUR)
    assert asked.waits == [10, 10]


def test_an_error_knows_the_window_that_was_asked_for() -> None:
    with canned(answers(BUSY), retry_max_attempts=1) as asked, pytest.raises(ServerBusy) as caught:
        asked.client.kline_page(MINUTE, HOUR)
    assert caught.value.window == HOUR


def test_waits_grow_to_a_ceiling_and_the_last_error_is_the_one_raised() -> None:
    options = {"retry_initial_delay_s": 1, "retry_max_delay_s": 3, "retry_max_attempts": 5}
    with canned(answers(BUSY), **options) as asked, pytest.raises(ExchangeUnavailable):
        asked.client.kline_page(MINUTE, HOUR)
    assert len(asked.sent) == 5
    assert [
        low <= wait <= high for wait, (low, high) in zip(asked.waits, [(1, 2), (2, 3), (3, 3), (3, 3)], strict=True)
    ]
    assert max(asked.waits) == 3


def test_a_wait_that_the_server_asks_for_is_kept() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "7"}, request=request)

    with canned(handler, retry_max_attempts=2) as asked, pytest.raises(RateLimited):
        asked.client.kline_page(MINUTE, HOUR)
    assert asked.waits == [7]
    assert asked.budget.cool_downs == [7, 7]


def test_an_interval_that_is_not_served_is_remembered() -> None:
    refusal = {
        "retCode": 10001,
        "retMsg": "params error: intervalTime is invalid",
        "result": {},
        "time": NOW_MS,
    }
    with canned(answers(refusal)) as asked, pytest.raises(BadInterval):
        asked.client.kline_page(MINUTE, HOUR)
    assert asked.client.refused == {MINUTE}
