"""Signed requests: the published vectors, the clock, what is signed and what is not, and that secrets stay secret."""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from kline_pipeline.bybit.auth import KeyInfo, ServerClock, V5Signature
from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.connection import Connection
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import (
    AuthenticationRefused,
    BadKey,
    BadSignature,
    BadSymbol,
    ClockSkew,
    ConfigError,
    ExchangeError,
    ExchangeUnavailable,
    KeyExpired,
    KeyNotAllowed,
    MalformedAnswer,
    ServerBusy,
    UnexpectedAnswer,
)
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline_tests.exchanges import NOW_MS, Asked, Handler, answers, canned, ok

KEY, SECRET = "test_api_key", "test_secret"
SIGNED = {"api_key": KEY, "api_secret": SECRET}
MINUTE = Series.parse("linear:BTCUSDT:1")
HOUR = Window(1_712_746_800_000, 1_712_750_400_000)
EMPTY = ok({"symbol": "BTCUSDT", "category": "linear", "list": []})
RIGHTS = {"readOnly": 1, "permissions": {"Spot": [], "Wallet": ["Withdraw", "AccountTransfer"]}, "ips": ["*"]}


class Recorded:
    """Answers like `handler`, keeping the headers of each request, which are taken off after it."""

    def __init__(self, handler: Handler) -> None:
        self.paths: list[str] = []
        self.headers: list[httpx.Headers] = []
        self._handler = handler

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        self.headers.append(httpx.Headers(request.headers))
        return self._handler(request)


@contextmanager
def simulated_account(*, ahead_ms: int = 0, **settings: Any) -> Iterator[tuple[Asked, Recorded]]:
    """Open a client of an exchange that checks signatures and whose clock is ahead of the client's."""
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS + ahead_ms, requests_per_5s=10**9)
    transport = SimulatorTransport(exchange)
    recorded = Recorded(transport.handle_request)
    with canned(recorded, **SIGNED | settings) as asked:
        yield asked, recorded


def refusal(code: int, message: str = "no") -> dict[str, Any]:
    return {"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": NOW_MS}


def signature(now_ms: int = 1_700_000_000_000) -> V5Signature:
    return V5Signature(SecretStr(KEY), SecretStr(SECRET), lambda: now_ms)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("category=linear&symbol=BTCUSDT", "fd4f31228a46109dc6673062328693696df9a96c7ff04e6491a45e7f63a0fdd7"),
        (
            '{"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "test-order-1"}',
            "2df4a0603d69c08d5dea29ba85b46eb7db64ce9e9ebd34a7802a3d69700cb2a1",
        ),
    ],
)
def test_the_published_vectors_come_out(payload: str, expected: str) -> None:
    assert signature().sign("1700000000000", payload) == expected


def test_a_request_goes_out_with_the_headers_of_the_published_vector() -> None:
    recorded = Recorded(answers(ok({})))
    with httpx.Client(transport=httpx.MockTransport(recorded), auth=signature()) as client:
        client.get("http://h/v5/market/kline?category=linear&symbol=BTCUSDT")
    (headers,) = recorded.headers
    assert {name: value for name, value in headers.items() if name.startswith("x-bapi")} == {
        "x-bapi-api-key": KEY,
        "x-bapi-timestamp": "1700000000000",
        "x-bapi-recv-window": "5000",
        "x-bapi-sign": "fd4f31228a46109dc6673062328693696df9a96c7ff04e6491a45e7f63a0fdd7",
        "x-bapi-sign-type": "2",
    }


def test_the_query_is_signed_as_it_is_sent_and_not_as_it_is_meant() -> None:
    seen: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent = request.url.raw_path.decode().partition("?")[2]
        seen.append((sent, request.headers["x-bapi-sign"]))
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(handler), auth=signature()) as client:
        client.get("http://h/v5/x", params={"symbol": "b c", "cursor": "a%2C=&é", "a": "1"})
    (sent, signed) = seen[0]
    assert sent.startswith("symbol=b+c&cursor=a%252C")
    assert signed == signature().sign("1700000000000", sent)


def test_every_question_but_those_for_time_and_name_is_signed() -> None:
    with simulated_account() as (asked, recorded):
        asked.client.venue()
        asked.client.server_time_ms()
        asked.client.kline_page(MINUTE, HOUR)
        asked.client.instruments("linear", symbol="BTCUSDT")
        asked.client.key_info()
    signed = {path: "x-bapi-sign" in one for path, one in zip(recorded.paths, recorded.headers, strict=True)}
    assert signed == {
        "/_sim/stats": False,
        "/v5/market/time": False,
        "/v5/market/kline": True,
        "/v5/market/instruments-info": True,
        "/v5/user/query-api": True,
    }


