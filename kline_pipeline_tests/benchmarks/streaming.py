"""Pages from memory through the whole core into both sinks, at the pace of the exchange's limit and as fast as it goes.

Run by `python -m kline_pipeline_tests.benchmarks --only stream`, each in a process of its own. What is prepared before
the clock starts: the pages, their listing, the database. No socket is in the way; what counts as ours is this process.

    python -m kline_pipeline_tests.benchmarks.streaming RATE FROM TO KEY      (0 requests per second: no limit; UTC)
"""

import json
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Final

import httpx

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.pages import plan
from kline_pipeline.config import Settings
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import connect
from kline_pipeline.datasets import Cell, undeclared
from kline_pipeline.market.arrow import leave_pandas_alone
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import end_of, start_of
from kline_pipeline.market.window import Window
from kline_pipeline.pipeline import Pipeline
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline_tests.benchmarks.processes import cpu_of_family_s
from kline_pipeline_tests.benchmarks.world import postmaster_of, settings_of
from kline_pipeline_tests.worlds import NoBudget, ms

if TYPE_CHECKING:
    from kline_pipeline.bybit.ratelimit import Budget

_NOW_MS: Final = ms("2025-06-15 12:34:56")


class Prepared(httpx.BaseTransport):
    """Gives again what the simulator said the first time; for any number of threads."""

    def __init__(self) -> None:
        history = SyntheticHistory(7, now_ms=_NOW_MS)
        self._simulator = SimulatorTransport(Exchange(history, clock=lambda: _NOW_MS, requests_per_5s=10**9))
        self._told: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._lock = Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer from memory; what was never asked is asked of the simulator."""
        url = str(request.url)
        told = self._told.get(url)
        if told is None:
            with self._lock:
                answer = self._simulator.handle_request(request)
                told = (answer.status_code, list(answer.headers.items()), answer.read())
                self._told[url] = told
        status, headers, body = told
        return httpx.Response(status, headers=headers, content=body, request=request)


def main(rate: int, start: str, end: str, key: str) -> None:
    """Print pages, candles, wall seconds, and CPU seconds of ours and of the server."""
    leave_pandas_alone()
    series, transport = Series.parse(key), Prepared()
    pages = plan(Window(start_of(start, _NOW_MS), end_of(end, _NOW_MS)), series.interval)
    with TemporaryDirectory() as folder:
        home = Path(folder, "home")
        settings = settings_of(home, base_url="http://127.0.0.1:1")
        with connect(settings) as database:
            with _client(settings, NoBudget(), transport) as client:
                for page in pages:
                    client.kline_page(series, page)
                pipeline = Pipeline(settings, database=database, client=client)
                pipeline.listing(series.category, series.symbol, now_ms=_NOW_MS)
            budget = FileBudget(Path(folder, "rate.lock"), rate) if rate else NoBudget()
            with _client(settings, budget, transport) as client:
                pipeline = Pipeline(settings, database=database, client=client)
                told = _timed(pipeline, series, start, end, postmaster_of(home))
        EmbeddedServer(home).destroy()
    print(json.dumps({"pages": len(pages), **told}))


def _client(settings: Settings, budget: "Budget", transport: Prepared) -> BybitClient:
    return BybitClient(settings.bybit, budget=budget, transport=transport, clock_ms=lambda: _NOW_MS)


def _timed(pipeline: Pipeline, series: Series, start: str, end: str, postmaster: int) -> dict[str, float]:
    dataset = undeclared(series.category, series.interval)
    first, last = date.fromisoformat(start), date.fromisoformat(end)
    cells = [Cell(day, series.symbol) for day in dataset.dates(_NOW_MS) if dataset.floor(first) <= day <= last]
    server_s, own_s, began = cpu_of_family_s(postmaster), time.process_time(), time.perf_counter()
    passed = pipeline.run(dataset, cells)
    wall_s, own_s = time.perf_counter() - began, time.process_time() - own_s
    server_s = cpu_of_family_s(postmaster) - server_s
    if not all(one.landed for one in passed.values()):
        raise SystemExit("not every partition landed")
    rows = sum(one.verdict.rows for one in passed.values())
    return {"candles": rows, "wall_s": wall_s, "own_cpu_s": own_s, "postgres_cpu_s": server_s}


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
