"""The host: how a failure to reach it reads, how its URL is joined, and what it is called."""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import httpx
import pytest

from kline_pipeline.bybit.connection import Connection
from kline_pipeline.bybit.hosts import budget_name
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import Banned, ConfigError, ExchangeUnavailable, MalformedAnswer, TimedOut
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.exchanges import answers, canned, ok, simulated

MINUTE = Series.parse("linear:BTCUSDT:1")
HOUR = Window(1_712_746_800_000, 1_712_750_400_000)  # 2024-04-10 11:00 to 12:00
EMPTY = ok({"symbol": "BTCUSDT", "category": "linear", "list": []})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "BYBIT_BASE_URL"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "BYBIT_BASE_URL"),
        (httpx.ConnectTimeout("timed out"), "BYBIT_TIMEOUT_S"),
        (httpx.RemoteProtocolError("peer closed connection"), "the connection broke"),
    ],
)
def test_an_exchange_that_cannot_be_reached_is_named_with_what_to_do(error: httpx.RequestError, words: str) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    with (
        canned(handler, base_url="http://127.0.0.1:9") as asked,
        pytest.raises(ExchangeUnavailable) as caught,
    ):
        asked.client.kline_page(MINUTE, HOUR)
    message = str(caught.value)
    assert message.startswith("asked 127.0.0.1:9 for candles of linear:BTCUSDT:1 in [2024-04-10T11:00:00Z")
    assert words in message
    assert asked.client.requests["kline", type(caught.value).__name__] == 5
    assert isinstance(caught.value, TimedOut) == isinstance(error, httpx.TimeoutException)


def test_a_refused_connection_of_this_machine_is_one_sentence() -> None:
    settings = BybitSettings.model_validate({"base_url": "http://127.0.0.1:9"})
    with pytest.raises(ExchangeUnavailable, match="no connection could be made"):
        Connection(settings).venue()


def test_a_ban_names_the_cool_down_of_the_settings() -> None:
    with (
        canned(answers("access too frequent", status=403), cool_down_s=90) as asked,
        pytest.raises(Banned, match="for 90 s"),
    ):
        asked.client.server_time_ms()


@pytest.mark.parametrize("base_url", ["http://me:geheim@", "http://me:geheim@a b", "http://me:geheim@h:port"])
def test_a_base_url_that_is_none_is_told_without_its_password(base_url: str) -> None:
    with pytest.raises(ConfigError, match="BYBIT_BASE_URL") as caught:
        Connection(BybitSettings.model_validate({"base_url": base_url}))
    assert "geheim" not in str(caught.value)


def test_an_answer_without_end_is_given_up() -> None:
    with (
        canned(answers("0" * (33 * 2**20)), retry_max_attempts=1) as asked,
        pytest.raises(MalformedAnswer, match="more than"),
    ):
        asked.client.server_time_ms()


