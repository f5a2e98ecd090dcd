"""Everything a stage needs of one KLINE_HOME, opened once; what is done with it is told in the stages."""

from dataclasses import dataclass
from typing import Self

from kline_pipeline.candles.store import CandleStore
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.files import Folder
from kline_pipeline.metrics import CHECK_RESULTS
from kline_pipeline.raw_batches.store import RawStore


@dataclass(frozen=True, slots=True)
class Stores:
    """The database and the folders of one KLINE_HOME.

    Attributes:
        database: migrated.
        work, snapshots: folders of raw batches and working candles, and of snapshots.
        raw, working: what lies in `work`.
        grace_ms: a candle counts as closed this long after its end.
        confirm_after_ms: a gap can become a known one this long after it was first seen.
        program: what a person types before a command on this KLINE_HOME.
    """

    database: Database
    work: Folder
    snapshots: Folder
    raw: RawStore
    working: CandleStore
    grace_ms: int
    confirm_after_ms: int
    program: str

    @classmethod
    def open(cls, settings: Settings, database: Database) -> Self:
        """Return the stores that the settings name; nothing is created before the first write."""
        work = Folder(settings.work_url)
        grace_ms = round(settings.bybit.close_grace_s * 1000)
        return cls(
            database,
            work,
            Folder(settings.snapshot_url),
            RawStore(work),
            CandleStore(work),
            grace_ms,
            settings.gap_confirm_after_s * 1000,
            settings.program,
        )

    def count(self, *results: CheckResult) -> None:
        """Count results of checks that were judged now, not those that are read again."""
        for one in results:
            told = "passed" if one.passed else "warned" if one.severity == "WARN" else "failed"
            self.database.tally.add(CHECK_RESULTS, check=one.check, result=told)

    def command(self, name: str, dataset: Dataset, cell: Cell) -> str:
        """Return what a person types to have one partition repaired or rebuilt."""
        return f"{self.program} {name} {dataset.series(cell.symbol)} --from {cell.date} --to {cell.date}"
