"""What came of a run, read from the events that Dagster stored for it; the events are written elsewhere."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from dagster import AssetCheckSeverity, AssetKey, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.events import DagsterEvent
from dagster_shared.error import SerializableErrorInfo

from kline_pipeline import errors
from kline_pipeline.datasets import Cell
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.run_messages import FailedCell, RunOutcome, Status

_READ = {
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ASSET_FAILED_TO_MATERIALIZE,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_FAILURE,
}
_OURS: Final = frozenset(
    name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.KlineError)
)


def read_outcome(instance: DagsterInstance, run: RangeRun, run_id: str) -> RunOutcome:
    """Return the outcome of a finished run."""
    events = [entry.dagster_event for entry in instance.all_logs(run_id, of_type=_READ) if entry.dagster_event]
    found = instance.get_run_by_id(run_id)
    if found is not None and found.status == DagsterRunStatus.SUCCESS:
        return RunOutcome(run, run_id, "success", _failed_cells(events))
    status: Status = "canceled" if found is not None and found.status == DagsterRunStatus.CANCELED else "failed"
    return RunOutcome(run, run_id, status, _failed_cells(events), _error(events) or f"the run was {status}")


def parse_partition(key: str | None) -> Cell | None:
    """Return the partition that Dagster names 2024-01-01|BTCUSDT; None for None or another form."""
    day, bar, symbol = (key or "").partition("|")
    try:
        return Cell(date.fromisoformat(day), symbol) if bar else None
    except ValueError:
        return None


def step_sentence(event: DagsterEvent) -> str:
    """Return why a step failed, of its STEP_FAILURE: what it said itself, else the sentence of the error."""
    failure = event.step_failure_data
    description = failure.user_failure_data.description if failure.user_failure_data else None
    return description or _sentence(failure.error)


def _failed_cells(events: list[DagsterEvent]) -> tuple[FailedCell, ...]:
    return tuple(dict.fromkeys(cell for event in events for cell in _failed_cell(event)))


def _failed_cell(event: DagsterEvent) -> Iterator[FailedCell]:
    if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
        found = event.asset_check_evaluation_data
        if not found.passed and found.severity == AssetCheckSeverity.ERROR:
            cell = parse_partition(found.partition)
            yield FailedCell(cell, _name(found.asset_key), found.check_name, found.description or "")
    elif event.event_type == DagsterEventType.ASSET_FAILED_TO_MATERIALIZE:
        failure = event.asset_failed_to_materialize_data
        if failure.asset_key is not None:
            reason = _sentence(failure.error)
            yield FailedCell(parse_partition(failure.partition), _name(failure.asset_key), "", reason)


def _error(events: list[DagsterEvent]) -> str:
    for event in events:
        if event.event_type == DagsterEventType.STEP_FAILURE:
            sentence = step_sentence(event)
            if sentence:
                return f"{event.step_key}: {sentence}"
    failures = [event.message or "" for event in events if event.event_type == DagsterEventType.RUN_FAILURE]
    return failures[-1] if failures else ""


def _sentence(error: SerializableErrorInfo | None) -> str:
    """Return the first line of our error among the causes, else of the innermost, without the name of its class.

    Ours says what was tried and what to do; what caused it, such as a refused connection, says neither.
    """
    if error is None:
        return ""
    causes = [error]
    while causes[-1].cause is not None:
        causes.append(causes[-1].cause)
    told = next((one for one in causes if one.cls_name in _OURS), causes[-1])
    line = (told.message.strip().splitlines() or [""])[0]
    return re.sub(rf"^(\w+\.)*{re.escape(told.cls_name or '')}: ", "", line)


def _name(key: AssetKey) -> str:
    return key.path[-1]
