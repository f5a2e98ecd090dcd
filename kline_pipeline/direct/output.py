"""A file of candles, Parquet or CSV, written part by part and there only when it is whole."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kline_pipeline.errors import StorageError, UsageError
from kline_pipeline.market.schema import NUMBER_COLUMNS, SNAPSHOT_SCHEMA, snapshot_table
from kline_pipeline.market.series import Series

FORMATS: Final = (".parquet", ".csv")
CSV_HEADER: Final = ",".join(("open_time", *NUMBER_COLUMNS))
_GROUP_ROWS: Final = 100_000
_ABANDONED_AFTER_S: Final = 3600


class CandleWriter(Protocol):
    """Takes candles in the order in which they are to stand in the file."""

    def add(self, candles: pa.Table) -> None:
        """Append candles with CANDLE_SCHEMA.

        Raises:
            StorageError: the disk is full or the folder went away.
        """


@contextmanager
def candle_file(path: Path, series: Series) -> Iterator[CandleWriter]:
    """Give a writer for the length of the block; the file stands in its place when the block ends well.

    Where it does not, what was at `path` before is still there, and nothing else.

    Args:
        path: ends in .parquet (SNAPSHOT_SCHEMA) or .csv (open_time as 2024-01-31T23:59:00Z, exact decimals).
        series: of all candles.

    Raises:
        UsageError: another ending.
        StorageError: the folder cannot be written or the disk is full.
    """
    check_format(path)
    path = path.resolve()  # a link stays one
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            writer = _Parquet(file, series) if path.suffix == ".parquet" else _Csv(file)
            try:
                yield writer
            finally:
                writer.end()
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sweep(path)
    except OSError as exc:
        raise StorageError(f"could not write {path}: {exc.strerror or exc}; free space or mend the path") from exc
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what killed writers of the same file left; a living one has had an hour."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        if left.stat().st_mtime < path.stat().st_mtime - _ABANDONED_AFTER_S:
            left.unlink(missing_ok=True)


def check_format(path: Path) -> None:
    """Do nothing for a file whose format is known.

    Raises:
        UsageError: its name ends otherwise.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"-o {path} must end in {' or '.join(FORMATS)}")


def csv_lines(candles: pa.Table) -> list[str]:
    """Return a line per candle (CANDLE_SCHEMA) without its end: open time as 2024-01-31T23:59:00Z, exact decimals."""
    moments = pc.cast(pc.divide(candles["open_time_ms"], 1000), pa.timestamp("s", tz="UTC"))
    times = pc.strftime(moments, format="%Y-%m-%dT%H:%M:%SZ", locale="C")
    lines: list[str] = pc.binary_join_element_wise(times, *(candles[name] for name in NUMBER_COLUMNS), ",").to_pylist()
    return lines


class _Parquet:
    def __init__(self, file: IO[bytes], series: Series) -> None:
        self._names = (series.category, series.symbol, series.interval.code)
        self._writer = pq.ParquetWriter(
            file,
            SNAPSHOT_SCHEMA,
            compression="zstd",
            compression_level=3,
            use_dictionary=["category", "symbol", "interval"],
        )
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def add(self, candles: pa.Table) -> None:
        self._waiting.append(candles)
        self._rows += len(candles)
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def end(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            candles = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(snapshot_table(self._names, candles))
        self._waiting, self._rows = [], 0


class _Csv:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.write(f"{CSV_HEADER}\n".encode())

    def add(self, candles: pa.Table) -> None:
        self._file.write("".join(f"{line}\n" for line in csv_lines(candles)).encode())

    def end(self) -> None:
        """Nothing is left to write."""
