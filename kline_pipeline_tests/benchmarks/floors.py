"""What no pipeline can beat: each floor is measured in the run of the work that is compared with it.

Fetching: pages / rate and one round trip, computed; and the same pages fetched and thrown away. Storing: plain COPY of
the same rows, plain write of the same Parquet. Decoding: orjson alone over the same bytes.
"""

import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import httpx
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import text

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.messages import Answer, kline_rows, open_envelope
from kline_pipeline.bybit.pages import Page, PageFailure, fetch_pages, plan
from kline_pipeline.config import BybitSettings
from kline_pipeline.database.engine import Database
from kline_pipeline.market.schema import CANDLE_SCHEMA, decimals, lines_of, moments_of, snapshot_table
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.benchmarks.world import LATENCY_MS, RATE, World

TIMES = 5


def computed_s(pages: int) -> float:
    """Return the least time in which so many pages can come: the rate, and one round trip."""
    return pages / RATE + LATENCY_MS / 1000


def fetching_alone_s(world: World, series: Series, window: Window) -> tuple[int, float]:
    """Return how many pages a window has, and how long they take when they are thrown away, without the imports."""
    asks = [(series, page) for page in plan(window, series.interval)]
    settings = BybitSettings(base_url=world.url, requests_per_second=RATE)
    with BybitClient(settings, budget=FileBudget(Path(world.home, "alone.lock"), RATE)) as client:
        began = time.perf_counter()
        rows = sum(_rows(page) for page in fetch_pages(client.kline_page, asks, settings.concurrency))
        took_s = time.perf_counter() - began
    if rows != series.interval.count(window.start_ms, window.end_ms):
        raise SystemExit(f"fetching alone: {rows} candles came of {series} in {window}")
    return len(asks), took_s


def _rows(page: Page | PageFailure) -> int:
    if isinstance(page, PageFailure):
        raise page.error
    rows: int = page.rows.num_rows
    return rows


def bodies(world: World, series: Series, window: Window, count: int = 30) -> list[bytes]:
    """Return some full pages of a window as served."""
    with httpx.Client(base_url=world.url) as client:
        return [
            client.get(
                "/v5/market/kline",
                params={
                    "category": series.category,
                    "symbol": series.symbol,
                    "interval": series.interval.code,
                    "start": page.start_ms,
                    "end": page.end_ms - 1,
                    "limit": 1000,
                },
            ).content
            for page in plan(window, series.interval)[:count]
        ]


def decoding(pages: list[bytes], series: Series) -> dict[str, float]:
    """Return CPU seconds per page: orjson alone, our exact columns, and those as decimals."""

    def ours(body: bytes) -> pa.Table:
        answer = Answer(host="", asked="", status=200, headers={}, body=body)
        return kline_rows(answer, open_envelope(answer), category=series.category, symbol=series.symbol)

    def as_decimals(body: bytes) -> None:
        table = ours(body)
        for name in CANDLE_SCHEMA.names[1:]:
            decimals(table[name])

    costs = {"orjson": orjson.loads, "exact text": ours, "decimal128": as_decimals}
    return {name: cpu_s(partial(_each, step, pages)) / len(pages) for name, step in costs.items()}


def _each(step: Callable[[bytes], object], pages: Sequence[bytes]) -> None:
    for page in pages:
        step(page)


def plain_copy_s(database: Database, tables: Sequence[pa.Table]) -> float:
    """Return the wall time of a plain COPY of candles into a table like kline.candles with its key, a commit each."""
    contents = [b"".join(lines_of(candles, pa.scalar("1"), moments_of(candles))) for candles in tables]
    times = []
    for _ in range(TIMES):
        with database.engine.begin() as connection:
            connection.execute(text("drop table if exists kline.plain"))
            connection.execute(text("create table kline.plain (like kline.candles including indexes)"))
        began = time.perf_counter()
        for content in contents:
            with database.engine.begin() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                with driver.cursor() as cursor, cursor.copy("copy kline.plain from stdin") as copy:
                    copy.write(content)
        times.append(time.perf_counter() - began)
    with database.engine.begin() as connection:
        connection.execute(text("drop table kline.plain"))
    return median(times)


def plain_parquet_s(candles: pa.Table) -> float:
    """Return the CPU time of writing candles as a snapshot, nothing else."""
    table = snapshot_table(("linear", "BTCUSDT", "1"), candles)
    return cpu_s(lambda: pq.write_table(table, io.BytesIO(), compression="zstd", use_dictionary=False))


def cpu_s(step: Callable[[], object]) -> float:
    """Return the least CPU time of a few calls."""
    found = []
    for _ in range(TIMES):
        began = time.process_time()
        step()
        found.append(time.process_time() - began)
    return min(found)
