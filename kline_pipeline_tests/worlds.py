"""A whole world for a test: a simulated exchange with a clock that stands still, a pipeline, a real database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import text

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.ratelimit import Lag, Standing, no_lag
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import to_ms
from kline_pipeline.pipeline import Pipeline
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.history import History
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline.stages.land import Landing

HOURLY = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("BTCUSDT", "ETHUSDT"))
MINUTELY = Dataset("linear", Interval("1"), date(2024, 1, 1), "month", ("BTCUSDT",))


def ms(text_: str) -> int:
    return to_ms(datetime.fromisoformat(text_).replace(tzinfo=UTC))


class NoBudget:
    """A budget without a limit: the clock of these tests stands still."""

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        """Grant at once."""

    def cool_down(self, seconds: float, reason: str) -> None:
        """Cool nothing down."""

    def slow_down(self, reason: str) -> None:
        """Slow nothing down."""

    def standing(self) -> Standing:
        """Say that nothing is held back."""
        return Standing(0.0, 1.0)


class Clock:
    """A clock that a test sets; it stands still, or moves on by `step_ms` whenever it is asked."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.step_ms = 0

    def __call__(self) -> int:
        self.now_ms += self.step_ms
        return self.now_ms


@dataclass
class World:
    """One exchange, one database, one pipeline."""

    clock: Clock
    exchange: Exchange
    client: BybitClient
    database: Database
    settings: Settings
    pipeline: Pipeline

    def run(self, dataset: Dataset, *cells: tuple[str, str]) -> dict[Cell, tuple[Landing, Landing]]:
        """Run the whole flow over (date, symbol) cells and return both landings of each."""
        keys = [Cell(date.fromisoformat(day), symbol) for day, symbol in cells]
        self.pipeline.fill(dataset, keys)
        self.pipeline.derive(dataset, keys, now_ms=self.clock())
        table, files = self.pipeline.land_postgres(dataset, keys), self.pipeline.land_parquet(dataset, keys)
        return {key: (table[key], files[key]) for key in keys}

    def query(self, statement: str, **values: Any) -> Sequence[Any]:
        """Return the rows of a statement; one that returns none is committed too."""
        with self.database.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def table(self, series: str) -> list[tuple[Any, ...]]:
        """Return what kline.klines holds of a series: open time in ms and the six decimals, ascending."""
        one = Series.parse(series)
        rows = self.query(
            "select (extract(epoch from open_time) * 1000)::bigint, open, high, low, close, volume, turnover "
            "from kline.klines where category = :c and symbol = :s and interval = :i order by open_time",
            c=one.category, s=one.symbol, i=one.interval.code,
        )  # fmt: skip
        return [tuple(row) for row in rows]

    def pages(self, interval: str) -> int:
        """Return how many candle requests of an interval the exchange has seen."""
        return int(self.exchange.stats.snapshot()["requests_by_interval"].get(interval, 0))


@contextmanager
def world(
    settings: Settings,
    database: Database,
    *,
    now: str = "2024-04-10 12:34:56",
    seed: int = 7,
    history: History | None = None,
) -> Iterator[World]:
    """Open a world whose clock stands at `now`; without a history its candles are drawn by the seed."""
    clock = Clock(ms(now))
    told = history if history is not None else SyntheticHistory(seed, now_ms=clock())
    exchange = Exchange(told, clock=clock, requests_per_5s=10**9)
    bybit = settings.with_base_url("http://127.0.0.1:1").bybit.model_copy(update={"retry_initial_delay_s": 0.0})
    with BybitClient(
        bybit,
        budget=NoBudget(),
        transport=SimulatorTransport(exchange),
        sleep=lambda _: None,
        clock_ms=clock,
        tally=database.tally,
    ) as client:
        yield World(clock, exchange, client, database, settings, Pipeline(settings, database=database, client=client))
