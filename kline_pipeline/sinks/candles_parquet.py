"""The snapshots: one Parquet file per partition, replaced atomically, the same bytes for the same candles.

    {snapshots}/{category}/{interval}/{symbol}/{date}.parquet

No key=value folders (readers guess the interval's type from them); zstd 3, no dictionary, no byte-stream split on
decimals (polars cannot read it); decimal128(38, 18), the only exact type safe in all readers (stack.md part 1, 5).
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache, partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.errors import CorruptFile
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.series_ids import find_series_id, series_id
from kline_pipeline.files import Folder
from kline_pipeline.market.schema import (
    CANDLE_SCHEMA,
    NUMBER_COLUMNS,
    SNAPSHOT_SCHEMA,
    sha256_of,
    snapshot_table,
    text_of_decimals,
)
from kline_pipeline.market.series import Series
from kline_pipeline.sinks.landing import Held, ToLand, steps_back


def path(series: Series, day: date) -> str:
    """Return the name of a snapshot inside the folder of snapshots."""
    return f"{series.category}/{series.interval.code}/{series.symbol}/{day.isoformat()}.parquet"


def land(database: Database, folder: Folder, partition: ToLand) -> Held:
    """Make the snapshot hold exactly these candles, and return what it then holds.

    A file that already holds them keeps its inode and time; one that cannot be read is replaced.

    Raises:
        DatabaseUnavailable: the ledger cannot be asked; the file is as it was.
        StorageError: the folder cannot be written or the disk is full; the file is as it was.
        CorruptFile: the candles are not those judged; the file is as it was.
    """
    name, mine = path(partition.series, partition.date), cache(partial(_table_of, partition))
    after = before = _before(database, folder, name, partition, mine)
    differs = before is None or before.sha256 != partition.sha256
    content = encode(mine()) if differs else b""
    with database.translate_errors(), database.engine.begin() as connection:
        partition_lock(connection, partition.series, partition.date)
        key = series_id(connection, partition.series)
        known = coverage.row(connection, key, partition.date)
        if known is not None and steps_back(known.parquet_generation, partition.generation):
            stands = before or _read_back(folder, name, folder.read(name) or b"", partition, mine())
            return replace(stands, stepped_back=True)
        if before is not None and not differs and fingerprint_of(folder.read(name) or b"") != before.fingerprint:
            differs, content = True, encode(mine())  # somebody has landed or lost it since it was read
        if after is None or differs:
            folder.replace(name, content)
            after = _read_back(folder, name, folder.read(name) or b"", partition, mine())
        coverage.note_landing(
            connection,
            key,
            partition.date,
            sink="parquet",
            generation=str(partition.generation),
            sha256=after.sha256,
            fingerprint=after.fingerprint,
            sinks=partition.sinks,
        )
    return replace(after, written=after.rows) if differs else after


def held(folder: Folder, partition: ToLand) -> Held | None:
    """Return what the snapshot holds, None when there is no file.

    Raises:
        CorruptFile: it is there and is not a snapshot, or the candles to compare it with are not those judged.
    """
    name = path(partition.series, partition.date)
    content = folder.read(name)
    return None if content is None else _read_back(folder, name, content, partition, _table_of(partition))


def encode(table: pa.Table) -> bytes:
    """Return the bytes of a snapshot with these candles (SNAPSHOT_SCHEMA); the same bytes for the same candles."""
    sink = io.BytesIO()
    names = ["category", "symbol", "interval"]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=names,
        # By these a reader chooses files; those of decimals cost a tenth of the time of writing and choose nothing.
        write_statistics=[*names, "open_time"],
    )
    return sink.getvalue()


def read(folder: Folder, series: Series, day: date, *, sha256: str | None, fingerprint: str | None) -> pa.Table | None:
    """Return a snapshot as it landed: SNAPSHOT_SCHEMA, ascending and unique; None when there is no file.

    Args:
        folder: of the snapshots.
        series, day: the partition.
        sha256: of its candles when it landed.
        fingerprint: of its bytes then, None where none was taken.

    Raises:
        CorruptFile: it is there and is no snapshot, or holds other candles than landed.
        StorageError: it cannot be read.
    """
    name = path(series, day)
    content = folder.read(name)
    if content is None:
        return None
    table = _decoded(folder, name, content)
    if fingerprint_of(content) != fingerprint and sha256_of(_candles(table)) != sha256:
        raise CorruptFile(
            f"snapshot {folder.locate(name)} is not what was landed; run: kline-pipeline rebuild {series}"
        )
    return table


def _before(
    database: Database, folder: Folder, name: str, partition: ToLand, mine: Callable[[], pa.Table]
) -> Held | None:
    """Return what the file holds, None where there is none that can be read; where its bytes are as landed, by them."""
    content = folder.read(name)
    if content is None:
        return None
    with database.translate_errors(), database.engine.begin() as connection:
        key = find_series_id(connection, partition.series)
        known = None if key is None else coverage.row(connection, key, partition.date)
    if known is not None and known.parquet_sha256 == partition.sha256:
        fingerprint = fingerprint_of(content)
        if fingerprint == known.parquet_fingerprint:
            return Held(
                rows=partition.rows,
                first_ms=partition.first_ms,
                last_ms=partition.last_ms,
                sha256=partition.sha256,
                size_bytes=len(content),
                fingerprint=fingerprint,
            )
    table = mine()
    try:
        return _read_back(folder, name, content, partition, table)
    except CorruptFile:
        return None


def _table_of(partition: ToLand) -> pa.Table:
    """Return the candles as a snapshot has them.

    Raises:
        CorruptFile: they are not those judged.
    """
    partition.prove()
    series = partition.series
    return snapshot_table((series.category, series.symbol, series.interval.code), partition.candles)


def _read_back(folder: Folder, name: str, content: bytes, partition: ToLand, mine: pa.Table) -> Held:
    """Return what a file holds; `mine` is the table of the partition, whose checksum is known."""
    table = _decoded(folder, name, content)
    times = pc.cast(table["open_time"], pa.int64())
    return Held(
        rows=len(table),
        first_ms=times[0].as_py() if len(times) else None,
        last_ms=times[-1].as_py() if len(times) else None,
        # Equal decimals have equal text, and comparing them takes a hundredth of the time of printing them.
        sha256=partition.sha256 if table.equals(mine) else sha256_of(_candles(table)),
        size_bytes=len(content),
        fingerprint=fingerprint_of(content),
    )


def fingerprint_of(content: bytes) -> str:
    """Return the digest of the bytes of a file."""
    return hashlib.sha256(content).hexdigest()


def _decoded(folder: Folder, name: str, content: bytes) -> pa.Table:
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError) as exc:  # OSError: spoilt inside a column
        raise CorruptFile(f"snapshot {folder.locate(name)} cannot be read: {exc}; run `rebuild`") from exc
    if not table.schema.equals(SNAPSHOT_SCHEMA):
        raise CorruptFile(f"snapshot {folder.locate(name)} has other columns than a snapshot; run `rebuild`")
    return table


def _candles(table: pa.Table) -> pa.Table:
    times = pc.cast(table["open_time"], pa.int64())
    return pa.table([times, *(text_of_decimals(table[name]) for name in NUMBER_COLUMNS)], schema=CANDLE_SCHEMA)
