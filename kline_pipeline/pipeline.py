"""The whole flow for a range of partitions, without Dagster: fill, derive and judge, land or quarantine.

Each asset body calls one method of `Pipeline`, and so can a notebook. How a stage works is told in stages/.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import TypeVar

import pyarrow as pa

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.checks import consistent, fresh, no_gaps, revisions
from kline_pipeline.checks.report import FIRST_OFFENDERS, CheckResult, merged
from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.database.venue import claim_venue
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence import coverage, datasets_kept
from kline_pipeline.evidence.accepted import Accepted, Keep
from kline_pipeline.evidence.freshness import newest_candles
from kline_pipeline.evidence.listings import known_or_probed
from kline_pipeline.evidence.revisions import found_since
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.window import Window
from kline_pipeline.stages.accept import accept_window
from kline_pipeline.stages.broken import broken_cells
from kline_pipeline.stages.consistent import consistent_cell
from kline_pipeline.stages.derive import derive_cell, read_cell
from kline_pipeline.stages.fill import Fill, FillReport
from kline_pipeline.stages.land import Landing, land_cell, stored_result
from kline_pipeline.stages.pictured import with_coverage_strip
from kline_pipeline.stages.stored import Gap, gaps, stored_candles
from kline_pipeline.stages.stores import Stores
from kline_pipeline.stages.verify import Verified, verify_cell

T = TypeVar("T")
Report = Callable[[Cell, T], None]


class Pipeline:
    """The flow for the datasets of one KLINE_HOME.

    Args:
        settings: where things live, and how to talk to the exchange.
        database: migrated.
        client: of the exchange; only `claim`, `now_ms`, `listing`, `missing` and `fill` ask it anything.
    """

    def __init__(self, settings: Settings, *, database: Database, client: BybitClient) -> None:
        self._concurrency = settings.bybit.concurrency
        self._client = client
        self._fresh_after_ms = settings.fresh_after_s * 1000
        self._stores = Stores.open(settings, database)

    def claim(self) -> str:
        """Record the venue of the exchange in every store at its first write, and return it.

        Raises:
            VenueMismatch: a store belongs to another exchange; nothing was written to it.
            ExchangeError: the exchange could not be asked.
        """
        venue = self._client.venue()
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            claim_venue(connection, venue)
            for folder in (self._stores.work, self._stores.snapshots):
                folder.claim(venue)
        return venue

    def keep(self, dataset: Dataset) -> None:
        """Record the grain of a dataset at its first use.

        Raises:
            DatasetsError: it holds data of another grain.
        """
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            datasets_kept.keep(connection, dataset)

    def now_ms(self) -> int:
        """Return the time of the exchange, UTC milliseconds."""
        return self._client.server_time_ms()

    def listing(self, category: str, symbol: str, *, now_ms: int) -> Listing:
        """Return the lives of an instrument, probed when they are not known.

        Raises:
            BadRequest: the exchange knows no such instrument and has no candle of it.
        """
        return known_or_probed(
            self._stores.database,
            self._client,
            category,
            symbol,
            grace_ms=self._stores.grace_ms,
            now_ms=now_ms,
        )

    def missing(self, dataset: Dataset, cells: Sequence[Cell], *, now_ms: int) -> dict[Cell, list[Window]]:
        """Return the windows that `fill` would fetch, per partition; no candle is fetched."""
        return self._fill(dataset, now_ms).windows_missing(cells)

    def fill(
        self, dataset: Dataset, cells: Sequence[Cell], *, on_pages: Callable[[int, int], None] | None = None
    ) -> dict[Cell, FillReport]:
        """Fetch what is not held of some partitions, or offended a rule, into raw batches.

        A partition whose last candle has closed is read once more whole; a raw batch that is spoilt is moved to
        work/corrupt and read again.

        Args:
            dataset, cells: the partitions.
            on_pages: told after each page how many came and how many are planned so far.

        Raises:
            ExchangeError: a retryable one after all attempts; what the exchange refuses for good is in the report.
            VenueMismatch: a store belongs to another exchange.
            StorageError: the database or a folder failed.
        """
        self.claim()
        self.keep(dataset)
        fill = self._fill(dataset, self.now_ms())
        if on_pages is not None:
            fill.on_pages = on_pages
        return fill.run(cells)

    def derive(
        self, dataset: Dataset, cells: Sequence[Cell], *, now_ms: int, report: Report[Verdict] | None = None
    ) -> dict[Cell, Verdict]:
        """Derive the candles of some partitions from their raw batches, judge them, and keep both for the sinks.

        Args:
            dataset, cells: the partitions.
            now_ms: what had closed where no raw batch says so.
            report: told each partition when it is done.

        Raises:
            CorruptFile: a raw batch is not what was written.
            StorageError: the database or a folder failed.
        """
        return _each(cells, lambda cell: derive_cell(self._stores, dataset, cell, now_ms=now_ms), report)

    def land_postgres(
        self, dataset: Dataset, cells: Sequence[Cell], *, report: Report[Landing] | None = None
    ) -> dict[Cell, Landing]:
        """Land what may land in the table; a quarantined partition fails its check, see `sinks.candles_postgres`."""
        return _each(cells, lambda cell: land_cell(self._stores, "postgres", dataset, cell), report)

    def land_parquet(
        self, dataset: Dataset, cells: Sequence[Cell], *, report: Report[Landing] | None = None
    ) -> dict[Cell, Landing]:
        """Land what may land in the snapshots; a quarantined partition fails its check, see `sinks.candles_parquet`."""
        return _each(cells, lambda cell: land_cell(self._stores, "parquet", dataset, cell), report)

    def verdict(self, dataset: Dataset, cell: Cell) -> Verdict:
        """Return the verdict that stands on a partition.

        Raises:
            CorruptFile: it was never derived, or the file is not what was written.
        """
        return read_cell(self._stores, dataset, cell)[0]

    def derived(self, dataset: Dataset) -> list[Cell]:
        """Return the partitions of a dataset that were derived, by the ledger; empty before the first."""
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            rows = coverage.rows(connection, dataset.category, dataset.interval.code)
        return [Cell(row.date, row.symbol) for row in rows if row.generation is not None]

    def stored(self, dataset: Dataset, symbol: str, window: Window) -> tuple[pa.Table, list[Gap]]:
        """Return the landed candles of a series in a window, and what of it is not there; nobody is asked.

        Args:
            dataset, symbol: the series.
            window: of which every candle has closed.

        Raises:
            CorruptFile: a snapshot is not what was landed.
        """
        candles = stored_candles(self._stores, dataset, symbol, window)
        return candles, gaps(self._stores, dataset, symbol, window, candles)

    def stored_dates(self, dataset: Dataset, symbol: str, *, now_ms: int) -> list[date]:
        """Return the dates of a series that the ledger knows or that have raw batches, up to now, ascending."""
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            rows = coverage.rows(connection, dataset.category, dataset.interval.code, symbol)
        series, known = dataset.series(symbol), {row.date for row in rows}
        return [day for day in dataset.dates(now_ms) if day in known or self._stores.raw.names(series, day)]

    def due(self, dataset: Dataset, *, now_ms: int) -> list[Cell]:
        """Return the partitions in which something offends that is to be asked for again by now, by symbol and date.

        Removed symbols are among them.
        """
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            found = coverage.due(connection, dataset.category, dataset.interval.code, now_ms=now_ms)
        return [Cell(*key) for key in found]

    def unfinished(self, dataset: Dataset, *, now_ms: int) -> list[Cell]:
        """Return the partitions whose last candle has closed and that are not finished, by symbol and date.

        Those that wait to be asked for again, now or later, are left to `due`. Removed symbols are among them.
        """
        closed_ms = now_ms - self._stores.grace_ms
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            found = coverage.unfinished(connection, dataset.category, dataset.interval.code, closed_ms=closed_ms)
        return [Cell(*key) for key in found]

    def broken(self, dataset: Dataset, cells: Sequence[Cell], *, now_ms: int) -> list[Cell]:
        """Return those of some partitions on which a repair has something to do, in the order given.

        Something is missing, offends, has not landed or is unfinished, or a raw batch or a sink lost or spoilt it.
        """
        return broken_cells(self._stores, dataset, cells, now_ms=now_ms)

    def accept(
        self, dataset: Dataset, symbol: str, window: Window, *, reason: str, keep: Keep | None, now_ms: int
    ) -> list[Cell]:
        """Let in what offends in a window, and return the partitions that are to be derived and landed again.

        Args:
            dataset, symbol: the series.
            window: half-open, on boundaries of the interval.
            reason: why, kept as evidence and shown from then on.
            keep: which of contradicting rows counts, as they were served; None where there are none.
            now_ms: when it was decided, UTC.

        Raises:
            UsageError: nothing there offends, or the reason or `keep` is lacking; nothing was recorded.
            StorageError: the database or a folder failed, or a raw batch is not what was written.
        """
        decision = Accepted(window, keep, reason)
        return accept_window(self._stores, dataset, symbol, decision, now_ms=now_ms)

    def judge_stored(self, dataset: Dataset, check: str) -> CheckResult:
        """Return one result of a check over every partition of a dataset that was derived; none passes."""
        results = (
            (f"{cell.symbol} {cell.date}", stored_result(self._stores, dataset, cell, check))
            for cell in self.derived(dataset)
        )
        return merged(check, results)

    def no_gaps(self, dataset: Dataset, cell: Cell) -> CheckResult:
        """Return the result of `no_gaps` that stands on a partition, with the days of it as a picture when it fails.

        Raises:
            CorruptFile: it was never derived, or the file is not what was written.
        """
        result = self.verdict(dataset, cell).results[no_gaps.NAME]
        return with_coverage_strip(self._stores, dataset, cell, result)

    def consistent(self, dataset: Dataset, cell: Cell, *, declared: Sequence[Dataset]) -> CheckResult:
        """Return the result of `consistent` for a partition; `declared` are all datasets, see stages/consistent.

        Raises:
            CorruptFile: the partition was never derived, or a file that is compared is not what was written.
        """
        return consistent_cell(self._stores, dataset, cell, declared)

    def consistent_stored(self, dataset: Dataset, *, declared: Sequence[Dataset]) -> CheckResult:
        """Return one result of `consistent` over every partition of a dataset that was derived; none passes."""
        results = (
            (f"{cell.symbol} {cell.date}", self.consistent(dataset, cell, declared=declared))
            for cell in self.derived(dataset)
        )
        return merged(consistent.NAME, results)

    def fresh(self, dataset: Dataset, *, now_ms: int) -> CheckResult:
        """Return the result of `fresh` for a dataset: symbols still traded whose newest stored candle is too old."""
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            newest = newest_candles(
                connection, dataset.category, dataset.interval.code, sinks=dataset.sinks, exclude=dataset.exclude
            )
        return fresh.judge(newest, dataset.interval, now_ms=now_ms, margin_ms=self._fresh_after_ms)

    def revisions(self, dataset: Dataset, *, now_ms: int) -> CheckResult:
        """Return the result of `revisions` for a dataset: closed candles that changed, found in the last 7 days."""
        since_ms = now_ms - revisions.LOOK_BACK_MS
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            found = found_since(connection, dataset.category, dataset.interval.code, since_ms, most=FIRST_OFFENDERS)
        return revisions.judge(found.first, changed=found.changed, vanished=found.vanished)

    def verify(self, dataset: Dataset, cell: Cell, *, declared: Sequence[Dataset], now_ms: int) -> Verified:
        """Return what disagrees in what is stored of a partition, `declared` being all datasets; nothing is written."""
        return verify_cell(self._stores, dataset, cell, declared=declared, now_ms=now_ms)

    def _fill(self, dataset: Dataset, now_ms: int) -> Fill:
        return Fill(self._stores, self._client, dataset, self._concurrency, now_ms)


def _each(cells: Sequence[Cell], step: Callable[[Cell], T], report: Report[T] | None) -> dict[Cell, T]:
    done: dict[Cell, T] = {}
    for cell in cells:
        done[cell] = step(cell)
        if report is not None:
            report(cell, done[cell])
    return done
