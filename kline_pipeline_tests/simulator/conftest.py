"""An exchange at a fixed time for the tests of the simulator."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.grid import utc_ms
from kline_pipeline.simulator.market import SyntheticHistory

NOW_MS = utc_ms(2024, 5, 22, 6, 30) + 20_500
Ask = Callable[..., Any]


class Clock:
    """A server clock that stands still until it is set."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture(scope="session")
def history() -> SyntheticHistory:
    return SyntheticHistory(7, now_ms=NOW_MS)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW_MS)


@pytest.fixture
def exchange(history: SyntheticHistory, clock: Clock) -> Exchange:
    return Exchange(history, clock=clock)


@pytest.fixture
def ask(exchange: Exchange) -> Ask:
    """Return a function that asks for a page and returns the parsed body."""

    def asked(path: str = "kline", **query: object) -> Any:
        words = {name: str(value) for name, value in query.items()}
        response = exchange.handle("GET", f"/v5/market/{path}", words)
        assert response.status == 200
        return json.loads(response.body)

    return asked


@pytest.fixture
def opens(ask: Ask) -> Callable[..., list[int]]:
    """Return a function that asks for candles and returns their open_times as they come."""

    def asked(**query: object) -> list[int]:
        words = {"category": "linear", "symbol": "BTCUSDT", "interval": "1", **query}
        return [int(row[0]) for row in ask(**words)["result"]["list"]]

    return asked
