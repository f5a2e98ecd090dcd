"""The floors of a work, measured after it in the same world, in a process of its own: what it did, done plainly.

Run by the benchmarks with the environment of the work's KLINE_HOME, and prints one JSON object:

    python -m kline_pipeline_tests.benchmarks.work_floors NAME            all, of what the work has stored
    python -m kline_pipeline_tests.benchmarks.work_floors NAME fetched    fetching alone; nothing need be stored

fetched_s is the wall time of the same pages fetched and thrown away; copy_s that of a plain COPY of the rows that
landed, read back from kline.candles, a commit per partition; parquet_s that of a plain write of the tables of the
snapshots, in memory, one after the other, which must give the bytes of the snapshots; orjson_cpu_s the CPU time of
orjson.loads over the pages as served, from `sampled_pages` of them where they are many, as if the rest were like those.
"""

import io
import json
import sys
from collections.abc import Iterator
from typing import Final

import pyarrow.parquet as pq

from kline_pipeline.bybit.pages import plan
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.datasets import undeclared
from kline_pipeline.evidence.series_ids import find_series_id
from kline_pipeline.files import Folder
from kline_pipeline.market.window import Window, iso
from kline_pipeline.opening import paying
from kline_pipeline.sinks import candles_parquet
from kline_pipeline_tests.benchmarks import floors
from kline_pipeline_tests.benchmarks.works import WORKS, Work

_SAMPLE: Final = 50
_COPY_OUT: Final = """
copy (select * from kline.candles
where series_id = %s and open_time >= %s::timestamptz and open_time < %s::timestamptz order by open_time) to stdout
"""


def main(name: str, only: str = "") -> None:
    """Measure and print."""
    settings, work = Settings.load(), WORKS[name]
    found: dict[str, float] = {}
    if not only:
        with connect(settings, migrate=False) as database:
            found["copy_s"] = _copy_s(database, work)
        found["parquet_s"] = _parquet_s(Folder(settings.snapshot_url), work)
    asks = [(series, page) for series in work.series for page in plan(work.window, series.interval)]
    # The budget is that of the work: the exchange counts all of us together.
    with paying(settings, None) as budget:
        rows, found["fetched_s"] = floors.fetched_s(settings.bybit, budget, asks)
        if rows != work.candles:
            raise SystemExit(f"fetching alone: {rows} candles came of {work.candles}")
        if not only:
            sample = floors.bodies(settings.bybit, budget, asks[:: -(-len(asks) // _SAMPLE)])
            found["orjson_cpu_s"] = floors.orjson_cpu_s(sample) / len(sample) * len(asks)
            found["sampled_pages"] = len(sample)
    print(json.dumps({**found, "pages": len(asks)}))


def _partitions(work: Work) -> Iterator[tuple[int, Window]]:
    """Yield the place of a series in the work, and a partition of it: its part of the window."""
    for place, series in enumerate(work.series):
        dataset = undeclared(series.category, series.interval)
        for day in dataset.dates(work.window.end_ms - 1):
            if part := dataset.window(day).intersect(work.window):
                yield place, part


def _copy_s(database: Database, work: Work) -> float:
    contents = []
    with database.engine.begin() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        keys = [find_series_id(connection, series) for series in work.series]
        for place, part in _partitions(work):
            bounds = (keys[place], iso(part.start_ms), iso(part.end_ms))
            with driver.cursor() as cursor, cursor.copy(_COPY_OUT, bounds) as copy:
                contents.append(b"".join(bytes(piece) for piece in copy))
    rows = sum(content.count(b"\n") for content in contents)
    if rows != work.candles:
        raise SystemExit(f"plain COPY: {rows} rows are in kline.candles, {work.candles} should have landed")
    return floors.plain_copy_s(database, contents, times=1)


def _parquet_s(folder: Folder, work: Work) -> float:
    files = []
    for place, part in _partitions(work):
        series = work.series[place]
        day = undeclared(series.category, series.interval).date_of(part.start_ms)
        name = candles_parquet.path(series, day)
        content = folder.read(name)
        if content is None:
            raise SystemExit(f"plain write: there is no snapshot {name}")
        files.append(content)
    tables = [pq.ParquetFile(io.BytesIO(content)).read() for content in files]
    written, took_s = floors.plain_parquet(tables)
    if written != files:
        raise SystemExit("plain write: other bytes than the sink's; let floors.plain_parquet write as the sink does")
    return took_s


if __name__ == "__main__":
    main(*sys.argv[1:])