class Dripping(httpx.SyncByteStream):
    """A body that comes in pieces, each a second later by the clock of the test."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.now_s = 100.0
        self.taken = 0
        self.closed = False
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.now_s += 1
            self.taken += 1
            yield piece

    def close(self) -> None:
        self.closed = True


def dripped(stream: Dripping, headers: dict[str, str] | None = None, **settings: Any) -> Connection:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, stream=stream)

    options = BybitSettings.model_validate({"base_url": "http://127.0.0.1:1"} | settings)
    return Connection(options, httpx.MockTransport(handler), elapsed_s=lambda: stream.now_s)


def test_a_body_that_drips_for_ever_is_given_up_in_time() -> None:
    stream = Dripping(repeat(b"0"))
    with dripped(stream, timeout_s=10) as connection, pytest.raises(ExchangeUnavailable, match="BYBIT_TIMEOUT_S"):
        connection.get("/v5/market/time", {}, "its time")
    assert (stream.taken, stream.closed) == (11, True)


def test_a_dripping_body_is_given_up_even_if_it_never_unpacks_to_a_byte() -> None:
    # A gzip header with a comment that does not end: the decoder takes it all and gives nothing.
    stream = Dripping(chain([bytes.fromhex("1f8b0810000000000003")], repeat(b"x")))
    with dripped(stream, {"content-encoding": "gzip"}) as connection, pytest.raises(ExchangeUnavailable):
        connection.get("/v5/market/time", {}, "its time")
    assert stream.taken == 11


def test_a_slow_body_that_ends_in_time_is_an_answer() -> None:
    stream = Dripping([b"0"] * 9)
    with dripped(stream, timeout_s=10) as connection:
        assert connection.get("/v5/market/time", {}, "its time").body == b"0" * 9


def test_what_the_headers_have_taken_is_gone_from_the_wait_for_the_body() -> None:
    waits: list[float] = []
    now_s = [0.0]

    def handler(request: httpx.Request) -> httpx.Response:
        now_s[0] += 7

        def body() -> Iterator[bytes]:
            waits.append(request.extensions["timeout"]["read"])
            yield b"0"

        return httpx.Response(200, content=body())

    settings = BybitSettings.model_validate({"timeout_s": 10})
    with Connection(settings, httpx.MockTransport(handler), elapsed_s=lambda: now_s[0]) as connection:
        connection.get("/v5/market/time", {}, "its time")
    assert waits == [3.0]


def test_a_base_url_with_a_path_keeps_it() -> None:
    with canned(answers(EMPTY), base_url="http://127.0.0.1:1/bybit/") as asked:
        asked.client.kline_page(MINUTE, HOUR)
    assert asked.sent[0].url.path == "/bybit/v5/market/kline"


@pytest.mark.parametrize("base_url", ["http://", "http://[", "http://a b"])
def test_a_base_url_that_is_none_names_the_variable(base_url: str) -> None:
    with (
        pytest.raises(ConfigError, match="BYBIT_BASE_URL"),
        canned(answers(EMPTY), base_url=base_url),
    ):
        pass


@pytest.mark.parametrize(
    ("base_url", "venue"),
    [
        ("https://api.bybit.com", "bybit"),
        ("https://api.bytick.com", "bybit"),
        ("https://api-testnet.bybit.com", "bybit-testnet"),
        ("https://api.bybit.nl", "api.bybit.nl"),
        ("https://api.bybitgeorgia.ge", "api.bybitgeorgia.ge"),
    ],
)
def test_the_hosts_of_the_exchange_are_their_own_venue_without_a_question(base_url: str, venue: str) -> None:
    with canned(answers(EMPTY), base_url=base_url) as asked:
        assert asked.client.venue() == venue
    assert asked.sent == []


def test_a_simulator_names_itself_once_and_outside_the_budget() -> None:
    with simulated(seed=11) as (asked, _):
        assert [asked.client.venue(), asked.client.venue()] == ["simulated-seed-11"] * 2
    assert len(asked.sent) == 1
    assert asked.budget.acquired == 0


def test_a_host_that_has_no_name_is_its_own_venue() -> None:
    with canned(answers("404 page not found", status=404), base_url="http://localhost:8000") as asked:
        assert asked.client.venue() == "localhost:8000"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.bybit.com", "bybit"),
        ("https://api.bybit.com:443", "bybit"),
        ("https://API.bytick.com", "bybit"),
        ("https://api.bybit.nl:444", "api.bybit.nl:444"),
        ("https://user:geheim@api.bybit.com", "bybit"),
        ("https://api-testnet.bybit.com", "bybit-testnet"),
        ("https://api.bybit.nl", "api.bybit.nl"),
        ("http://127.0.0.1:8602", "loopback:8602"),
        ("http://user:geheim@localhost:8602", "loopback:8602"),
    ],
)
def test_one_exchange_has_one_budget_however_it_is_written(url: str, name: str) -> None:
    assert budget_name(url) == name


@pytest.mark.parametrize(
    "variable",
    [{"HTTPS_PROXY": "garbage://u:x@h"}, {"SSL_CERT_FILE": "/nonexistent"}],
    ids=["proxy", "certificate"],
)
def test_an_environment_that_cannot_work_is_named(monkeypatch: pytest.MonkeyPatch, variable: dict[str, str]) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        Connection(BybitSettings(base_url="https://api.bybit.com"))


def test_a_socks_proxy_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    Connection(BybitSettings(base_url="https://api.bybit.com")).close()
