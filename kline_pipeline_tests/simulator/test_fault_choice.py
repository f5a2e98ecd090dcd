"""Which requests a fault meets, and the faults of clock, order and headers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.faults import FaultPlan
from kline_pipeline.simulator.grid import MINUTE_MS, utc_ms
from kline_pipeline_tests.simulator.conftest import NOW_MS, Ask, Clock

AT = utc_ms(2024, 2, 10, 12, 0)
SERIES = {"category": "linear", "symbol": "BTCUSDT", "interval": "1"}
WINDOW = {**SERIES, "start": AT, "end": AT + 9 * MINUTE_MS}


def statuses(exchange: Exchange, *queries: dict[str, str]) -> list[int]:
    return [exchange.handle("GET", "/v5/market/kline", {**SERIES, **query}).status for query in queries]


def test_a_fault_meets_the_request_with_exactly_these_parameters(exchange: Exchange) -> None:
    exchange.faults.replace([{"http": {"status": 500, "query": {"start": str(AT), "limit": "10"}}}])
    there, other, absent = (
        {"start": str(AT), "limit": "10", "end": str(AT)},
        {"start": str(AT), "limit": "100"},
        {"start": str(AT)},
    )

    assert statuses(exchange, there, other, absent, there) == [500, 200, 200, 500]


@pytest.mark.parametrize(
    ("nth", "expected"),
    [(2, [200, 500, 200, 200]), ([1, 4], [500, 200, 200, 500])],
)
def test_only_the_nth_matching_request_is_hit(exchange: Exchange, nth: Any, expected: list[int]) -> None:
    exchange.faults.replace([{"http": {"status": 500, "nth": nth, "query": {"limit": "5"}}}])
    matching, other = {"limit": "5"}, {"limit": "6"}

    answered = statuses(exchange, other, matching, matching, other, matching, matching)

    assert (answered[0], answered[3]) == (200, 200)
    assert [answered[position] for position in (1, 2, 4, 5)] == expected
    assert [fault["hits"] for fault in exchange.faults.plan()] == [expected.count(500)]


def test_requests_that_another_fault_answers_count_for_nth_too(exchange: Exchange) -> None:
    exchange.faults.replace([{"http": {"status": 500, "times": 1}}, {"http": {"status": 502, "nth": 2}}])

    assert statuses(exchange, {}, {}, {}) == [500, 502, 200]


def test_a_row_fault_meets_the_nth_request_only(exchange: Exchange, ask: Ask) -> None:
    exchange.faults.replace([{"drop": {**SERIES, "open_time": AT, "nth": 2}}])

    assert [len(ask(**WINDOW)["result"]["list"]) for _ in range(3)] == [10, 9, 10]


def test_chance_decides_whether_a_dropped_candle_is_missing(exchange: Exchange, ask: Ask) -> None:
    exchange.faults.replace([{"drop": {**SERIES, "open_time": AT, "probability": 0.5}}])
    lengths = [len(ask(**WINDOW)["result"]["list"]) for _ in range(40)]

    assert set(lengths) == {9, 10}
    assert 8 <= lengths.count(9) <= 32


def test_a_correction_is_in_force_from_its_server_time_on(exchange: Exchange, ask: Ask, clock: Clock) -> None:
    change = {"close": "1.5", "after": "2024-05-22T06:31:20.500"}
    exchange.faults.replace([{"correct": {**SERIES, "open_time": AT, **change}}])

    def close() -> str:
        text: str = ask(**SERIES, start=AT, end=AT)["result"]["list"][0][4]
        return text

    clock.now_ms = NOW_MS + MINUTE_MS - 1
    before = close()
    clock.now_ms = NOW_MS + MINUTE_MS
    assert before != "1.5"
    assert close() == "1.5"


@pytest.mark.parametrize("seconds", [-90, 75.25])
def test_a_skewed_clock_shows_in_answers_and_decides_what_is_open(
    exchange: Exchange, ask: Ask, opens: Callable[..., list[int]], seconds: float
) -> None:
    shown = NOW_MS + round(seconds * 1000)
    exchange.faults.replace([{"clock_skew": {"seconds": seconds}}])

    assert ask("time")["time"] == shown
    assert ask("time")["result"]["timeSecond"] == str(shown // 1000)
    assert opens(limit=2)[0] == shown // MINUTE_MS * MINUTE_MS
    assert json.loads(exchange.handle("GET", "/_sim/stats", {}).body)["now_ms"] == NOW_MS


def test_a_ban_goes_by_the_true_clock_though_the_clock_is_skewed(exchange: Exchange, clock: Clock) -> None:
    exchange.faults.replace([{"clock_skew": {"seconds": 3600}}, {"ban": {"seconds": 60}}])
    asked = []
    for _ in range(4):
        asked.append(exchange.handle("GET", "/v5/market/time", {}).status)
        clock.now_ms += 20_000

    assert asked == [403, 403, 403, 200]


def test_a_skew_may_meet_some_answers_only(exchange: Exchange, ask: Ask) -> None:
    exchange.faults.replace([{"clock_skew": {"seconds": 5, "path": "time", "nth": [2, 3, 4], "times": 2}}])

    assert [ask("time")["time"] - NOW_MS for _ in range(4)] == [0, 5000, 5000, 0]
    assert exchange.faults.plan()[0]["hits"] == 2


@pytest.mark.parametrize(("rows", "first_row"), [(10, 0), *((2, first_row) for first_row in range(6))])
def test_a_shuffled_page_has_the_same_rows_in_another_order_each_time_the_same(
    exchange: Exchange, ask: Ask, rows: int, first_row: int
) -> None:
    start = AT + first_row * MINUTE_MS
    window = {**SERIES, "start": start, "end": start + (rows - 1) * MINUTE_MS}
    whole = ask(**window)["result"]["list"]
    exchange.faults.replace([{"shuffle": {"times": 2}}])
    first, second, third = (ask(**window)["result"]["list"] for _ in range(3))

    assert first == second != whole
    assert sorted(first) == sorted(whole)
    assert third == whole


def test_the_order_of_a_shuffled_page_depends_on_seed_and_request(exchange: Exchange, ask: Ask) -> None:
    orders = []
    for seed, limit in ((1, 10), (2, 10), (1, 11)):
        exchange.faults = FaultPlan(seed)
        exchange.faults.replace([{"shuffle": {}}])
        orders.append(tuple(row[0] for row in ask(**WINDOW, limit=limit)["result"]["list"]))

    assert len(set(orders)) == 3


def test_good_answers_carry_the_limit_headers(exchange: Exchange) -> None:
    fault = {"limit": 50, "remaining": 2, "path": "time"}
    exchange.faults.replace([{"limit_headers": {**fault, "reset_ms": NOW_MS + 700}}])
    with_reset = exchange.handle("GET", "/v5/market/time", {})
    exchange.faults.replace([{"ret_code": {"code": 10006, "times": 1}}, {"limit_headers": fault}])
    refused, without = (exchange.handle("GET", "/v5/market/time", {}) for _ in range(2))
    exchange.faults.replace([{"limit_headers": {"limit": 50, "remaining": 2}}])
    wrong = exchange.handle("GET", "/v5/market/kline", {**SERIES, "interval": "1h"})
    named = ("X-Bapi-Limit", "X-Bapi-Limit-Status", "X-Bapi-Limit-Reset-Timestamp")

    assert [with_reset.headers[name] for name in named] == ["50", "2", str(NOW_MS + 700)]
    assert [without.headers[name] for name in named] == ["50", "2", str(NOW_MS)]
    assert with_reset.headers["content-type"].startswith("application/json")
    assert not set(named) & (set(refused.headers) | set(wrong.headers))
