"""Landing one partition in one sink, or holding it back; how a sink writes is told in sinks/.

A quarantined partition is red here too, and what the sink held before stays. Of an open one the contiguous good part
lands, unless the sink already holds more.
"""

import logging
from dataclasses import dataclass
from typing import Final

from kline_pipeline.checks import agrees
from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.checks.verdict import CANDLE_CHECKS, Verdict
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import CorruptFile
from kline_pipeline.log.about import about, elapsed_ms, now_ns
from kline_pipeline.metrics import ROWS_WRITTEN
from kline_pipeline.sinks import candles_parquet, candles_postgres
from kline_pipeline.sinks.landing import Held, ToLand
from kline_pipeline.stages.derive import read_cell
from kline_pipeline.stages.stores import Stores

logger: Final = logging.getLogger(__name__)
SINK_CHECKS: Final = {"postgres": "postgres_agrees", "parquet": "parquet_agrees"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What landing one partition in one sink did.

    Attributes:
        result: of postgres_agrees or parquet_agrees; the partition has landed when it passed.
        rows: candles the sink holds of it.
        written: rows inserted, updated or deleted; 0 when all was there.
        size_bytes: of the snapshot, None for the table.
        stepped_back: newer answers had landed before.
    """

    result: CheckResult
    rows: int
    written: int
    size_bytes: int | None
    stepped_back: bool


def land_cell(stores: Stores, sink: str, dataset: Dataset, cell: Cell) -> Landing:
    """Land what may land of one partition, read it back, and return what was done.

    Raises:
        CorruptFile: the partition was never derived, or the snapshot that must stay cannot be read.
        StorageError: the database or the folder failed; the partition is as it was.
    """
    return land_partition(stores, sink, *read_cell(stores, dataset, cell))


def land_partition(stores: Stores, sink: str, verdict: Verdict, partition: ToLand) -> Landing:
    """Land what may land of a partition that was just derived; see `land_cell`."""
    began_ns = now_ns()
    with about(series=partition.series, date=partition.date, window=partition.window):
        landing = _landed(stores, sink, verdict, partition)
        fields = {"sink": sink, "elapsed_ms": elapsed_ms(began_ns), "rows": landing.rows, "written": landing.written}
        if landing.result.passed:
            logger.info("partition landed", extra=fields)
        else:
            logger.warning("partition not landed", extra={**fields, "reason": landing.result.sentence})
    return landing


def _landed(stores: Stores, sink: str, verdict: Verdict, partition: ToLand) -> Landing:
    held = held_by(stores, sink, partition) if verdict.quarantined else None
    if not verdict.quarantined or (verdict.lands and (held is None or held.rows < partition.rows)):
        held = _write(stores, sink, partition)
        stores.database.tally.add(ROWS_WRITTEN, held.written, sink=sink)
    result = _agrees(sink, verdict, partition, held)
    stores.count(result)
    return Landing(
        result=result,
        rows=held.rows if held else 0,
        written=held.written if held else 0,
        size_bytes=held.size_bytes if held else None,
        stepped_back=held.stepped_back if held else False,
    )


def stored_result(stores: Stores, dataset: Dataset, cell: Cell, check: str) -> CheckResult:
    """Return the result of any check on what is stored of one partition, without writing.

    A snapshot that cannot be read fails its check.

    Raises:
        CorruptFile: the partition was never derived, or its working candles are not what was written.
        StorageError: the database or the folder failed.
    """
    verdict, partition = read_cell(stores, dataset, cell)
    if check in CANDLE_CHECKS:
        return verdict.results[check]
    sink = check.removesuffix("_agrees")
    try:
        held = held_by(stores, sink, partition)
    except CorruptFile as exc:
        counts = {"rows": 0, "expected": partition.rows}
        repair = stores.command("rebuild", dataset, cell)
        return CheckResult.of(check, [Offender(None, str(exc))], counts=counts, window=verdict.window, repair=repair)
    return _agrees(sink, verdict, partition, held)


def held_by(stores: Stores, sink: str, partition: ToLand) -> Held | None:
    """Return what a sink holds of a partition, None when it holds no such file.

    Raises:
        CorruptFile: a file is there and is not a snapshot.
    """
    if sink == "parquet":
        return candles_parquet.held(stores.snapshots, partition)
    return candles_postgres.held(stores.database, partition)


def _write(stores: Stores, sink: str, partition: ToLand) -> Held:
    if sink == "parquet":
        return candles_parquet.land(stores.database, stores.snapshots, partition)
    return candles_postgres.land(stores.database, partition)


def _agrees(sink: str, verdict: Verdict, partition: ToLand, held: Held | None) -> CheckResult:
    # What stepped back is right as it is: newer answers stand there.
    expected = held if held is not None and held.stepped_back else partition
    reasons = verdict.reasons if verdict.quarantined else ()
    return agrees.judge(
        SINK_CHECKS[sink], held, expected, quarantine=reasons, window=verdict.window, repair=verdict.repair
    )
