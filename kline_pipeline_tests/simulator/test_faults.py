"""Faults: each kind does what it says, ends when it says, and is refused when it says nonsense."""

import json
from typing import Any

import httpx
import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.fault_plan import FaultPlanError
from kline_pipeline.simulator.faults import FaultPlan
from kline_pipeline.simulator.grid import MINUTE_MS, utc_ms
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline_tests.simulator.conftest import Ask, Clock

AT = utc_ms(2024, 2, 10, 12, 0)
SERIES = {"category": "linear", "symbol": "BTCUSDT", "interval": "1"}
CANDLE = {**SERIES, "open_time": "2024-02-10T12:01"}
WINDOW = {**SERIES, "start": AT, "end": AT + 2 * MINUTE_MS}


def rows(ask: Ask, **query: object) -> list[list[str]]:
    found: list[list[str]] = ask(**{**WINDOW, **query})["result"]["list"]
    return found


def test_a_dropped_candle_is_missing_from_its_interval_only(exchange: Exchange, ask: Ask) -> None:
    hour = {"interval": "60", "start": AT, "end": AT}
    whole, coarse = rows(ask), rows(ask, **hour)
    exchange.faults.replace([{"drop": {**CANDLE, "open_time": AT + MINUTE_MS}}])

    assert rows(ask) == [whole[0], whole[2]]
    assert rows(ask, **hour) == coarse
    assert rows(ask, symbol="ETHUSDT") != []
    assert len(ask(**SERIES, end=AT + 9 * MINUTE_MS, limit=50)["result"]["list"]) == 50


def test_without_interval_a_drop_meets_every_interval_of_that_open_time(exchange: Exchange, ask: Ask) -> None:
    exchange.faults.replace([{"drop": {"category": "linear", "symbol": "BTCUSDT", "open_time": AT}}])

    assert str(AT) not in [row[0] for row in rows(ask)]
    assert str(AT) not in [row[0] for row in rows(ask, interval="60", start=AT, end=AT)]


def test_a_duplicate_comes_twice_and_a_contradiction_differs(exchange: Exchange, ask: Ask) -> None:
    whole = rows(ask)
    exchange.faults.replace([{"duplicate": CANDLE}])
    doubled = rows(ask)
    exchange.faults.replace([{"contradict": CANDLE}])
    contradicted = rows(ask)

    assert doubled == [whole[0], whole[1], whole[1], whole[2]]
    assert contradicted[:2] == whole[:2]
    assert contradicted[2][0] == whole[1][0]
    assert contradicted[2] != whole[1]
    assert len(contradicted) == 4


def test_a_correction_changes_one_candle(exchange: Exchange, ask: Ask) -> None:
    whole = rows(ask)
    exchange.faults.replace([{"correct": {**CANDLE, "close": "1.5", "volume": "7"}}])
    corrected = rows(ask)

    assert corrected[1][3:6] == ["1.5", "1.5", "7"]
    assert [corrected[0], corrected[2]] == [whole[0], whole[2]]


def test_a_wrong_symbol_is_answered(exchange: Exchange, ask: Ask) -> None:
    exchange.faults.replace([{"wrong_symbol": {"symbol": "BTCUSDT", "times": 1}}])

    assert ask(**WINDOW)["result"]["symbol"] == "ETHUSDT"
    assert ask(**WINDOW)["result"]["symbol"] == "BTCUSDT"


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ({"http": {"status": 503}}, 503, b"503"),
        ({"http": {"status": 429}}, 429, b"429"),
        ({"ret_code": {"code": 10006}}, 200, b"Too many visits. Exceeded the API Rate Limit."),
        ({"ret_code": {"code": 10016}}, 200, b"Request timeout, please try again later"),
        ({"country_block": {}}, 403, b"configured to block access from your country"),
        ({"ban": {"seconds": 60}}, 403, b"access too frequent"),
    ],
)
def test_answers_instead_of_the_truth(exchange: Exchange, fault: dict[str, Any], status: int, text: bytes) -> None:
    exchange.faults.replace([fault])
    response = exchange.handle("GET", "/v5/market/time", {})

    assert response.status == status
    assert text in response.body


def test_a_ban_lifts_itself(exchange: Exchange, clock: Clock) -> None:
    exchange.faults.replace([{"ban": {"seconds": 60}}])
    statuses = []
    for _ in range(4):
        statuses.append(exchange.handle("GET", "/v5/market/time", {}).status)
        clock.now_ms += 20_000

    assert statuses == [403, 403, 403, 200]


def test_a_fault_meets_only_what_it_names_and_only_so_often(exchange: Exchange) -> None:
    exchange.faults.replace([{"http": {"status": 500, "interval": "5", "times": 2}}])
    asked = [
        exchange.handle("GET", "/v5/market/kline", {"symbol": "BTCUSDT", "interval": i}).status
        for i in ("1", "5", "5", "5")
    ]

    assert asked == [200, 500, 500, 200]


