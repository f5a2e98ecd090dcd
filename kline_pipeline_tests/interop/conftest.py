"""The simulator by the clock of this machine, as `kline-pipeline simulate` serves it, for other people's clients.

These tests need the extra `interop`, so nothing here imports a client before a test asks for it.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.grid import MINUTE_MS, utc_ms
from kline_pipeline.simulator.history import Row
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer

CANDLES = 43_200
START_MS = utc_ms(2024, 4, 1)
Truth = Callable[[str, str, int], list[Row]]


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="session")
def history() -> SyntheticHistory:
    return SyntheticHistory(7, now_ms=wall_ms())


@pytest.fixture
def exchange(history: SyntheticHistory) -> Exchange:
    return Exchange(history, clock=wall_ms)


@pytest.fixture
def url(exchange: Exchange) -> Iterator[str]:
    with SimulatorServer(exchange) as server:
        yield server.url


@pytest.fixture
def truth(history: SyntheticHistory) -> Truth:
    """Return a function of category, symbol and start: the 30 days of minutes from the history itself, oldest first."""

    def asked(category: str, symbol: str, start_ms: int) -> list[Row]:
        now_ms = wall_ms()
        instrument = history.find(category, symbol, now_ms)
        assert instrument is not None
        last_ms = start_ms + (CANDLES - 1) * MINUTE_MS
        rows = history.newest(instrument, "1", until_ms=last_ms, limit=CANDLES, now_ms=now_ms)[::-1]
        assert [int(row[0]) for row in rows] == list(range(start_ms, last_ms + 1, MINUTE_MS))
        return rows

    return asked
