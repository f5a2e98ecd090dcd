"""The whole flow for a range of partitions, without Dagster: fill, derive and judge, land or quarantine.

Each asset body calls one method of `Pipeline`, and so can a notebook. How a stage works is told in stages/.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.database.venue import claim_venue
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence import datasets_kept
from kline_pipeline.evidence.accepted import Accepted, Keep
from kline_pipeline.evidence.listings import known_or_probed
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.window import Window
from kline_pipeline.stages.accept import accept_window
from kline_pipeline.stages.broken import distrust_inconsistent
from kline_pipeline.stages.derive import derive_partition
from kline_pipeline.stages.fill import Fill, FillReport
from kline_pipeline.stages.flow import Flow, Passed
from kline_pipeline.stages.land import Landing, land_cell
from kline_pipeline.stored_partitions import StoredPartitions

T = TypeVar("T")
Report = Callable[[Cell, T], None]


class Pipeline(StoredPartitions):
    """The flow for the datasets of one KLINE_HOME, and all that can be asked about its partitions.

    Args:
        settings: where things live, and how to talk to the exchange.
        database: migrated.
        client: of the exchange; only `claim`, `now_ms`, `listing`, `missing` and `fill` ask it anything.
    """

    def __init__(self, settings: Settings, *, database: Database, client: BybitClient) -> None:
        super().__init__(settings, database)
        self._concurrency = settings.bybit.concurrency
        self._client = client

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

    def run(
        self,
        dataset: Dataset,
        cells: Sequence[Cell],
        *,
        now_ms: int | None = None,
        report: Report[Passed] | None = None,
    ) -> dict[Cell, Passed]:
        """Do all of `fill`, `derive`, `land_postgres` and `land_parquet`, the stages side by side.

        Args:
            dataset, cells: the partitions.
            now_ms: what `now_ms()` said a moment ago; asked for without it.
            report: told each partition when it is through, in another thread, one at a time.

        Raises:
            ExchangeError: a retryable one after all attempts; what was complete by then has landed.
            CorruptFile: a raw batch is not what was written.
            VenueMismatch: a store belongs to another exchange.
            StorageError: the database or a folder failed; no other partition is begun.
        """
        self.claim()
        self.keep(dataset)
        now_ms = self.now_ms() if now_ms is None else now_ms
        flow = Flow(self._fill(dataset, now_ms), now_ms)
        if report is not None:
            flow.report = report
        return flow.run(cells)

    def distrust_inconsistent(
        self, dataset: Dataset, cells: Sequence[Cell], *, declared: Sequence[Dataset]
    ) -> list[Cell]:
        """Let the next `fill` read those of some partitions once more in which `consistent` finds an error.

        Args:
            dataset, cells: the partitions.
            declared: all datasets, as `consistent` compares those of the same category.

        Raises:
            ExchangeError: the exchange does not tell its time.
            StorageError: the database or a folder failed.
        """
        return distrust_inconsistent(self._stores, dataset, cells, declared=declared, now_ms=self.now_ms())

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
        return _each(cells, lambda cell: derive_partition(self._stores, dataset, cell, now_ms=now_ms)[0], report)

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

    def accept(
        self,
        dataset: Dataset,
        symbol: str,
        window: Window,
        *,
        reason: str,
        keep: Keep | None,
        declared: Sequence[Dataset],
        now_ms: int,
    ) -> list[Cell]:
        """Let in what offends in a window, and return the partitions that are to be derived and landed again.

        Args:
            dataset, symbol: the series.
            window: half-open, on boundaries of the interval.
            reason: why, kept as evidence and shown from then on.
            keep: which of contradicting rows counts, as they were served; None where there are none.
            declared: all datasets, as `consistent` compares those of the same category.
            now_ms: when it was decided, UTC.

        Raises:
            UsageError: nothing there offends, or the reason or `keep` is lacking; nothing was recorded.
            StorageError: the database or a folder failed, or a raw batch is not what was written.
        """
        decision = Accepted(window, keep, reason)
        return accept_window(self._stores, dataset, symbol, decision, declared=declared, now_ms=now_ms)

    def _fill(self, dataset: Dataset, now_ms: int) -> Fill:
        return Fill(self._stores, self._client, dataset, self._concurrency, now_ms)


def _each(cells: Sequence[Cell], step: Callable[[Cell], T], report: Report[T] | None) -> dict[Cell, T]:
    done: dict[Cell, T] = {}
    for cell in cells:
        done[cell] = step(cell)
        if report is not None:
            report(cell, done[cell])
    return done