def test_without_a_key_nothing_is_signed_and_its_rights_are_not_asked_for() -> None:
    recorded = Recorded(answers(EMPTY))
    with canned(recorded) as asked:
        asked.client.kline_page(MINUTE, HOUR)
        with pytest.raises(ConfigError, match="BYBIT_API_KEY"):
            asked.client.key_info()
    assert len(recorded.headers) == 1
    assert not [name for name in recorded.headers[0] if name.startswith("x-bapi")]


@pytest.mark.parametrize("ahead_ms", [-3_600_000, -4_000, 20_000, 86_400_000])
def test_a_clock_that_is_off_is_set_by_the_exchange_and_costs_one_refusal(ahead_ms: int) -> None:
    with simulated_account(ahead_ms=ahead_ms) as (asked, recorded):
        asked.client.kline_page(MINUTE, HOUR)
        asked.client.kline_page(MINUTE, HOUR)
    assert recorded.paths == ["/v5/market/kline", "/v5/market/time", "/v5/market/kline", "/v5/market/kline"]
    assert asked.client.requests["kline", "ClockSkew"] == 1
    assert asked.budget.acquired == 4


def test_the_clock_of_any_answer_is_the_clock_of_the_next_signature() -> None:
    with simulated_account(ahead_ms=86_400_000) as (asked, recorded):
        asked.client.server_time_ms()
        asked.client.kline_page(MINUTE, HOUR)
    assert recorded.paths == ["/v5/market/time", "/v5/market/kline"]


def test_a_clock_that_stays_refused_is_asked_for_once_and_then_told() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        is_time = request.url.path.endswith("/time")
        return httpx.Response(200, text=json.dumps(ok({}) if is_time else refusal(10002)))

    recorded = Recorded(handler)
    with canned(recorded, **SIGNED, retry_max_attempts=3) as asked, pytest.raises(ClockSkew, match="NTP"):
        asked.client.kline_page(MINUTE, HOUR)
    assert recorded.paths == ["/v5/market/kline", "/v5/market/time", "/v5/market/kline"]


def test_a_refused_clock_stays_the_error_when_the_time_is_refused_too() -> None:
    with canned(answers(refusal(10002)), **SIGNED, retry_max_attempts=2) as asked, pytest.raises(ClockSkew):
        asked.client.kline_page(MINUTE, HOUR)
    assert len(asked.sent) == 3


def test_an_answer_from_the_future_sets_the_clock_only_until_it_is_refused() -> None:
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9)
    truth = SimulatorTransport(exchange).handle_request
    lies = [answers(ok({}, time_ms=NOW_MS + 10**9))]
    recorded = Recorded(lambda request: lies.pop()(request) if lies else truth(request))
    with canned(recorded, **SIGNED) as asked:
        asked.client.server_time_ms()
        asked.client.kline_page(MINUTE, HOUR)
    assert recorded.paths[1:] == ["/v5/market/kline", "/v5/market/time", "/v5/market/kline"]


def test_an_older_answer_does_not_set_the_clock_back_unless_it_was_found_wrong() -> None:
    clock = ServerClock(lambda: 1000)
    assert clock.now_ms() == 1000
    clock.heard(5000)
    clock.heard(4000)
    assert clock.now_ms() == 5000
    clock.forget()
    assert clock.now_ms() == 5000
    clock.heard(4000)
    assert clock.now_ms() == 4000


def test_a_redirect_does_not_carry_the_signature_to_another_host() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "http://elsewhere.example/v5/market/kline"})

    recorded = Recorded(handler)
    with canned(recorded, **SIGNED) as asked, pytest.raises(UnexpectedAnswer):
        asked.client.kline_page(MINUTE, HOUR)
    assert len(recorded.headers) == 1


@pytest.mark.parametrize(
    ("key", "secret", "kind", "words"),
    [
        ("nobody_knows_it", SECRET, BadKey, "BYBIT_API_KEY"),
        (KEY, "another_secret", BadSignature, "BYBIT_API_SECRET"),
        ("expired_api_key", SECRET, KeyExpired, "make a new key"),
        ("forbidden_api_key", SECRET, KeyNotAllowed, "the right to read"),
    ],
)
def test_a_refused_key_is_its_own_error_at_once_and_is_not_named(
    key: str, secret: str, kind: type[AuthenticationRefused], words: str
) -> None:
    questions: list[Callable[[BybitClient], Any]] = [
        BybitClient.key_info,
        lambda client: client.kline_page(MINUTE, HOUR),
    ]
    for ask in questions:
        with simulated_account(api_key=key, api_secret=secret) as (asked, _), pytest.raises(kind) as caught:
            ask(asked.client)
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert len(asked.sent) == 1
        assert not exposed(caught.value, key, secret)


