"""Working candles: one file per partition with the candles that may land and the verdict on them, replaced whole.

    candles/{category}/{interval}/{symbol}/{date}.parquet

It is derived from raw batches only and can be made again at any time; a lower generation never replaces a higher one
(the caller compares under the lock of the partition).
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kline_pipeline.errors import CorruptFile
from kline_pipeline.files import Folder
from kline_pipeline.market.schema import CANDLE_SCHEMA
from kline_pipeline.market.series import Series

_METADATA_KEY = b"kline_pipeline"


@dataclass(frozen=True, slots=True)
class WorkingCandles:
    """What one file holds: candles with CANDLE_SCHEMA, and the verdict on the partition as JSON."""

    candles: pa.Table
    verdict: bytes


class CandleStore:
    """The working candles of all series under one folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def read(self, series: Series, day: date) -> WorkingCandles | None:
        """Return the working candles of a partition, None when it was never derived.

        Raises:
            CorruptFile: the file is not what was written.
        """
        content = self._folder.read(_path(series, day))
        if content is None:
            return None
        with self._spoilt(series, day):
            table = pq.ParquetFile(io.BytesIO(content)).read()
            verdict = table.schema.metadata[_METADATA_KEY]
        return WorkingCandles(table.replace_schema_metadata(None).cast(CANDLE_SCHEMA), verdict)

    def verdict(self, series: Series, day: date) -> bytes | None:
        """Return the verdict on a partition alone, which lies in the foot of its file; None when it was never derived.

        Raises:
            CorruptFile: the foot of the file is not what was written.
        """
        content = self._folder.read(_path(series, day))
        if content is None:
            return None
        with self._spoilt(series, day):
            found: bytes = pq.read_schema(io.BytesIO(content)).metadata[_METADATA_KEY]
        return found

    @contextmanager
    def _spoilt(self, series: Series, day: date) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, KeyError, TypeError) as exc:  # OSError: spoilt inside a column
            raise CorruptFile(
                f"{self._folder.locate(_path(series, day))} cannot be read ({exc}); "
                f"delete it and backfill {series} again"
            ) from exc

    def write(self, series: Series, day: date, candles: pa.Table, verdict: msgspec.Struct) -> None:
        """Replace the working candles of a partition.

        Raises:
            StorageError: the folder cannot be written or the disk is full.
        """
        sink = io.BytesIO()
        metadata = {_METADATA_KEY: msgspec.json.encode(verdict)}
        # Read a moment later and derived anew at any time: lz4 takes half of zstd's time for twice the bytes.
        pq.write_table(
            candles.replace_schema_metadata(metadata),
            sink,
            compression="lz4",
            use_dictionary=False,
            write_statistics=False,
        )
        self._folder.replace(_path(series, day), sink.getvalue())


def _path(series: Series, day: date) -> str:
    return f"candles/{series.category}/{series.interval.code}/{series.symbol}/{day.isoformat()}.parquet"
