"""The picture that goes with a result of no_gaps: the days of the partition, by what the ledger counts."""

from datetime import UTC, datetime

import msgspec

from kline_pipeline.checks.pictures import coverage_strip
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.evidence import coverage
from kline_pipeline.stages.stores import Stores


def with_coverage_strip(stores: Stores, dataset: Dataset, cell: Cell, result: CheckResult) -> CheckResult:
    """Return a result with the coverage strip of its partition; as it is when nothing offends, or from D on.

    Raises:
        DatabaseUnavailable: the ledger cannot be read.
    """
    window = dataset.window(cell.date)
    if result.passed:
        return result
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        rows = coverage.days(connection, dataset.category, dataset.interval.code, cell.symbol)
    first, end = (datetime.fromtimestamp(time_ms / 1000, tz=UTC).date() for time_ms in (window.start_ms, window.end_ms))
    days = [row for row in rows if first <= row.day < end]
    svg = coverage_strip([str(row.day) for row in days], [row.expected for row in days], [row.present for row in days])
    return msgspec.structs.replace(result, picture=svg)