def test_the_rights_of_a_key_are_told() -> None:
    body = ok(RIGHTS | {"expiredAt": "2024-05-15T03:13:24Z"})
    with canned(answers(body), **SIGNED) as asked:
        assert asked.client.key_info() == KeyInfo(
            read_only=True,
            permissions=("Wallet: AccountTransfer, Withdraw",),
            ips=("*",),
            expires_at=datetime(2024, 5, 15, 3, 13, 24, tzinfo=UTC),
        )
    with canned(answers(ok(RIGHTS | {"readOnly": 0, "expiredAt": ""})), **SIGNED) as asked:
        info = asked.client.key_info()
        assert (info.read_only, info.expires_at) == (False, None)
    with simulated_account() as (asked, _):
        assert asked.client.key_info().read_only


@pytest.mark.parametrize("result", [{}, {"readOnly": "yes"}, RIGHTS | {"expiredAt": "soon"}, RIGHTS | {"ips": 1}])
def test_rights_of_another_shape_are_malformed(result: Any) -> None:
    with canned(answers(ok(result)), **SIGNED, retry_max_attempts=1) as asked, pytest.raises(MalformedAnswer):
        asked.client.key_info()


@pytest.mark.parametrize("key", ["with space", "line\nbreak", "trailing\n", "nötig"])
def test_a_key_that_no_header_can_hold_names_the_variable_and_not_itself(key: str) -> None:
    for option, variable in (("api_key", "BYBIT_API_KEY"), ("api_secret", "BYBIT_API_SECRET")):
        with pytest.raises(ConfigError, match=variable) as caught:
            Connection(BybitSettings.model_validate(SIGNED | {option: key}))
        assert not exposed(caught.value, key)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, refusal(10004, f"error sign! origin_string[1712752496000{KEY}5000]"), BadSignature),
        (200, refusal(10001, f"params error: {SECRET} symbol invalid"), BadSymbol),
        (200, refusal(123456, "x" * 110 + KEY), UnexpectedAnswer),
        (200, ok({"symbol": SECRET, "category": "linear", "list": []}), MalformedAnswer),
        (
            200,
            ok({"symbol": "BTCUSDT", "category": "linear", "list": [["x" * 30 + SECRET] * 7]}),
            MalformedAnswer,
        ),
        (403, f"<html>{KEY} and {SECRET}</html>", UnexpectedAnswer),
        (500, "<p>" * 1363 + KEY, ServerBusy),
        (401, "y" * 190 + SECRET, AuthenticationRefused),
    ],
)
def test_what_an_answer_echoes_is_hidden_in_every_error(status: int, body: Any, kind: type[ExchangeError]) -> None:
    with canned(answers(body, status=status), **SIGNED, retry_max_attempts=1) as asked, pytest.raises(kind) as caught:
        asked.client.kline_page(MINUTE, HOUR)
    assert not exposed(caught.value)
    # Not even the half of one that a cut has left.
    assert KEY[:6] not in str(caught.value)
    assert SECRET[:6] not in str(caught.value) + caught.value.body_excerpt


def test_our_own_words_stay_readable_whatever_the_key_is() -> None:
    body = refusal(10003, "API key x is invalid.")
    with canned(answers(body), api_key="x", api_secret="e") as asked, pytest.raises(BadKey) as caught:
        asked.client.key_info()
    assert "key *** is" in str(caught.value).replace("k***y", "key")
    assert "to a key of the exchange of BYBIT_BASE_URL" in str(caught.value)


def test_what_a_broken_connection_says_is_hidden_and_its_request_has_no_key() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-bapi-api-key"] == KEY
        raise httpx.ReadError(f"sent {KEY} and {SECRET}", request=request)

    with canned(handler, **SIGNED, retry_max_attempts=1) as asked, pytest.raises(ExchangeUnavailable) as caught:
        asked.client.kline_page(MINUTE, HOUR)
    assert not exposed(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, httpx.RequestError)
    assert not [name for name in cause.request.headers if name.startswith("x-bapi")]


def test_nothing_that_holds_the_key_shows_it_or_can_be_pickled() -> None:
    made = signature()
    with Connection(BybitSettings.model_validate(SIGNED)) as connection:
        for holder in (made, connection):
            assert not exposed(holder)
            with pytest.raises(TypeError):
                pickle.dumps(holder)
            with pytest.raises(TypeError):
                copy.deepcopy(holder)


def exposed(holder: object, *secrets: str) -> list[str]:
    """Return the ways in which something shows a secret."""
    shown = {"repr": repr(holder), "str": str(holder), "vars": repr(vars(holder))}
    if isinstance(holder, BaseException):
        shown["pickle"] = repr(pickle.dumps(holder))
    return [way for way, text in shown.items() for secret in secrets or (KEY, SECRET) if secret in text]
