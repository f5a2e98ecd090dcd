"""pybit, the exchange's own Python client, against the simulator."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.grid import MINUTE_MS
from kline_pipeline.simulator.history import CATEGORIES
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline_tests.interop.conftest import CANDLES, START_MS, Truth, wall_ms

pytestmark = pytest.mark.interop
PAGE = 1000


@pytest.fixture
def session(url: str) -> Iterator[Any]:
    """A pybit session pointed at the simulator; it builds https addresses, so its endpoint is set afterwards."""
    made = importlib.import_module("pybit.unified_trading").HTTP(api_key="test_api_key", api_secret="test_secret")
    made.endpoint = url
    yield made
    made.client.close()


def windows(session: Any, category: str, symbol: str, start_ms: int, end_ms: int) -> list[list[str]]:
    """Every candle that opens in [start, end), by windows of 1000 as a user of pybit writes it."""
    rows: list[list[str]] = []
    while start_ms < end_ms:
        last_ms = min(start_ms + (PAGE - 1) * MINUTE_MS, end_ms - MINUTE_MS)
        answer = session.get_kline(
            category=category, symbol=symbol, interval="1", start=start_ms, end=last_ms, limit=PAGE
        )
        rows.extend(reversed(answer["result"]["list"]))
        start_ms = last_ms + MINUTE_MS
    return rows


@pytest.mark.parametrize(("category", "symbol"), [("linear", "BTCUSDT"), ("inverse", "BTCUSD"), ("spot", "XRPUSDT")])
def test_thirty_days_of_minutes_are_those_of_the_history(
    session: Any, exchange: Exchange, truth: Truth, category: str, symbol: str
) -> None:
    rows = windows(session, category, symbol, START_MS, START_MS + CANDLES * MINUTE_MS)

    assert len(rows) == CANDLES
    assert [tuple(row) for row in rows] == truth(category, symbol, START_MS)
    assert exchange.stats.snapshot()["requests"] == {"kline": {"ok": 44}}


@pytest.mark.parametrize("category", CATEGORIES)
def test_paging_lists_every_instrument_that_trades(session: Any, history: SyntheticHistory, category: str) -> None:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        result = session.get_instruments_info(category=category, limit=3, cursor=cursor)["result"]
        found.extend(result["list"])
        cursor = result.get("nextPageCursor", "")
        if not cursor or not result["list"]:
            break
    now_ms = wall_ms()
    known = [i for i in history.instruments(category, now_ms) if i.status(now_ms) == "Trading" and not i.vanished]

    assert [(i["symbol"], i["priceFilter"]["tickSize"]) for i in found] == [(i.symbol, i.tick_size) for i in known]


def test_the_server_time_is_the_clock_of_the_simulator(session: Any) -> None:
    before_ms = wall_ms()
    answer = session.get_server_time()

    assert before_ms <= answer["time"] <= wall_ms()
    assert before_ms // 1000 <= int(answer["result"]["timeSecond"]) <= wall_ms() // 1000
    assert int(answer["result"]["timeNano"]) // 1_000_000 == answer["time"]


def test_a_signature_of_pybit_is_accepted_and_a_forged_one_is_not(session: Any) -> None:
    refused = importlib.import_module("pybit.exceptions").InvalidRequestError

    assert session.get_api_key_information()["result"]["apiKey"] == "test_api_key"
    session.api_secret = "guessed"
    with pytest.raises(refused, match="error sign!"):
        session.get_api_key_information()
