"""Working candles: one file per partition with the candles that may land and the verdict on them, replaced whole.

    candles/{category}/{interval}/{symbol}/{date}.parquet

It is derived from raw batches only and can be made again at any time; a lower generation never replaces a higher one
(the caller compares under the lock of the partition). Its pages have checksums, the verdict and the number of rows a
digest; whoever lands the candles compares them with the digest in the verdict.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
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
_DIGEST_KEY = b"kline_pipeline_sha256"


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
            table = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read()
            verdict = _proved(table.schema.metadata, len(table))
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
            foot = pq.read_metadata(io.BytesIO(content))
            return _proved(foot.metadata, foot.num_rows)

    @contextmanager
    def _spoilt(self, series: Series, day: date) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as exc:  # OSError: spoilt inside a column
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
        told = msgspec.json.encode(verdict)
        metadata = {_METADATA_KEY: told, _DIGEST_KEY: _digest(told, len(candles))}
        # Read a moment later and derived anew at any time: lz4 takes half of zstd's time for twice the bytes.
        pq.write_table(
            candles.replace_schema_metadata(metadata),
            sink,
            compression="lz4",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._folder.replace(_path(series, day), sink.getvalue())


def _proved(metadata: Mapping[bytes, bytes], rows: int) -> bytes:
    verdict = metadata[_METADATA_KEY]
    if metadata[_DIGEST_KEY] != _digest(verdict, rows):
        msg = "its foot is not what was written"
        raise ValueError(msg)
    return verdict


def _digest(verdict: bytes, rows: int) -> bytes:
    return hashlib.sha256(b"%d %s" % (rows, verdict)).hexdigest().encode()


def _path(series: Series, day: date) -> str:
    return f"candles/{series.category}/{series.interval.code}/{series.symbol}/{day.isoformat()}.parquet"
