"""Letting in what stays wrong for good, by a person's decision; what that means for the rules is told in checks/.

Only the decision is recorded, with the offenders and their rows; the candles are derived and landed again by the flow.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kline_pipeline.checks import well_formed
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import UsageError
from kline_pipeline.evidence import accepted
from kline_pipeline.evidence.accepted import Accepted
from kline_pipeline.evidence.partitions import known_of
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.market.schema import NUMBER_COLUMNS
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import iso
from kline_pipeline.stages.consistent import consistent_cell
from kline_pipeline.stages.look import Looked, look
from kline_pipeline.stages.stores import Stores


def accept_window(
    stores: Stores, dataset: Dataset, symbol: str, decision: Accepted, *, declared: Sequence[Dataset], now_ms: int
) -> list[Cell]:
    """Record a decision about a window of a series, and return the partitions whose candles it concerns, ascending.

    Args:
        stores: of the KLINE_HOME.
        dataset, symbol: the series.
        decision: its window must lie on boundaries of the interval.
        declared: all datasets, as `consistent` compares those of the same category.
        now_ms: when it was decided, UTC.

    Raises:
        UsageError: nothing in the window offends, or it cannot be let in so; nothing was recorded.
        CorruptFile: a raw batch is not what was written.
        StorageError: the database or a folder failed.
    """
    series = dataset.series(symbol)
    _check(series, decision)
    days = dataset.dates(max(decision.window.start_ms, decision.window.end_ms - 1))
    cells = [Cell(day, symbol) for day in days if dataset.window(day).intersect(decision.window)]
    evidence: list[dict[str, Any]] = []
    concerned = []
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        for cell in cells:
            partition_lock(connection, series, cell.date)
            names, known = stores.raw.names(series, cell.date), known_of(connection, dataset, cell)
            looked = look(stores, dataset, cell, known, names, now_ms=now_ms)
            offenders = _offenders(looked, decision, series)
            if known.row is not None and known.row.generation is not None:
                offenders += _inconsistent(consistent_cell(stores, dataset, cell, declared), decision)
            if offenders:
                evidence += offenders
                concerned.append(cell)
        if not evidence:
            raise UsageError(
                f"nothing in {decision.window} of {series} breaks an error rule; there is nothing to accept"
            )
        accepted.record(connection, series_id(connection, series), decision, evidence=evidence, now_ms=now_ms)
    return concerned


def _inconsistent(result: CheckResult, decision: Accepted) -> list[dict[str, Any]]:
    """Return the errors that `consistent` found inside the window; it names the first 20 of a partition."""
    if result.passed or result.severity != "ERROR":
        return []
    inside = [one for one in result.offenders if one.open_time_ms is not None and one.open_time_ms in decision.window]
    return [{"open_time": iso(one.open_time_ms or 0), "inconsistent": one.what} for one in inside]


def _check(series: Series, decision: Accepted) -> None:
    window, interval = decision.window, series.interval
    if not decision.reason.strip():
        raise UsageError("what is let in needs a reason; say why with --reason")
    if not window or any(interval.floor(end_ms) != end_ms for end_ms in (window.start_ms, window.end_ms)):
        raise UsageError(
            f"{window} is no range of whole {interval} candles of {series}; "
            f"the candle at its start is [{iso(interval.floor(window.start_ms))}, "
            f"{iso(interval.shift(interval.floor(window.start_ms), 1))})"
        )


def _offenders(looked: Looked, decision: Accepted, series: Series) -> list[dict[str, Any]]:
    """Return the offenders of one partition inside the window, with their rows.

    Raises:
        UsageError: one of them cannot be let in so.
    """
    derivation, judgement, window = looked.derivation, looked.judgement, decision.window
    inside = [time_ms for time_ms in judgement.bad_ms.tolist() if time_ms in window]
    unfit = [time_ms for time_ms in well_formed.too_large(derivation.candles).tolist() if time_ms in window]
    if unfit:
        raise UsageError(f"the candle of {series} at {iso(unfit[0])} fits into no sink and cannot be accepted")
    missing = set(judgement.missing_ms.tolist())
    refused = looked.known.row is not None and looked.known.row.fetch_error is not None
    asked = set(derivation.answers.asked(judgement.missing_ms).tolist())
    found = []
    for time_ms in inside:  # a loop: offenders are few, and each is kept with its rows
        if time_ms in missing and time_ms not in asked and not refused:
            continue  # nobody asked for it yet
        rows = _rows(derivation.candles, time_ms)
        others = _rows(derivation.contradictions, time_ms)
        if others and decision.keep is None:
            raise UsageError(
                f"{series} has {1 + len(others)} contradicting rows at {iso(time_ms)}; "
                "say with --keep first or --keep last which one counts"
            )
        off_grid = [iso(int(time)) for time in derivation.off_grid_ms if series.interval.floor(int(time)) == time_ms]
        found.append(
            {"open_time": iso(time_ms), "missing": time_ms in missing, "rows": rows + others, "off_grid": off_grid}
        )
    return found


def _rows(candles: pa.Table, time_ms: int) -> list[dict[str, str]]:
    times = candles["open_time_ms"].to_numpy()
    chosen = candles.filter(pa.array(times == time_ms)).select(list(NUMBER_COLUMNS))
    rows: list[dict[str, str]] = chosen.to_pylist()
    return rows
