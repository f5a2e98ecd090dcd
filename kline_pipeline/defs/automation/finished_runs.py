"""Runs that ended, read from the events that Dagster stored, for alerts; what is news of them is told in alerting/.

Dagster's own check sensors read the event log, which an open-source instance does not serve (dagster.md 3): the
status changes of runs are read, then the check evaluations of each run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from dagster import (
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogRecord,
    RunsFilter,
    RunStatusChangeRecordsFilter,
)

from kline_pipeline.alerting.episodes import Evaluation, FinishedRun, ends
from kline_pipeline.config import Settings
from kline_pipeline.defs.automation.run_scope import (
    dataset_named,
    dataset_of,
    left_by,
    partitions_of,
    selection_of,
    symbols_of,
)
from kline_pipeline.defs.location import LOCATION_NAME
from kline_pipeline.defs.outcomes import step_sentence
from kline_pipeline.evidence.alerts import Place, Severity

LOOK_BACK_S: Final = 86_400  # of the first tick: what commands did without a daemon is not lost
GATHER_S: Final = 60.0  # while other runs still go on: partitions that fail in many runs are one message, not many
SETTLE_S: Final = 2.0  # ids are given before they are stored: a lower one may still come in this long
READ_S: Final = 20.0
_MOST: Final = 200  # status changes of a kind that are read at once
_SYMBOLS: Final = 20  # that a command names
_ENDS: Final = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
_STATUS: Final[dict[DagsterEventType, Literal["success", "failed", "canceled"]]] = {
    DagsterEventType.RUN_SUCCESS: "success",
    DagsterEventType.RUN_FAILURE: "failed",
    DagsterEventType.RUN_CANCELED: "canceled",
}
_GOING_ON: Final = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_READ: Final = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.STEP_FAILURE}
# All that Dagster says of a run whose process or code server died; why, it has told in the engine's events before.
_FROM_OUTSIDE: Final = "marked as failed from outside"
_DIED: Final = ("terminated by signal", "unexpectedly exited")


def read_finished(
    instance: DagsterInstance,
    after: int | None,
    *,
    now_ms: int,
    seconds: float = READ_S,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[FinishedRun], int | None]:
    """Return our runs that ended after a status change, in the order of their end, and the last change looked at.

    Args:
        instance: whose runs they are.
        after: storage id of a status change; None for those of the last 24 hours.
        now_ms: UTC milliseconds; what ended in the last two seconds is left for the next time, and while any run is
            going on all that ended, until the first of it is a minute old: a storm is read together.
        seconds: no further run is read after so many; at least one is.
        clock: seconds, for `seconds`.

    The last change is `after` when nothing has ended.
    """
    found: list[FinishedRun] = []
    end, last = clock() + seconds, after
    for record in _status_changes(instance, after, now_ms / 1000):
        run = instance.get_run_by_id(record.run_id)
        if run is not None and (one := _finished(instance, run, record)) is not None:
            found.append(one)
        last = record.storage_id
        if clock() >= end:
            break
    return found, last


def _status_changes(instance: DagsterInstance, after: int | None, now_s: float) -> list[EventLogRecord]:
    """Return the ends of runs by ascending id, without those that may still be joined by a lower one."""
    pages = [
        instance.fetch_run_status_changes(
            RunStatusChangeRecordsFilter(
                kind,
                after_storage_id=after,
                after_timestamp=now_s - LOOK_BACK_S if after is None else None,
            ),
            limit=_MOST,
            ascending=True,
        )
        for kind in _ENDS
    ]
    # Behind the end of a page that is not the last one, the others have gone ahead.
    known_to = min((page.records[-1].storage_id for page in pages if page.has_more and page.records), default=None)
    records = sorted((record for page in pages for record in page.records), key=lambda record: record.storage_id)
    if records and records[0].timestamp > now_s - GATHER_S and _going_on(instance):
        return []
    settled: list[EventLogRecord] = []
    for record in records:
        if record.timestamp > now_s - SETTLE_S or (known_to is not None and record.storage_id > known_to):
            break
        settled.append(record)
    return settled


def _going_on(instance: DagsterInstance) -> bool:
    return instance.get_runs_count(RunsFilter(statuses=_GOING_ON)) > 0


def _finished(instance: DagsterInstance, run: DagsterRun, record: EventLogRecord) -> FinishedRun | None:
    """Return what a run says; None where it is not one of ours."""
    assets, checks = selection_of(instance, run)
    subject = _subject(run, [*assets, *(check.asset_key for check in checks)])
    ended = record.event_log_entry.dagster_event
    if subject is None or ended is None:
        return None
    status = _STATUS[ended.event_type]
    partitions, symbols = partitions_of(run), symbols_of(instance, run, subject)
    entries = instance.all_logs(run.run_id, of_type=_READ)
    events = [(entry.dagster_event, entry.timestamp) for entry in entries if entry.dagster_event is not None]
    # A run that makes assets runs whichever checks belong to them; one that only checks must say the same again.
    made = [key.to_user_string() for key in assets] or [
        f"{one.asset_key.to_user_string()}:{one.name}" for one in checks
    ]
    return FinishedRun(
        run_id=run.run_id,
        status=status,
        at=_moment(record.timestamp),
        subject=subject,
        partitions=partitions,
        symbols=symbols,
        left=() if status == "success" else left_by(instance, run, assets),
        assets=tuple(sorted(made)),
        evaluations=tuple(one for event, at in events for one in _evaluation(event, at)),
        crashes=tuple(one for event, _ in events for one in _crash(event)),
        error=_why(instance, run.run_id, ended.message or "") if status == "failed" else "",
        repair=_repair(partitions, symbols, subject) if status == "failed" else "",
    )


def _subject(run: DagsterRun, keys: Sequence[AssetKey]) -> str | None:
    """Return the dataset of a run of our assets, else the name of a job of ours; None for what others run here."""
    ours = [key for key in keys if dataset_of(key) is not None]
    if ours:
        return "/".join(min(ours).path[:2])
    location = run.remote_job_origin.location_name if run.remote_job_origin else None
    return run.job_name if not keys and location == LOCATION_NAME else None


def _evaluation(event: DagsterEvent, timestamp: float) -> Iterator[Evaluation]:
    if event.event_type != DagsterEventType.ASSET_CHECK_EVALUATION:
        return
    found = event.asset_check_evaluation_data
    if dataset_of(found.asset_key) is None:
        return
    severity: Severity = "WARN" if found.severity.value == "WARN" else "ERROR"
    repair = found.metadata.get("repair")
    yield Evaluation(
        place=Place(found.asset_key.to_user_string(), found.partition or "", found.check_name),
        passed=found.passed,
        severity=severity,
        reason=found.description or "",
        repair=str(repair.value) if repair is not None else "",
        at=_moment(timestamp),
    )


def _crash(event: DagsterEvent) -> Iterator[tuple[str, str]]:
    """Give the asset of a step that broke off, as its key is in the name of the step, and what it said."""
    if event.event_type == DagsterEventType.STEP_FAILURE:
        name = (event.step_key or "").replace("__", "/")
        yield name, step_sentence(event) or "it did not say why"


def _why(instance: DagsterInstance, run_id: str, said: str) -> str:
    """Return what the failure of a run said, or what led to it where that is only that somebody marked it so."""
    if _FROM_OUTSIDE not in said:
        return said
    for entry in instance.all_logs(run_id, of_type={DagsterEventType.ENGINE_EVENT, DagsterEventType.RUN_FAILURE}):
        event = entry.dagster_event
        if event is None or event.event_type == DagsterEventType.RUN_FAILURE:
            break
        told = event.message or ""
        if event.engine_event_data.error is not None or any(words in told for words in _DIED):
            said = told
    return said


def _repair(partitions: str, symbols: Sequence[str], subject: str) -> str:
    """Return the command that goes on where a run over partitions stopped; empty for another run."""
    dataset = dataset_named(subject)
    if dataset is None or not partitions or not 0 < len(symbols) <= _SYMBOLS:
        return ""
    start, end = (key.partition("|")[0] for key in ends(partitions))
    keys = " ".join(str(dataset.series(name)) for name in symbols)
    return f"{Settings.load().program} backfill {keys} --from {start} --to {end}"


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, tz=UTC)
