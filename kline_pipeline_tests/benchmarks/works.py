"""The named works W1 to W6: what a user does, as commands of their own, beside what no pipeline can beat."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from kline_pipeline.market.series import Series
from kline_pipeline.market.times import end_of, start_of
from kline_pipeline.market.window import Window
from kline_pipeline_tests.benchmarks import floors
from kline_pipeline_tests.benchmarks.world import Cost, World, world

BTC: Final = "linear:BTCUSDT:1"
MONTH: Final = ("2024-01-01", "2024-01-31")
YEAR: Final = ("2023-01-01", "2023-12-31")
FOUR_YEARS: Final = ("2021-01-01", "2024-12-31")
_VERSIONS: Final = "select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables where relname = 'candles'"


@dataclass(frozen=True)
class Work:
    """A range of series, for the core or through `backfill`.

    Attributes:
        name: W1 ...
        keys, start, end: what is asked for; `end` is the last day.
        options: of `simulate`.
    """

    name: str
    keys: tuple[str, ...]
    start: str
    end: str
    options: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """The whole range."""
        now_ms = 2**43
        return Window(start_of(self.start, now_ms), end_of(self.end, now_ms))

    @property
    def candles(self) -> int:
        """How many there are, all series together."""
        return len(self.keys) * Series.parse(self.keys[0]).interval.count(self.window.start_ms, self.window.end_ms)

    @property
    def pages(self) -> int:
        """How many full pages that is; each series begins one of its own."""
        return len(self.keys) * -(-self.candles // len(self.keys) // 1000)

    @property
    def floor_s(self) -> float:
        """Computed."""
        return floors.computed_s(self.pages)


WORKS: Final = {
    work.name: work
    for work in (
        Work("W1", (BTC,), *MONTH),
        Work("W2", (BTC,), *YEAR),
        Work("W3", (BTC, "linear:ETHUSDT:1", "linear:SOLUSDT:1"), *MONTH),
        Work("W4", tuple(f"linear:SYM{number:03}USDT:60" for number in range(1, 51)), *MONTH, ("--symbols", "50")),
        Work("W2x4", (BTC,), *FOUR_YEARS),
    )
}


@dataclass(frozen=True)
class Measured:
    """One line of the table.

    Attributes:
        work, way: W1 ..., and core, backfill, or what was done instead.
        cost: what the command took.
        candles: that it was about.
        floor_s: computed; 0 where there is none.
        refused: 403 answers of the exchange.
        versions: row versions that kline.candles got: inserted, updated, deleted.
    """

    work: str
    way: str
    cost: Cost
    candles: int
    floor_s: float
    refused: int
    versions: tuple[int, int, int]


def by_core(here: World, work: Work) -> Cost:
    """Run a work with the core pipeline in a process of its own."""
    words = [sys.executable, "-m", "kline_pipeline_tests.benchmarks.core", work.start, work.end, *work.keys]
    return here.program(words)


def by_backfill(here: World, work: Work) -> Cost:
    """Run a work through Dagster, as a user does."""
    return here.command("backfill", *work.keys, "--from", work.start, "--to", work.end, "--json")


WAYS: Final[dict[str, Callable[[World, Work], Cost]]] = {"core": by_core, "backfill": by_backfill}


def measure(work: Work, way: str, *, again: bool = False) -> list[Measured]:
    """Run a work in a new KLINE_HOME, and again on what is stored then if asked to; every run must be complete."""
    found = []
    with world(*work.options) as here:
        for name in (work.name, "W5") if again else (work.name,):
            before = _versions(here)
            cost = WAYS[way](here, work)
            _check(here, work, cost)
            refused = sum(
                count
                for outcomes in here.stats()["requests"].values()
                for outcome, count in outcomes.items()
                if "403" in outcome
            )
            after = _versions(here)
            versions = tuple(now - then for now, then in zip(after, before, strict=True))
            found.append(Measured(name, way, cost, work.candles, work.floor_s, refused, versions))  # type: ignore[arg-type]
    return found


def _check(here: World, work: Work, cost: Cost) -> None:
    told = here.output()
    if cost.code != 0:
        raise SystemExit(f"{work.name} failed with exit code {cost.code}:\n{told}")
    report = json.loads(told.splitlines()[-1])
    landed = report["candles"] if "candles" in report else report["totals"]["present"]
    if landed != work.candles:
        raise SystemExit(f"{work.name}: {landed} candles landed, {work.candles} were asked for")


def _versions(here: World) -> tuple[int, ...]:
    with here.database.engine.begin() as connection:
        connection.execute(text("select pg_stat_clear_snapshot()"))
        row = connection.execute(text(_VERSIONS)).one()
        return tuple(int(value) for value in row)


def read_back() -> dict[str, dict[str, float]]:
    """Run W2 with the core and W6 on what it stored."""
    work = WORKS["W2"]
    with world() as here:
        _check(here, work, by_core(here, work))
        words = [sys.executable, "-m", "kline_pipeline_tests.benchmarks.reading", *work.keys, work.start, work.end]
        cost = here.program(words)
        if cost.code != 0:
            raise SystemExit(f"W6 failed:\n{here.output()}")
        found: dict[str, dict[str, float]] = json.loads(here.output().splitlines()[-1])
        return found
