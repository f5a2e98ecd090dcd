"""Fetching windows that are not held, across partition borders, into raw batches; what is held the caller tells.

Neighbouring partitions of a series are one span, read as full pages; each row goes to the partition of its open time.
A batch is written as soon as the pages of its partition are there, so a killed run goes on where it stopped.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.pages import Page, PageFailure, fetch_pages, missing, plan
from kline_pipeline.market.schema import RAW_SCHEMA
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, merge, subtract, windows_of
from kline_pipeline.raw_batches.store import PageRecord, RawStore


@dataclass(slots=True)
class Wanted:
    """One partition of which something is to be fetched, and what came of it.

    Attributes:
        series, date: the partition.
        window: its whole window.
        windows: what of it is to be fetched, on the grid, disjoint and ascending.
        requests: pages that began in this partition.
        rows: rows received, open candles included.
        size_bytes: written to raw batches.
        covered: what the pages proved.
        absent: windows inside `covered` for which the answers had no row.
        fetch_error: why the exchange refused for good, None when it did not.
    """

    series: Series
    date: date
    window: Window
    windows: list[Window]
    requests: int = 0
    rows: int = 0
    size_bytes: int = 0
    covered: list[Window] = field(default_factory=list)
    absent: list[Window] = field(default_factory=list)
    fetch_error: str | None = None


def fetch(
    client: BybitClient,
    store: RawStore,
    wanted: Sequence[Wanted],
    *,
    grace_ms: int,
    concurrency: int,
    on_page: Callable[[int, int], None] = lambda _done, _planned: None,
    on_answered: Callable[[Wanted], None] = lambda _one: None,
) -> None:
    """Fetch every window of `wanted`, write the raw batches, and note in each partition what came.

    Args:
        client: of the exchange.
        store: where batches go.
        wanted: partitions of any series; those of one series in ascending order of dates.
        grace_ms: a candle counts as closed this long after its end.
        concurrency: requests in flight.
        on_page: told after each answer how many came, of how many.
        on_answered: told each partition of which something was asked, as soon as all that came of it is written.

    Raises:
        ExchangeError: a retryable one after all attempts; whole batches received before it are written.
        StorageError: a batch could not be written.
    """
    by_series: dict[Series, list[Wanted]] = {}
    for partition in wanted:
        by_series.setdefault(partition.series, []).append(partition)
    asks = [
        (series, page)
        for series, partitions in by_series.items()
        for span in merge(window for partition in partitions for window in partition.windows)
        for page in plan(span, series.interval)
    ]
    last_asks = _last_asks(asks, wanted)
    open_batches: dict[Series, _Open] = {}
    try:
        # Closed here, not by the garbage collector, which would wait for its threads wherever it happens to run.
        with closing(fetch_pages(client.kline_page, asks, concurrency)) as answers:
            for done, answer in enumerate(answers, start=1):
                batch = open_batches.setdefault(answer.series, _Open(store, by_series[answer.series], grace_ms))
                if isinstance(answer, PageFailure):
                    batch.refuse(answer)
                else:
                    batch.add(answer)
                for partition in last_asks[done - 1]:
                    batch.close(partition)
                    on_answered(partition)
                on_page(done, len(asks))
    finally:
        for batch in open_batches.values():
            batch.flush()


def _last_asks(asks: Sequence[tuple[Series, Window]], wanted: Sequence[Wanted]) -> list[list[Wanted]]:
    """Return per page the partitions of which it is the last one."""
    found: list[list[Wanted]] = [[] for _ in asks]
    pages: dict[Series, list[int]] = {}
    for place, (series, _) in enumerate(asks):
        pages.setdefault(series, []).append(place)
    for partition in wanted:
        if partition.windows:
            places = pages[partition.series]
            ends_ms = partition.windows[-1].end_ms
            after = bisect_left(places, ends_ms, key=lambda place: asks[place][1].start_ms)
            found[places[after - 1]].append(partition)
    return found


class _Open:
    """The batch of one series that is being received; pages come in ascending order."""

    def __init__(self, store: RawStore, partitions: Sequence[Wanted], grace_ms: int) -> None:
        self._store = store
        self._partitions = partitions
        self._grace_ms = grace_ms
        self._current: Wanted | None = None
        self._pages: list[PageRecord] = []
        self._tables: list[pa.Table] = []

    def add(self, page: Page) -> None:
        closed = page.closed_window(self._grace_ms)
        first = True
        for partition in self._touched(page.window):
            part = page.window.intersect(partition.window)
            covered = closed.intersect(part)
            partition.requests += first
            first = False
            if not covered:
                continue
            if self._current is not partition or self._pages[-1].covered_end_ms != covered.start_ms:
                self.flush()
            self._current = partition
            self._take(partition, page, part, covered)
            if covered.end_ms == partition.window.end_ms:
                self.flush()

    def refuse(self, failure: PageFailure) -> None:
        for partition in self._touched(failure.window):
            partition.fetch_error = str(failure.error)
            partition.requests += 1

    def close(self, partition: Wanted) -> None:
        """Write what there is of a partition of which nothing more comes."""
        if self._current is partition:
            self.flush()

    def flush(self) -> None:
        if self._current is not None and self._pages:
            rows = pa.concat_tables(self._tables)
            _, size_bytes = self._store.write(self._current.series, self._current.date, self._pages, rows)
            self._current.size_bytes += size_bytes
        self._current, self._pages, self._tables = None, [], []

    def _take(self, partition: Wanted, page: Page, part: Window, covered: Window) -> None:
        times = page.rows["open_time_ms"].to_numpy()
        position = np.flatnonzero((times >= part.start_ms) & (times < part.end_ms)).astype(np.int32)
        # Nearly every page lies in one partition whole.
        rows = page.rows if len(position) == len(times) else page.rows.take(pa.array(position))
        columns = [pa.array(np.full(len(position), len(self._pages), np.int32)), pa.array(position), *rows.columns]
        self._tables.append(pa.table(columns, schema=RAW_SCHEMA))
        self._pages.append(
            PageRecord(
                asked_start_ms=page.window.start_ms,
                asked_end_ms=page.window.end_ms,
                covered_start_ms=covered.start_ms,
                covered_end_ms=covered.end_ms,
                server_time_ms=page.server_time_ms,
                receive_time_ms=page.receive_time_ms,
                host=page.host,
                clipped=page.clipped,
            )
        )
        partition.rows += len(position)
        partition.covered = merge([*partition.covered, covered])
        gone = subtract(partition.absent, [covered])
        absent = missing(page, self._grace_ms)
        absent = absent[(absent >= covered.start_ms) & (absent < covered.end_ms)]
        partition.absent = merge([*gone, *windows_of(absent, partition.series.interval)])

    def _touched(self, window: Window) -> Iterator[Wanted]:
        return (partition for partition in self._partitions if partition.window.intersect(window))
