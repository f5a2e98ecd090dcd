"""What Dagster's instance knows for the metrics of the service: runs of the last day, and heartbeats of its daemons."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from dagster import DagsterRunStatus, RunsFilter
from dagster._core.storage.runs import RunStorage

from kline_pipeline.metrics import RUN_SECONDS, RUN_STATUSES, RUNS, Reading

_DAY: Final = timedelta(days=1)
_MOST_RUNS: Final = 1000  # the newest ones: percentiles need no more
_STATUSES: Final[Mapping[DagsterRunStatus, str]] = {
    DagsterRunStatus.QUEUED: "queued",
    DagsterRunStatus.NOT_STARTED: "queued",
    DagsterRunStatus.STARTING: "running",
    DagsterRunStatus.STARTED: "running",
    DagsterRunStatus.CANCELING: "running",
    DagsterRunStatus.SUCCESS: "success",
    DagsterRunStatus.FAILURE: "failure",
    DagsterRunStatus.CANCELED: "canceled",
}
_PERCENTILES: Final = {"50": 0.5, "90": 0.9, "100": 1.0}


def run_readings(storage: RunStorage, *, now: datetime) -> list[Reading]:
    """Return how many runs of the last day have each status, and how long those took that have ended.

    Args:
        storage: of Dagster's runs.
        now: UTC.
    """
    since = RunsFilter(updated_after=now.astimezone(UTC) - _DAY)
    counts, took_s = dict.fromkeys(RUN_STATUSES, 0), []
    for record in storage.get_run_records(since, limit=_MOST_RUNS):
        status = _STATUSES.get(record.dagster_run.status)
        if status is not None:
            counts[status] += 1
        if record.dagster_run.is_finished and record.start_time is not None and record.end_time is not None:
            took_s.append(record.end_time - record.start_time)
    found = [Reading(RUNS, number, (("status", status),)) for status, number in counts.items()]
    return found + [
        Reading(RUN_SECONDS, _percentile(took_s, one), (("percentile", name),))
        for name, one in _PERCENTILES.items()
        if took_s
    ]


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
