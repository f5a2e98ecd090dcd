"""What storing costs beside plain COPY and a plain Parquet write of the same rows, new ones and identical ones.

Run by the benchmarks, as a process of its own: python -m kline_pipeline_tests.benchmarks.storing
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
from sqlalchemy import text

from kline_pipeline.candles.derive import Generation
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.files import Folder
from kline_pipeline.market.schema import CANDLE_SCHEMA, lines_of, moments_of, sha256_of, snapshot_table
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, to_ms
from kline_pipeline.sinks import candles_parquet, candles_postgres
from kline_pipeline.sinks.landing import ToLand
from kline_pipeline_tests.benchmarks import floors
from kline_pipeline_tests.benchmarks.world import settings_of

_SERIES: Final = Series.parse("linear:BTCUSDT:1")
_MONTHS: Final = [date(2023, month, 1) for month in range(1, 13)]


def months() -> list[ToLand]:
    """Return a year of minutes by months, numbers like those of BTCUSDT."""
    random = np.random.default_rng(7)
    found = []
    for day, following in zip(_MONTHS, [*_MONTHS[1:], date(2024, 1, 1)], strict=True):
        window = Window(_midnight_ms(day), _midnight_ms(following))
        times = np.arange(window.start_ms, window.end_ms, 60_000)
        prices = 30_000 + np.cumsum(random.integers(-9, 10, (4, len(times))), axis=1) / 10
        volumes = random.integers(1, 99_999, (2, len(times))) / np.array([[1000], [10]])
        texts = [[f"{number:.10g}" for number in column] for column in (*prices, *volumes)]
        candles = pa.table([pa.array(times), *map(pa.array, texts)], schema=CANDLE_SCHEMA)
        generation = Generation(0, window.end_ms, 1, "0" * 16)
        found.append(
            ToLand(
                series=_SERIES,
                date=day,
                window=window,
                candles=candles,
                sha256=sha256_of(candles),
                generation=generation,
                sinks=("postgres", "parquet"),
            )
        )
    return found


def main() -> None:
    """Print, by what is landed: wall seconds, those of the plain way, bytes per candle, bytes of WAL per row."""
    partitions = months()
    rows = sum(partition.rows for partition in partitions)
    with TemporaryDirectory() as folder:
        home = Path(folder, "home")
        with connect(settings_of(home)) as database:
            copy_s = floors.plain_copy_s(database, [_copied(partition) for partition in partitions])
            _note(database, partitions)
            new_s = _wall_s(lambda: [candles_postgres.land(database, one) for one in partitions])
            wal = _wal(database)
            again_s = _wall_s(lambda: [candles_postgres.land(database, one) for one in partitions])
            wal_bytes = _wal(database) - wal
            size = _size(database)
            back_s = _wall_s(lambda: [candles_postgres.held(database, one) for one in partitions])
            snapshots = Folder(str(Path(folder, "snapshots")))
            file_s = _wall_s(lambda: [candles_parquet.land(database, snapshots, one) for one in partitions])
            _, parquet_s = floors.plain_parquet(_snapshot(partition) for partition in partitions)
        EmbeddedServer(home).destroy()
    plain = {"rows": rows, "copy_s": copy_s}
    found = {
        "new": {**plain, "wall_s": new_s, "bytes_per_candle": size / rows},
        "of it read back": {**plain, "wall_s": back_s},
        "identical": {**plain, "wall_s": again_s, "wal_bytes_per_row": wal_bytes / rows},
        "snapshots": {"rows": rows, "plain_parquet_s": parquet_s, "wall_s": file_s},
    }
    print(json.dumps(found))


def _copied(partition: ToLand) -> bytes:
    candles = partition.candles
    return b"".join(lines_of(candles, pa.scalar("1"), moments_of(candles)))


def _snapshot(partition: ToLand) -> pa.Table:
    return snapshot_table((_SERIES.category, _SERIES.symbol, _SERIES.interval.code), partition.candles)


def _midnight_ms(day: date) -> int:
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _note(database: Database, partitions: list[ToLand]) -> None:
    with database.engine.begin() as connection:
        key = series_id(connection, _SERIES)
        for one in partitions:
            derived = coverage.Derived(
                state="pending",
                window=one.window,
                expected=one.rows,
                present=one.rows,
                missing=0,
                first_ms=one.first_ms,
                last_ms=one.last_ms,
                sha256=one.sha256,
                generation=str(one.generation),
                reasons=(),
            )
            coverage.record(connection, key, one.date, derived, None)


def _wall_s(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _wal(database: Database) -> int:
    with database.engine.begin() as connection:
        return int(connection.execute(text("select pg_current_wal_insert_lsn() - '0/0'")).scalar_one())


def _size(database: Database) -> int:
    with database.engine.begin() as connection:
        return int(connection.execute(text("select pg_total_relation_size('kline.candles')")).scalar_one())


if __name__ == "__main__":
    main()
