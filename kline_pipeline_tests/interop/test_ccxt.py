"""ccxt against the simulator, with no option of its own but the address."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.grid import MINUTE_MS
from kline_pipeline.simulator.history import Row
from kline_pipeline_tests.interop.conftest import CANDLES, START_MS, Truth, wall_ms

pytestmark = pytest.mark.interop
MARKETS = [
    ("BTC/USDT:USDT", "linear", "BTCUSDT"),
    ("BTC/USD:BTC", "inverse", "BTCUSD"),
    ("XRP/USDT", "spot", "XRPUSDT"),
]


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    """A ccxt client with every address of its Bybit replaced by the simulator's."""
    made = importlib.import_module("ccxt").bybit({"apiKey": "test_api_key", "secret": "test_secret"})
    made.urls["api"] = dict.fromkeys(made.urls["api"], url)
    yield made
    made.session.close()


@pytest.fixture
def public_client(client: Any) -> Any:
    """The same without a key: with one, load_markets asks for the coins of the account first."""
    client.apiKey = client.secret = None
    return client


def numbers(rows: list[Row], category: str) -> list[list[float]]:
    """What ccxt makes of rows: floats, and as volume of an inverse contract the turnover, which is in coins."""
    volume = 6 if category == "inverse" else 5
    return [[int(row[0]), *map(float, row[1:5]), float(row[volume])] for row in rows]


def since_loop(client: Any, market: str, start_ms: int, end_ms: int) -> list[list[float]]:
    """Every candle that opens in [start, end), as the manual of ccxt tells to page."""
    rows: list[list[float]] = []
    since_ms = start_ms
    while since_ms < end_ms:
        page = client.fetch_ohlcv(market, "1m", since_ms, 1000)
        if not page:
            break
        rows.extend(page)
        since_ms = page[-1][0] + MINUTE_MS
    return [row for row in rows if row[0] < end_ms]


@pytest.mark.parametrize(("market", "category", "symbol"), MARKETS)
def test_thirty_days_of_minutes_are_those_of_the_history(
    public_client: Any, exchange: Exchange, truth: Truth, market: str, category: str, symbol: str
) -> None:
    rows = since_loop(public_client, market, START_MS, START_MS + CANDLES * MINUTE_MS)

    assert len(rows) == CANDLES
    assert rows == numbers(truth(category, symbol, START_MS), category)
    assert exchange.stats.snapshot()["requests"]["kline"] == {"ok": 44}


def test_the_pagination_of_ccxt_itself_brings_the_last_thirty_days(public_client: Any, truth: Truth) -> None:
    start_ms = (wall_ms() // MINUTE_MS - CANDLES) * MINUTE_MS
    # Its pages reckon from the clock of this machine, and ten of them is its default.
    options = {"paginate": True, "paginationCalls": 44}
    rows = public_client.fetch_ohlcv("BTC/USDT:USDT", "1m", start_ms, CANDLES, options)

    assert rows == numbers(truth("linear", "BTCUSDT", start_ms), "linear")


def test_all_markets_load_without_options(public_client: Any, exchange: Exchange) -> None:
    markets = public_client.load_markets()
    requests = exchange.stats.snapshot()["requests"]

    assert {name for name, _, _ in MARKETS} <= set(markets)
    assert (markets["BTC/USD:BTC"]["type"], markets["BTC/USD:BTC"]["inverse"]) == ("swap", True)
    assert (markets["XRP/USDT"]["precision"]["amount"], markets["XRP/USDT"]["precision"]["price"]) == (0.01, 0.0001)
    # Of the categories only option lists nothing.
    assert set(requests["instruments-info"]) == {"ok", "empty"}


def test_the_server_time_is_the_clock_of_the_simulator(public_client: Any) -> None:
    before_ms = wall_ms()

    assert before_ms <= public_client.fetch_time() <= wall_ms()


def test_a_signature_of_ccxt_is_accepted_and_a_forged_one_is_not(client: Any) -> None:
    refused = importlib.import_module("ccxt").AuthenticationError

    assert client.privateGetV5UserQueryApi()["result"]["apiKey"] == "test_api_key"
    client.secret = "guessed"
    with pytest.raises(refused, match="error sign!"):
        client.privateGetV5UserQueryApi()
