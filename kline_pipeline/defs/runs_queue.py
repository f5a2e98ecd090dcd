"""Range runs handed to the queue of a daemon, which executes them later and elsewhere; nothing is executed here.

A run is recorded as the UI would record it and enqueued as Dagster's QueuedRunCoordinator does, so no webserver is
needed in between and the daemon may run on another host over the same database.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from dagster import DagsterEvent, DagsterInstance
from dagster._daemon.controller import get_daemon_statuses

from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.runs_worker import load_job, record_run

_DAEMON: Final = "QUEUED_RUN_COORDINATOR"
# Dagster itself still calls a daemon healthy half an hour after its last heartbeat, of which there is one in 30 s.
_SILENCE_S: Final = 90.0
_LOOK_S: Final = 0.5


def daemon_answers(
    instance: DagsterInstance,
    *,
    patience_s: float = 0.0,
    clock_s: Callable[[], float] = time.time,
    pause: Callable[[float], object] = time.sleep,
) -> bool:
    """Return whether a daemon that takes runs from the queue has been heard of in the last 90 s.

    Args:
        instance: of the database that the daemon works on.
        patience_s: how long to wait for its first heartbeat.
        clock_s: Unix time in seconds.
        pause: waits so many seconds.
    """
    end_s = clock_s() + patience_s
    while not _heard_of(instance, clock_s()):
        if clock_s() >= end_s:
            return False
        pause(_LOOK_S)
    return True


def enqueue_runs(instance: DagsterInstance, runs: Sequence[RangeRun]) -> list[str]:
    """Put runs into the queue and return their ids in the order of `runs`; they are retried as the UI's are."""
    job, run_ids = load_job(), []
    for run in runs:
        recorded = record_run(instance, job, run)
        instance.report_dagster_event(DagsterEvent.job_enqueue(recorded), run_id=recorded.run_id)
        run_ids.append(recorded.run_id)
    return run_ids


def _heard_of(instance: DagsterInstance, now_s: float) -> bool:
    statuses = get_daemon_statuses(
        instance,
        [_DAEMON],
        curr_time_seconds=now_s,
        ignore_errors=True,  # an error of one turn is in its log, and the next turn goes on
        heartbeat_interval_seconds=0,
        heartbeat_tolerance_seconds=_SILENCE_S,
    )
    return bool(statuses[_DAEMON].healthy)
