"""Raw batches on disk: one immutable Parquet file per partition and fetched span; nothing here says which row is right.

    raw/{category}/{interval}/{symbol}/{date}/{start}-{end}-{server time}-{id}.parquet

The listing of the folder is the index: start and end (ms) are the window that the pages of the file prove, cut at what
had closed when each page was answered. Rows are as received, closed or not; provenance is in the file's metadata.
"""

import hashlib
import io
import re
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kline_pipeline.errors import CorruptFile
from kline_pipeline.files import Folder
from kline_pipeline.market.schema import RAW_SCHEMA
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window

_NAME = re.compile(r"(\d+)-(\d+)-(\d+)-([0-9a-f]{16})\.parquet")
_METADATA_KEY = b"kline_pipeline"
_FRESH = 3  # batches; a month of minutes has 4 MB


class PageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows of one page come from.

    Attributes:
        asked_start_ms, asked_end_ms: the window asked for, half-open.
        covered_start_ms, covered_end_ms: the part of it that lies in this partition and had closed; half-open.
        server_time_ms: time of the response by the exchange's clock.
        receive_time_ms: time of the response by ours.
        host: the host that answered.
        clipped: rows of the answer outside the window asked for, thrown away.
    """

    asked_start_ms: int
    asked_end_ms: int
    covered_start_ms: int
    covered_end_ms: int
    server_time_ms: int
    receive_time_ms: int
    host: str
    clipped: int


@dataclass(frozen=True, slots=True)
class BatchName:
    """What the name of a batch file says.

    Attributes:
        covered: the window that its pages prove.
        server_time_ms: of the newest page.
        id: digest of the content.
    """

    covered: Window
    server_time_ms: int
    id: str

    def __str__(self) -> str:
        return f"{self.covered.start_ms}-{self.covered.end_ms}-{self.server_time_ms}-{self.id}.parquet"


@dataclass(frozen=True, slots=True)
class RawBatch:
    """A batch file read back: its name, its pages, and its rows with RAW_SCHEMA in the order received."""

    name: BatchName
    pages: tuple[PageRecord, ...]
    rows: pa.Table


class RawStore:
    """The raw batches of all series under one folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._fresh: OrderedDict[str, RawBatch] = OrderedDict()

    def names(self, series: Series, day: date) -> list[BatchName]:
        """Return the batches of a partition, oldest server time first, then by id; empty when there are none.

        Raises:
            CorruptFile: a file of another name lies among them.
        """
        where = _path(series, day)
        found = []
        for name in self._folder.names(where):
            match = _NAME.fullmatch(name)
            if match is None:
                raise CorruptFile(f"{self._folder.locate(f'{where}/{name}')} is no raw batch; move it elsewhere")
            start_ms, end_ms, server_time_ms = (int(match[group]) for group in (1, 2, 3))
            found.append(BatchName(Window(start_ms, end_ms), server_time_ms, match[4]))
        return sorted(found, key=lambda batch: (batch.server_time_ms, batch.id))

    def read(self, series: Series, day: date, name: BatchName) -> RawBatch:
        """Return a batch, checked against the digest in its name.

        Raises:
            CorruptFile: it is gone, or not what was written.
        """
        path = f"{_path(series, day)}/{name}"
        content = self._folder.read(path)
        if content is None or _digest(content) != name.id:
            raise CorruptFile(
                f"raw batch {self._folder.locate(path)} is not what was written (digest differs); "
                f"delete the file and backfill {series} {day} again"
            )
        fresh = self._fresh.pop(name.id, None)
        if fresh is not None:  # the file has just proved to be what was made of it
            return fresh
        table = pq.ParquetFile(io.BytesIO(content)).read()
        pages = msgspec.json.decode(table.schema.metadata[_METADATA_KEY], type=tuple[PageRecord, ...])
        return RawBatch(name, pages, table.replace_schema_metadata(None))

    def is_sound(self, series: Series, day: date, name: BatchName) -> bool:
        """Return whether a batch is there and is what was written, by the digest in its name."""
        content = self._folder.read(f"{_path(series, day)}/{name}")
        return content is not None and _digest(content) == name.id

    def write(self, series: Series, day: date, pages: Sequence[PageRecord], rows: pa.Table) -> tuple[BatchName, int]:
        """Write a batch of pages that cover one contiguous window, and return its name and size in bytes.

        Args:
            series: of all pages.
            day: date of the partition that all rows belong to.
            pages: in ascending order of their covered windows, none empty.
            rows: RAW_SCHEMA; `page` is the position in `pages`.

        Raises:
            StorageError: the folder cannot be written or the disk is full.
        """
        covered = Window(pages[0].covered_start_ms, pages[-1].covered_end_ms)
        metadata = {_METADATA_KEY: msgspec.json.encode(pages), b"series": str(series).encode()}
        rows, sink = rows.cast(RAW_SCHEMA).combine_chunks(), io.BytesIO()
        pq.write_table(
            rows.replace_schema_metadata(metadata),
            sink,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
        )
        content = sink.getvalue()
        name = BatchName(covered, max(page.server_time_ms for page in pages), _digest(content))
        self._folder.replace(f"{_path(series, day)}/{name}", content)
        self._remember(RawBatch(name, tuple(pages), rows))
        return name, len(content)

    def _remember(self, batch: RawBatch) -> None:
        """Keep what was written for who derives it a moment later, who need not decode it then."""
        self._fresh[batch.name.id] = batch
        while len(self._fresh) > _FRESH:
            with suppress(KeyError):  # another thread may have read the last one meanwhile
                self._fresh.popitem(last=False)

    def delete(self, series: Series, day: date, name: BatchName) -> None:
        """Take a batch away; the caller holds the lock of the partition and has raised the prune epoch."""
        self._folder.delete(f"{_path(series, day)}/{name}")

    def set_aside(self, series: Series, day: date, name: BatchName) -> str:
        """Move a batch to corrupt/ beside raw/, and return where it lies; as with `delete`."""
        path = f"{_path(series, day)}/{name}"
        aside = path.replace("raw/", "corrupt/", 1)
        self._folder.replace(aside, self._folder.read(path) or b"")
        self._folder.delete(path)
        return self._folder.locate(aside)


def _path(series: Series, day: date) -> str:
    return f"raw/{series.category}/{series.interval.code}/{series.symbol}/{day.isoformat()}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
