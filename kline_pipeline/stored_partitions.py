"""What stands on the partitions of one KLINE_HOME: verdicts, candles, checks, what is still to be done; only read.

How it comes there is told in pipeline.py; nobody is asked.
"""

from collections.abc import Sequence
from datetime import date

import msgspec
import pyarrow as pa

from kline_pipeline.checks import consistent, fresh, no_gaps, revisions
from kline_pipeline.checks.report import FIRST_OFFENDERS, CheckResult, merged
from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.freshness import newest_candles
from kline_pipeline.evidence.revisions import found_since
from kline_pipeline.market.window import Window
from kline_pipeline.stages.broken import broken_cells
from kline_pipeline.stages.consistent import consistent_cell
from kline_pipeline.stages.derive import read_verdict
from kline_pipeline.stages.land import stored_result
from kline_pipeline.stages.pictured import with_coverage_strip
from kline_pipeline.stages.stored import Gap, gaps, stored_candles
from kline_pipeline.stages.stores import Stores
from kline_pipeline.stages.verify import Verified, verify_cell, verify_rest


class StoredPartitions:
    """The partitions of the datasets of one KLINE_HOME, to be asked about.

    Args:
        settings: where things live, and when candles are fresh.
        database: migrated.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._fresh_after_ms = settings.fresh_after_s * 1000
        self._stores = Stores.open(settings, database)

    def verdict(self, dataset: Dataset, cell: Cell) -> Verdict:
        """Return the verdict that stands on a partition.

        Raises:
            CorruptFile: it was never derived, or the file is not what was written.
        """
        return read_verdict(self._stores, dataset, cell)

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

    def finished(self, dataset: Dataset) -> list[Cell]:
        """Return the partitions that are finished, as the ledger says, by symbol and date; sinks are not looked at."""
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            found = coverage.finished(connection, dataset.category, dataset.interval.code)
        return [Cell(*key) for key in found]

    def broken(
        self, dataset: Dataset, cells: Sequence[Cell], *, declared: Sequence[Dataset], now_ms: int
    ) -> list[Cell]:
        """Return those of some partitions on which a repair has something to do, in the order given.

        Something is missing, offends, has not landed or is unfinished, or a raw batch or a sink lost or spoilt it, or
        `consistent` finds an error; `declared` are all datasets.
        """
        return broken_cells(self._stores, dataset, cells, declared=declared, now_ms=now_ms)

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
        return self._counted(consistent_cell(self._stores, dataset, cell, declared))

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
            newest = newest_candles(connection, dataset.category, dataset.interval.code, exclude=dataset.exclude)
        result = fresh.judge(newest, dataset.interval, now_ms=now_ms, margin_ms=self._fresh_after_ms)
        late = [str(dataset.series(one.what.partition(":")[0])) for one in result.offenders]
        repair = f"{self._stores.program} backfill {' '.join(late)}" if late else ""
        return self._counted(msgspec.structs.replace(result, repair=repair))

    def revisions(self, dataset: Dataset, *, now_ms: int) -> CheckResult:
        """Return the result of `revisions` for a dataset: closed candles that changed, found in the last 7 days."""
        since_ms = now_ms - revisions.LOOK_BACK_MS
        with self._stores.database.translate_errors(), self._stores.database.engine.begin() as connection:
            found = found_since(connection, dataset.category, dataset.interval.code, since_ms, most=FIRST_OFFENDERS)
        return self._counted(revisions.judge(found.first, changed=found.changed, vanished=found.vanished))

    def verify(self, dataset: Dataset, cell: Cell, *, declared: Sequence[Dataset], now_ms: int) -> Verified:
        """Return what disagrees in what is stored of a partition, `declared` being all datasets; nothing is written."""
        return verify_cell(self._stores, dataset, cell, declared=declared, now_ms=now_ms)

    def verify_rest(self, dataset: Dataset, symbol: str) -> tuple[str, ...]:
        """Return what is stored of a series and belongs to no partition, a sentence each; nothing is written."""
        return verify_rest(self._stores, dataset, symbol)

    def _counted(self, result: CheckResult) -> CheckResult:
        self._stores.count(result)
        return result
