"""A small exchange: one instrument whose candles follow from their open times, and what of them must come."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from kline_pipeline.bybit.cache.page_cache import PageCache
from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.config import BybitSettings
from kline_pipeline.direct.source import Source
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.history import Row
from kline_pipeline.simulator.instruments import Instrument
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline_tests.worlds import NoBudget

GRACE_MS = 10_000
_FAR_MS = 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class SmallHistory:
    """One instrument; every interval has a candle wherever one of its lives is touched.

    Attributes:
        instrument: with its lives.
        venue, seed: as History asks for them.
    """

    instrument: Instrument
    venue: str = "small"
    seed: int | None = 0

    def instruments(self, category: str, now_ms: int) -> list[Instrument]:
        return [self.instrument] if category == self.instrument.category else []

    def find(self, category: str, symbol: str, now_ms: int) -> Instrument | None:
        return self.instrument if (category, symbol) == (self.instrument.category, self.instrument.symbol) else None

    def has(self, instrument: Instrument, interval: str) -> bool:
        return True

    def newest(self, instrument: Instrument, interval: str, *, until_ms: int, limit: int, now_ms: int) -> list[Row]:
        one = Interval(interval)
        rows: list[Row] = []
        for start_ms, end_ms in reversed(self.instrument.lives):
            last_ms = min(until_ms, now_ms, (end_ms or _FAR_MS) - 1)
            first_ms = one.floor(start_ms)
            if now_ms < start_ms or last_ms < first_ms:
                continue
            newest_ms = one.floor(last_ms)
            oldest_ms = max(first_ms, one.shift(newest_ms, len(rows) + 1 - limit))
            times = one.grid(oldest_ms, newest_ms + 1)[::-1]
            seen = int(rows[-1][0]) if rows else _FAR_MS
            rows += [row_of(int(time_ms), one) for time_ms in times if time_ms < seen]
            if len(rows) >= limit:
                break
        return rows[:limit]


def row_of(open_time_ms: int, interval: Interval) -> Row:
    """Return the candle that the exchange has at an open time."""
    price = 100 + open_time_ms // 60_000 % 9973
    number = f"{price}.5"
    return str(open_time_ms), number, f"{price + 1}", f"{price}", number, "2", f"{2 * price + 1}"


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of which exchange.

    Attributes:
        series: whose candles.
        lives: of the instrument, ascending; None: it goes on.
        now_ms: the exchange's clock, which stands still.
        dropped_ms: open times whose candle the exchange leaves out.
        faults: what else goes wrong.
        concurrency: requests in flight.
    """

    series: Series
    lives: tuple[tuple[int, int | None], ...]
    now_ms: int
    dropped_ms: frozenset[int] = frozenset()
    faults: tuple[dict[str, Any], ...] = ()
    concurrency: int = 4

    def exchange(self) -> Exchange:
        """Return the exchange with all its faults."""
        instrument = Instrument(
            category=self.series.category, symbol=self.series.symbol, base_coin="A", quote_coin="USDT",
            lives=self.lives, launch_ms=self.lives[0][0], tick_size="0.1", qty_step="0.001",
        )  # fmt: skip
        exchange = Exchange(SmallHistory(instrument), clock=lambda: self.now_ms, requests_per_5s=10**9)
        about = {"category": self.series.category, "symbol": self.series.symbol, "interval": self.series.interval.code}
        drops = [{"drop": {**about, "open_time": str(time_ms)}} for time_ms in sorted(self.dropped_ms)]
        exchange.faults.replace([*drops, *self.faults])
        return exchange

    def listed(self, window: Window) -> set[int]:
        """Return the open times of a window whose candle overlaps a life and has closed; dropped ones included."""
        interval = self.series.interval
        end_ms = min(window.end_ms, interval.closed_end(self.now_ms, GRACE_MS))
        found: set[int] = set()
        for start_ms, until_ms in self.lives:
            last_ms = min(end_ms, until_ms or _FAR_MS)
            found.update(int(one) for one in interval.grid(interval.floor(start_ms), max(last_ms, 0)))
        return {one for one in found if one in window and one < end_ms}


@contextmanager
def source_of(
    case: Case, cache: PageCache | None = None, exchange: Exchange | None = None
) -> Iterator[tuple[Source, Exchange]]:
    """Open a source of the case's exchange, or of another one, that waits for nothing."""
    served = exchange or case.exchange()
    settings = BybitSettings(
        base_url="http://127.0.0.1:1", retry_initial_delay_s=0, retry_max_delay_s=0, retry_max_attempts=5, timeout_s=10
    )
    with BybitClient(
        settings, budget=NoBudget(), transport=SimulatorTransport(served), sleep=lambda _: None,
        clock_ms=lambda: case.now_ms,
    ) as client:  # fmt: skip
        yield Source(client, cache, grace_ms=GRACE_MS, concurrency=case.concurrency), served


def times_of(tables: Sequence[pa.Table]) -> list[int]:
    """Return the open times of some tables in their order."""
    return [int(one) for table in tables for one in table["open_time_ms"].to_numpy()]


def all_as_served(tables: Sequence[pa.Table], interval: Interval) -> bool:
    """Say whether every candle is the exchange's, digit for digit."""
    return all(
        tuple(str(value) for value in row.values()) == row_of(row["open_time_ms"], interval)
        for table in tables
        for row in table.to_pylist()
    )


def sorted_unique(times: Sequence[int]) -> bool:
    """Say whether times ascend strictly."""
    return bool(np.all(np.diff(np.array(times, dtype=np.int64)) > 0))
