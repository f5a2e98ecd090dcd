"""What no pipeline can beat, each as a function: a plain way to do a part of the work, with nothing of ours around it.

Fetching the same pages and throwing them away; plain COPY of the same rows; plain pyarrow write of the same tables;
orjson alone over the same bytes. Which rows and pages those are is told in work_floors and storing.
"""

import io
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Final

import httpx
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import text

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.pages import Page, PageFailure, fetch_pages
from kline_pipeline.bybit.ratelimit import Budget
from kline_pipeline.config import BybitSettings
from kline_pipeline.database.engine import Database
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window

TIMES: Final = 5
_TURN_S: Final = 60.0
_NAMES: Final = ["category", "symbol", "interval"]

Asks = Sequence[tuple[Series, Window]]


def fetched_s(settings: BybitSettings, budget: Budget, asks: Asks) -> tuple[int, float]:
    """Return how many candles some pages have, and the wall time of fetching and throwing them away, without imports.

    The client, its threads and the budget are those of the pipeline; no socket is open before the clock starts. The
    exact columns that the client makes of an answer are made and thrown away too.
    """
    with BybitClient(settings, budget=budget) as client:
        began = time.perf_counter()
        rows = sum(_rows(page) for page in fetch_pages(client.kline_page, asks, settings.concurrency))
        return rows, time.perf_counter() - began


def _rows(page: Page | PageFailure) -> int:
    if isinstance(page, PageFailure):
        raise page.error
    rows: int = page.rows.num_rows
    return rows


def bodies(settings: BybitSettings, budget: Budget, asks: Asks) -> list[bytes]:
    """Return some pages as served."""
    found = []
    with httpx.Client(base_url=settings.base_url) as client:
        for series, page in asks:
            budget.acquire(_TURN_S)
            params: dict[str, str | int] = {
                "category": series.category,
                "symbol": series.symbol,
                "interval": series.interval.code,
                "start": page.start_ms,
                "end": page.end_ms - 1,
                "limit": 1000,
            }
            found.append(client.get("/v5/market/kline", params=params).raise_for_status().content)
    return found


def orjson_cpu_s(pages: Sequence[bytes]) -> float:
    """Return the CPU time of decoding pages with orjson, nothing else: the least of a few."""
    return cpu_s(lambda: [orjson.loads(page) for page in pages])


def plain_copy_s(database: Database, contents: Sequence[bytes], *, times: int = TIMES) -> float:
    """Return the wall time of a plain COPY into a table like kline.candles with its key, a commit each: the median.

    Args:
        database: that has kline.candles.
        contents: what COPY reads, all columns in the order of the table, such as the rows of a partition each.
        times: how often, each time into a new table.
    """
    took = []
    for _ in range(times):
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
        took.append(time.perf_counter() - began)
    with database.engine.begin() as connection:
        connection.execute(text("drop table kline.plain"))
    return median(took)


def plain_parquet(tables: Iterable[pa.Table]) -> tuple[list[bytes], float]:
    """Return tables (SNAPSHOT_SCHEMA) as Parquet in memory, and the wall time of writing them, one after the other.

    Compression, dictionary columns and statistics are those of sinks/candles_parquet, spelled out here so that the
    floor stays where it is when the sink gets slower; whoever compares a file of the sink finds the same bytes.
    """
    found, took_s = [], 0.0
    for table in tables:
        sink = io.BytesIO()
        began = time.perf_counter()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            compression_level=3,
            use_dictionary=_NAMES,
            write_statistics=[*_NAMES, "open_time"],
        )
        took_s += time.perf_counter() - began
        found.append(sink.getvalue())
    return found, took_s


def cpu_s(step: Callable[[], object]) -> float:
    """Return the least CPU time of a few calls."""
    found = []
    for _ in range(TIMES):
        began = time.process_time()
        step()
        found.append(time.process_time() - began)
    return min(found)
