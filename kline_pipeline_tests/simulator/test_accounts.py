"""Signed requests: the published vectors, every way to be refused, and what a key may know of itself."""

import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest

from kline_pipeline.simulator.accounts import API_KEY, API_SECRET
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline_tests.simulator.conftest import NOW_MS, Clock

PATH = "/v5/user/query-api"


def signed(
    query: str = "", *, key: str = API_KEY, secret: str = API_SECRET, at_ms: int = NOW_MS, window: str = "5000"
) -> dict[str, str]:
    """The headers of a signed GET, reckoned here as the documentation tells."""
    origin = f"{at_ms}{key}{window}{query}"
    sign = hmac.new(secret.encode(), origin.encode(), hashlib.sha256).hexdigest()
    headers = {"X-BAPI-API-KEY": key, "X-BAPI-TIMESTAMP": str(at_ms), "X-BAPI-SIGN": sign}
    return headers | ({"X-BAPI-RECV-WINDOW": window} if window else {})


def answered(exchange: Exchange, headers: dict[str, str]) -> Any:
    response = exchange.handle("GET", PATH, {}, headers=headers)
    assert response.status == 200
    return json.loads(response.body)


def test_the_published_vector_is_accepted(exchange: Exchange, clock: Clock) -> None:
    clock.now_ms = 1_700_000_000_000
    headers = {
        "x-bapi-api-key": "test_api_key",
        "x-bapi-timestamp": "1700000000000",
        "x-bapi-recv-window": "5000",
        "x-bapi-sign": "fd4f31228a46109dc6673062328693696df9a96c7ff04e6491a45e7f63a0fdd7",
    }
    query = {"category": "linear", "symbol": "BTCUSDT"}
    response = exchange.handle(
        "GET", "/v5/market/instruments-info", query, headers=headers, query_string="category=linear&symbol=BTCUSDT"
    )

    assert json.loads(response.body)["retCode"] == 0


@pytest.mark.parametrize(
    ("headers", "code", "text"),
    [
        (signed(key="nobody"), 10003, "API key is invalid."),
        (signed(secret="guessed"), 10004, f"error sign! origin_string[{NOW_MS}test_api_key5000]"),
        (signed() | {"X-BAPI-SIGN": ""}, 10004, "error sign!"),
        (signed(query="a=1"), 10004, "error sign!"),
        (signed(at_ms=NOW_MS - 5_001), 10002, f"server_timestamp[{NOW_MS}],recv_window[5000]"),
        (signed(at_ms=NOW_MS + 1_000), 10002, "please check your server timestamp or recv_window param"),
        (signed() | {"X-BAPI-TIMESTAMP": "now"}, 10002, "req_timestamp[now]"),
        (signed(key="expired_api_key"), 33004, "Your api key has expired."),
        (signed(key="forbidden_api_key"), 10005, "Permission denied, please check your API key permissions."),
    ],
)
def test_each_way_to_be_refused_has_its_code_and_text(
    exchange: Exchange, headers: dict[str, str], code: int, text: str
) -> None:
    body = answered(exchange, headers)

    assert body["retCode"] == code
    assert text in body["retMsg"]
    assert body["result"] == {}


@pytest.mark.parametrize(
    "headers",
    [
        signed(),
        signed(at_ms=NOW_MS - 5_000),
        signed(at_ms=NOW_MS + 999),
        signed(at_ms=NOW_MS - 20_000, window="20000"),
        signed(window=""),
    ],
)
def test_a_good_signature_within_its_time_is_served(exchange: Exchange, headers: dict[str, str]) -> None:
    assert answered(exchange, headers)["retCode"] == 0


def test_a_key_is_told_what_it_is_in_the_documented_shape(exchange: Exchange) -> None:
    body = answered(exchange, signed())

    assert (body["retCode"], body["retMsg"], body["time"]) == (0, "", NOW_MS)
    result = body["result"]
    assert (result["apiKey"], result["secret"], result["readOnly"]) == ("test_api_key", "", 1)
    assert result["permissions"]["Spot"] == ["SpotTrade"]
    assert (result["ips"], result["deadlineDay"]) == (["*"], 66)
    assert (result["createdAt"], result["expiredAt"]) == ("2024-04-28T00:00:00Z", "2024-07-27T00:00:00Z")


def test_the_account_path_without_a_key_is_unauthorized(exchange: Exchange) -> None:
    assert exchange.handle("GET", PATH, {}).status == 401


def test_a_public_path_needs_no_key_but_refuses_a_bad_one(exchange: Exchange) -> None:
    bad = exchange.handle("GET", "/v5/market/time", {}, headers=signed(key="nobody"))

    assert json.loads(exchange.handle("GET", "/v5/market/time", {}).body)["retCode"] == 0
    assert json.loads(bad.body)["retCode"] == 10003


def test_the_query_is_signed_exactly_as_it_is_sent(exchange: Exchange) -> None:
    sent = "symbol=BTCUSDT&category=linear&cursor=first%3DA%26last%3DB"
    address = f"/v5/market/instruments-info?{sent}"
    with httpx.Client(transport=SimulatorTransport(exchange), base_url="https://api.bybit.com") as client:
        through_transport = client.get(address, headers=signed(sent)).json()
    with SimulatorServer(exchange) as server, httpx.Client(base_url=server.url) as client:
        through_server = client.get(address, headers=signed(sent)).json()
        decoded = client.get(address, headers=signed(sent.replace("%3D", "=").replace("%26", "&"))).json()

    assert (through_transport["retCode"], through_server["retCode"], decoded["retCode"]) == (0, 0, 10004)
