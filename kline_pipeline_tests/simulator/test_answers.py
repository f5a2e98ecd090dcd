"""Envelopes, refusals, instruments-info, time, the limit per IP, statistics."""

import json
from typing import Any

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.grid import month_ms, month_number, utc_ms
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline_tests.simulator.conftest import NOW_MS, Ask, Clock


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"category": "option", "symbol": "BTCUSDT", "interval": "1"}, "params error: Category is invalid"),
        ({"symbol": "BTCUSDT", "interval": "1h"}, "params error: intervalTime is invalid"),
        ({"symbol": "BTCUSDT"}, "params error: intervalTime is invalid"),
        ({"symbol": "NOPEUSDT", "interval": "1"}, "Not supported symbols"),
        ({"symbol": "btcusdt", "interval": "1"}, "Not supported symbols"),
        ({"category": "spot", "symbol": "BOBUSDT", "interval": "1"}, "Not supported symbols"),
        ({"symbol": "BTCUSDT", "interval": "1", "limit": "x"}, "params error: limit invalid"),
    ],
)  # fmt: skip
def test_bad_kline_requests_are_refused_in_bybits_words(ask: Ask, query: dict[str, str], message: str) -> None:
    body = ask(**query)

    assert (body["retCode"], body["retMsg"], body["result"]) == (10001, message, {})


def test_a_page_has_the_envelope_of_the_official_sample(ask: Ask) -> None:
    body = ask(symbol="BTCUSDT", interval="60", limit=2)

    assert list(body) == ["retCode", "retMsg", "result", "retExtInfo", "time"]
    assert (body["retCode"], body["retMsg"], body["time"]) == (0, "OK", NOW_MS)
    assert (body["result"]["symbol"], body["result"]["category"]) == ("BTCUSDT", "linear")
    assert all(len(row) == 7 and all(type(cell) is str for cell in row) for row in body["result"]["list"])  # fmt: skip