def test_chance_is_the_same_for_the_same_seed_in_any_order(history: SyntheticHistory) -> None:
    def outcomes(seed: int, order: list[int]) -> dict[int, list[int]]:
        exchange = Exchange(history, clock=lambda: AT, requests_per_5s=10_000)
        exchange.faults = FaultPlan(seed)
        exchange.faults.replace([{"http": {"status": 500, "probability": 0.3}}])
        found: dict[int, list[int]] = {end: [] for end in order}
        for _ in range(3):
            for end in order:
                query = {"symbol": "BTCUSDT", "interval": "1", "end": str(end), "limit": "1"}
                found[end].append(exchange.handle("GET", "/v5/market/kline", query).status)
        return found

    ends = [AT - step * MINUTE_MS for step in range(60)]
    forward = outcomes(1, ends)
    failed = sum(statuses.count(500) for statuses in forward.values())

    assert outcomes(1, ends[::-1]) == forward
    assert outcomes(2, ends) != forward
    assert 30 < failed < 80


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "A fault plan must be JSON"),
        (b'"drop"', "A fault plan must be a JSON list"),
        (b'[{"explode": {}}]', "Unknown fault 'explode'"),
        (b'[{"drop": {"category": "linear"}}]', "The fault drop needs symbol, open_time."),
        (b'[{"slow": {"seconds": "2"}}]', "The fault slow needs seconds above 0"),
        (b'[{"http": {"status": 200}}]', "a whole number from 400 to 599"),
        (b'[{"reset": {"tiems": 1}}]', "The fault reset does not take tiems."),
        (b'[{"reset": {"interval": "1h"}}]', "use one of 1, 3, 5"),
        (b'[{"drop": {"category": "linear", "symbol": "B", "open_time": "noon"}}]', "ISO time"),
        (
            b'[{"correct": {"category": "linear", "symbol": "B", "open_time": "0", "after": "noon"}}]',
            "has after 'noon'",
        ),
        (b'[{"reset": {"after": "0"}}]', "The fault reset does not take after."),
        (b'[{"clock_skew": {"seconds": 0}}]', "needs seconds above 0"),
        (b'[{"clock_skew": {"seconds": "-1"}}]', "needs seconds above 0"),
        (b'[{"slow": {"seconds": -1}}]', "needs seconds above 0"),
        (b'[{"shuffle": {"seed": 1}}]', "The fault shuffle does not take seed."),
        (b'[{"limit_headers": {"limit": 50}}]', "The fault limit_headers needs remaining."),
        (b'[{"limit_headers": {"limit": 50, "remaining": -1}}]', "a whole number from 0"),
        (b'[{"limit_headers": {"limit": 50, "remaining": 1, "reset_ms": "1"}}]', "needs reset_ms as a whole number"),
        (b'[{"reset": {"query": {"end": 0}}}]', "needs query as an object of texts"),
        (b'[{"reset": {"query": "end=0"}}]', "needs query as an object of texts"),
        (b'[{"reset": {"nth": 0}}]', "needs nth as a number from 1 on or a list"),
        (b'[{"reset": {"nth": []}}]', "needs nth as a number from 1 on or a list"),
        (b'[{"reset": {"nth": [1, true]}}]', "needs nth as a number from 1 on or a list"),
    ],
)
def test_a_bad_plan_is_refused_in_one_sentence_and_changes_nothing(
    exchange: Exchange, body: bytes, sentence: str
) -> None:
    exchange.faults.replace([{"reset": {}}])
    response = exchange.handle("POST", "/_sim/faults", {}, body)

    assert response.status == 400
    assert sentence in json.loads(response.body)["error"]
    assert [next(iter(fault)) for fault in exchange.faults.plan()] == ["reset"]


def test_the_plan_is_replaced_added_to_shown_and_cleared_over_http(exchange: Exchange) -> None:
    def post(content: object) -> list[str]:
        answer = exchange.handle("POST", "/_sim/faults", {}, json.dumps(content).encode())
        return [next(iter(fault)) for fault in json.loads(answer.body)["faults"]]

    assert post([{"reset": {}}, {"truncate": {}}]) == ["reset", "truncate"]
    assert post({"faults": [{"slow": {"seconds": 1}}]}) == ["slow"]
    assert post({"add": [{"reset": {}}]}) == ["slow", "reset"]
    assert post({"reset": {}}) == ["reset"]
    assert b"reset" in exchange.handle("GET", "/_sim/faults", {}).body
    exchange.handle("DELETE", "/_sim/faults", {})
    assert exchange.faults.plan() == []


def test_plans_from_python_raise_what_is_wrong(exchange: Exchange) -> None:
    with pytest.raises(FaultPlanError, match="needs seconds"):
        exchange.faults.add([{"ban": {}}])


def test_the_transport_answers_breaks_and_times_out_like_a_network(exchange: Exchange) -> None:
    with httpx.Client(transport=SimulatorTransport(exchange), base_url="https://api.bybit.com", timeout=5) as client:
        assert client.get("/v5/market/time").json()["retCode"] == 0
        exchange.faults.replace([{"reset": {}}])
        with pytest.raises(httpx.ReadError):
            client.get("/v5/market/time")
        exchange.faults.replace([{"slow": {"seconds": 6}}])
        with pytest.raises(httpx.ReadTimeout):
            client.get("/v5/market/time")
        exchange.faults.replace([{"slow": {"seconds": 4}}])
        assert client.get("/v5/market/time").status_code == 200
        exchange.faults.replace([{"truncate": {}}])
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
            client.get("/v5/market/time").json()
