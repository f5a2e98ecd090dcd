"""Runs that ended, read from the events that Dagster stored, for alerts; what is news of them is told in alerting/.

Dagster's own check sensors read the event log, which an open-source instance does not serve (dagster.md 3): the
status changes of runs are read, then the check evaluations of each run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from dagster import (
    AssetCheckKey,
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    EventLogRecord,
    RunStatusChangeRecordsFilter,
)

from kline_pipeline.alerting.episodes import Evaluation, FinishedRun
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset, undeclared
from kline_pipeline.defs.location import LOCATION_NAME
from kline_pipeline.defs.outcomes import step_sentence
from kline_pipeline.defs.symbols import known_symbols
from kline_pipeline.errors import KlineError
from kline_pipeline.evidence.alerts import Place, Severity
from kline_pipeline.market.interval import Interval

LOOK_BACK_S: Final = 86_400  # of the first tick: what commands did without a daemon is not lost
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
_READ: Final = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.STEP_FAILURE}
_PLANNED: Final = {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


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
        now_ms: UTC milliseconds; what ended in the last two seconds is left for the next time.
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
    settled: list[EventLogRecord] = []
    for record in records:
        if record.timestamp > now_s - SETTLE_S or (known_to is not None and record.storage_id > known_to):
            break
        settled.append(record)
    return settled


def _finished(instance: DagsterInstance, run: DagsterRun, record: EventLogRecord) -> FinishedRun | None:
    """Return what a run says; None where it is not one of ours."""
    assets, checks = _selected(instance, run)
    subject = _subject(run, [*assets, *(check.asset_key for check in checks)])
    ended = record.event_log_entry.dagster_event
    if subject is None or ended is None:
        return None
    status = _STATUS[ended.event_type]
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
        partitions=_partitions(run),
        assets=tuple(sorted(made)),
        evaluations=tuple(one for event, at in events for one in _evaluation(event, at)),
        crashes=tuple(one for event, _ in events for one in _crash(event)),
        error=(ended.message or "") if status == "failed" else "",
        repair=_repair(instance, run, subject) if status == "failed" else "",
    )


def _selected(instance: DagsterInstance, run: DagsterRun) -> tuple[set[AssetKey], set[AssetCheckKey]]:
    """Return what a run was to make; one of a whole job names nothing, and says it in its first events."""
    if run.asset_selection or run.asset_check_selection:
        return set(run.asset_selection or ()), set(run.asset_check_selection or ())
    entries = instance.all_logs(run.run_id, of_type=_PLANNED)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    assets = {event.asset_key for event in events if event.event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
    checks = {
        event.asset_check_planned_data.asset_check_key
        for event in events
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    }
    return {key for key in assets if key is not None}, checks


def _subject(run: DagsterRun, keys: Sequence[AssetKey]) -> str | None:
    """Return the dataset of a run of our assets, else the name of a job of ours; None for what others run here."""
    ours = [key for key in keys if _dataset(key) is not None]
    if ours:
        return "/".join(min(ours).path[:2])
    location = run.remote_job_origin.location_name if run.remote_job_origin else None
    return run.job_name if not keys and location == LOCATION_NAME else None


def _dataset(key: AssetKey) -> Dataset | None:
    """Return the dataset of an asset of ours, as far as its key says; None for another key."""
    category, interval = (*key.path, "", "")[:2]
    try:
        return undeclared(category, Interval(interval)) if len(key.path) == 3 else None  # noqa: PLR2004 - and a name
    except (KlineError, KeyError):
        return None


def _evaluation(event: DagsterEvent, timestamp: float) -> Iterator[Evaluation]:
    if event.event_type != DagsterEventType.ASSET_CHECK_EVALUATION:
        return
    found = event.asset_check_evaluation_data
    if _dataset(found.asset_key) is None:
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


def _partitions(run: DagsterRun) -> str:
    first = run.tags.get("dagster/asset_partition_range_start") or run.tags.get("dagster/partition", "")
    last = run.tags.get("dagster/asset_partition_range_end", "")
    return f"{first}...{last}" if last else first


def _repair(instance: DagsterInstance, run: DagsterRun, subject: str) -> str:
    """Return the command that goes on where a run over partitions stopped; empty for another run."""
    first = run.tags.get("dagster/asset_partition_range_start") or run.tags.get("dagster/partition", "")
    last = run.tags.get("dagster/asset_partition_range_end") or first
    (start, _, one), (end, bar, other) = first.partition("|"), last.partition("|")
    dataset = _dataset(AssetKey([*subject.split("/"), "candles"]))
    if dataset is None or not bar:
        return ""
    known = known_symbols(instance, dataset)
    symbols: Sequence[str] = [one] if one == other else []
    if one in known and other in known:
        symbols = known[known.index(one) : known.index(other) + 1]
    if not 0 < len(symbols) <= _SYMBOLS:
        return ""
    keys = " ".join(str(dataset.series(name)) for name in symbols)
    return f"{Settings.load().program} backfill {keys} --from {start} --to {end}"


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, tz=UTC)