def test_time_is_given_in_seconds_and_nanoseconds(ask: Ask) -> None:
    assert ask("time")["result"] == {
        "timeSecond": str(NOW_MS // 1000),
        "timeNano": str(NOW_MS * 1_000_000),
    }


def test_unknown_paths_are_not_found(exchange: Exchange) -> None:
    assert exchange.handle("GET", "/v5/market/nothing", {}).status == 404
    assert exchange.handle("GET", "/", {}).status == 404


def listed(ask: Ask, **query: object) -> list[dict[str, Any]]:
    """Every instrument of all pages."""
    found, cursor = [], ""
    while True:
        result = ask("instruments-info", **query, cursor=cursor)["result"]
        found.extend(result["list"])
        cursor = result.get("nextPageCursor", "")
        if not cursor or not result["list"]:
            return found


def test_paging_brings_every_symbol_once(ask: Ask) -> None:
    whole = [i["symbol"] for i in listed(ask, category="linear")]

    assert [i["symbol"] for i in listed(ask, category="linear", limit=5)] == whole
    assert len(whole) == len(set(whole)) >= 20


def test_a_cursor_leads_on_in_both_spellings(ask: Ask) -> None:
    first = ask("instruments-info", category="linear", limit=5)["result"]
    cursor = first["nextPageCursor"]
    plain = cursor.replace("%3D", "=").replace("%26", "&")
    pages = [ask("instruments-info", category="linear", limit=5, cursor=c)["result"]["list"] for c in (cursor, plain)]

    assert pages[0] == pages[1] != first["list"]


def test_only_trading_is_listed_unless_a_status_is_asked_for(ask: Ask) -> None:
    by_status = {
        status: listed(ask, category="linear", status=status)
        for status in ("PreLaunch", "Trading", "Delivering", "Closed")
    }

    assert listed(ask, category="linear") == by_status["Trading"]
    assert [i["symbol"] for i in by_status["PreLaunch"]] == ["NEW2406USDT"]
    assert [i["symbol"] for i in by_status["Delivering"]] == ["NEW2305USDT"]
    closed = {i["symbol"]: i for i in by_status["Closed"]}
    assert closed["LUNAUSDT"]["deliveryTime"] == str(utc_ms(2022, 5, 13, 8, 1))
    assert all(i["status"] == status for status, found in by_status.items() for i in found)


def test_the_launch_time_is_not_the_first_candle(ask: Ask) -> None:
    (btc,) = ask("instruments-info", category="linear", symbol="BTCUSDT")["result"]["list"]

    assert btc["launchTime"] == str(utc_ms(2020, 3, 30))


def test_one_symbol_was_listed_this_month(ask: Ask) -> None:
    month = month_ms(month_number(NOW_MS))
    fresh = [i["symbol"] for i in listed(ask, category="linear") if int(i["launchTime"]) >= month]

    assert fresh == ["NEW2405USDT"]


def test_spot_ignores_limit_and_cursor_and_forgets_what_was_delisted(ask: Ask) -> None:
    result = ask("instruments-info", category="spot", limit=1, cursor="x")["result"]
    symbols = [i["symbol"] for i in result["list"]]

    assert "nextPageCursor" not in result
    assert symbols == ["BTCUSDT", "ETHUSDT", "SHIBUSDT", "SOLUSDT", "XRPUSDT"]
    assert ask("instruments-info", category="spot", status="Closed")["result"]["list"] == []
    assert ask(category="spot", symbol="AGIXUSDT", interval="D", end=utc_ms(2024, 3, 1))["result"]["list"]  # fmt: skip


def test_an_unknown_symbol_is_an_error_for_linear_and_an_empty_list_for_spot(ask: Ask) -> None:
    linear = ask("instruments-info", category="linear", symbol="NOPEUSDT")
    spot = ask("instruments-info", category="spot", symbol="NOPEUSDT")

    assert (linear["retCode"], linear["retMsg"]) == (10001, "params error: symbol invalid")
    assert linear["result"] == {"category": "", "list": [], "nextPageCursor": ""}
    assert (spot["retCode"], spot["result"]["list"]) == (0, [])


def test_options_are_a_category_without_instruments(ask: Ask) -> None:
    body = ask("instruments-info", category="option", baseCoin="BTC")

    assert (body["retCode"], body["result"]) == (0, {"category": "option", "list": [], "nextPageCursor": ""})
    assert ask("instruments-info", category="futures")["retMsg"] == "params error: Category is invalid"


def test_the_601st_request_in_five_seconds_is_refused_until_it_is_quiet(exchange: Exchange, clock: Clock) -> None:
    statuses = [exchange.handle("GET", "/v5/market/time", {}).status for _ in range(601)]
    clock.now_ms += 4_999
    still = exchange.handle("GET", "/v5/market/time", {})
    clock.now_ms += 5_000
    later = exchange.handle("GET", "/v5/market/time", {})

    assert statuses == [200] * 600 + [403]
    assert (still.status, later.status) == (403, 200)
    assert b"access too frequent" in still.body
    assert exchange.limit.max_in_5s == 602


def test_statistics_count_market_requests_only(exchange: Exchange, ask: Ask) -> None:
    ask(symbol="BTCUSDT", interval="1", limit=10)
    ask(symbol="ETHUSDT", interval="M", end=utc_ms(2019, 1, 1))
    ask(symbol="NOPE", interval="1")
    ask("instruments-info", category="linear")
    exchange.handle("GET", "/_sim/stats", {})

    assert json.loads(exchange.handle("GET", "/_sim/stats", {}).body) == {
        "venue": "simulated-seed-7",
        "seed": 7,
        "now_ms": NOW_MS,
        "max_in_1s": 4,
        "max_in_5s": 4,
        "market_requests": 4,
        "first_request_ms": NOW_MS,
        "last_request_ms": NOW_MS,
        "requests": {"kline": {"ok": 1, "empty": 1, "10001": 1}, "instruments-info": {"ok": 1}},
        "requests_by_interval": {"1": 2, "M": 1},
        "requests_by_symbol": {"BTCUSDT": 1, "ETHUSDT": 1, "NOPE": 1},
        "candles_served": 10,
    }


def test_the_busiest_second_and_the_first_and_last_request_are_known(exchange: Exchange, clock: Clock) -> None:
    for gap in (0, 999, 1, 998, 1, 3_000):
        clock.now_ms += gap
        exchange.handle("GET", "/v5/market/time", {})
    stats = json.loads(exchange.handle("GET", "/_sim/stats", {}).body)

    assert (stats["max_in_1s"], stats["max_in_5s"], stats["market_requests"]) == (3, 6, 6)
    assert (stats["first_request_ms"], stats["last_request_ms"]) == (NOW_MS, NOW_MS + 4_999)


def test_counting_begins_anew_but_the_limit_remembers(history: SyntheticHistory, clock: Clock) -> None:
    exchange = Exchange(history, clock=clock, requests_per_5s=3)
    for _ in range(3):
        exchange.handle("GET", "/v5/market/time", {})
    reset = json.loads(exchange.handle("DELETE", "/_sim/stats", {}).body)
    refused = exchange.handle("GET", "/v5/market/time", {})
    stats = json.loads(exchange.handle("GET", "/_sim/stats", {}).body)

    assert (reset["market_requests"], reset["requests"], reset["max_in_1s"], reset["max_in_5s"]) == (0, {}, 0, 0)
    assert (reset["first_request_ms"], reset["last_request_ms"]) == (None, None)
    assert refused.status == 403
    assert stats["requests"] == {"time": {"http_403": 1}}
    assert (stats["max_in_1s"], stats["max_in_5s"]) == (1, 1)
    assert exchange.handle("POST", "/_sim/stats", {}).status == 400


def test_latency_is_added_to_every_answer(history: SyntheticHistory, clock: Clock) -> None:
    exchange = Exchange(history, clock=clock, latency_ms=250)

    assert exchange.handle("GET", "/v5/market/time", {}).delay_s == 0.25
