"""Runs whose process is gone: how a run shows that it lives, and how dead ones are closed; nothing is executed here.

Dagster's default launcher leaves a run STARTED for ever when its process was killed. A run of ours holds a session
lock in the database while it lives, and its tags say which process it began in. Tags are inherited by re-executions
from the UI, so they count only where they name the run itself.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.storage.dagster_run import RunRecord
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import hold_run_lock as take
from kline_pipeline.database.locks import release_run_lock

# Dagster's UI shows no tag with this prefix: they say nothing to people, and filled the list of runs.
LOCK_TAG: Final = ".dagster/kline_lock"
HOST_TAG: Final = ".dagster/kline_host"
PID_TAG: Final = ".dagster/kline_pid"
STARTED_TAG: Final = ".dagster/kline_started"
_LIVE: Final = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_YOUNG_S: Final = 60.0
BETWEEN_LOOKS_S: Final = 15.0
_SESSION_END_S: Final = 2.0
_KEEP_ALIVE_S: Final = 5.0
_MESSAGE: Final = (
    "The process of this run ended without a word (killed, or the machine went down); "
    "run it again, it goes on where it stopped."
)


def process_tags(run_id: str) -> dict[str, str]:
    """Return the tags of a run that begins in this process and will hold its lock."""
    return {
        LOCK_TAG: run_id,
        HOST_TAG: socket.gethostname(),
        PID_TAG: str(os.getpid()),
        STARTED_TAG: _state_and_start(os.getpid())[1],
    }


@contextmanager
def hold_run_lock(database: Database, run_id: str, instance: DagsterInstance | None = None) -> Iterator[None]:
    """Hold the lock of a run, on a connection of its own, as long as the block lasts.

    A lost session is opened again and takes the lock again. Where another session holds the lock of the same run, as
    the worker does around the resources of its run, this one waits in the background for it.

    Args:
        database: gives the connection.
        run_id: Dagster's.
        instance: given, the run is tagged as one that shows its life by its lock; runs begun elsewhere need it.
    """
    if instance is not None:
        _tag_as_locked(instance, run_id)
    done, first_try = Event(), Event()
    keeper = Thread(target=_keep, args=(database, run_id, done, first_try), name=f"lock of {run_id}", daemon=True)
    keeper.start()
    first_try.wait()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def close_orphans(
    settings: Settings,
    instance: DagsterInstance,
    database: Database,
    *,
    clock_s: Callable[[], float] = time.time,
    pause: Callable[[float], object] = time.sleep,
) -> list[str]:
    """Mark runs as failed whose process is gone, and return their ids; takes 15 s when one is only suspected.

    Closed at once: the run began in a process of this host that is gone. Closed after two looks: the run is older than
    60 s and its lock was free both times. Runs that never said they hold a lock are left to Dagster.

    Raises:
        DatabaseUnavailable: no database server answers.
    """
    del settings
    dead, suspected = look_for_orphans(instance, database, now_s=clock_s())
    if suspected:
        pause(BETWEEN_LOOKS_S)
    return close_runs(instance, database, [*dead, *suspected])


def look_for_orphans(instance: DagsterInstance, database: Database, *, now_s: float) -> tuple[list[str], list[str]]:
    """Return the ids of runs whose process is gone, and of those that only seem so: older than 60 s with a free lock.

    The suspected ones are to be looked at again BETWEEN_LOOKS_S later, by `close_runs`.

    Raises:
        DatabaseUnavailable: no database server answers.
    """
    records = [record for record in instance.get_run_records(RunsFilter(statuses=_LIVE)) if _ours(record)]
    dead = [record for record in records if _process_is_gone(record.dagster_run.tags)]
    gone = [_id(record) for record in dead if _is_free(database, _id(record), patience_s=_SESSION_END_S)]
    old = [record for record in records if record not in dead and now_s - _began_s(record) > _YOUNG_S]
    return gone, [_id(record) for record in old if _is_free(database, _id(record))]


def close_runs(instance: DagsterInstance, database: Database, run_ids: Iterable[str]) -> list[str]:
    """Mark those of the runs as failed that are not finished and whose lock is free, and return their ids.

    Raises:
        DatabaseUnavailable: no database server answers.
    """
    return [run_id for run_id in run_ids if _is_free(database, run_id) and _close(instance, run_id)]


def _tag_as_locked(instance: DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and run.tags.get(LOCK_TAG) != run_id:
        # Inherited from the run that it repeats: that process is not this one.
        instance.add_run_tags(run_id, {LOCK_TAG: run_id, PID_TAG: "unknown"})


def _close(instance: DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return False
    instance.report_run_failed(run, _MESSAGE)
    return True


def _ours(record: RunRecord) -> bool:
    return record.dagster_run.tags.get(LOCK_TAG) == record.dagster_run.run_id


def _id(record: RunRecord) -> str:
    return record.dagster_run.run_id


def _began_s(record: RunRecord) -> float:
    return record.start_time or record.create_timestamp.timestamp()


def _is_free(database: Database, run_id: str, patience_s: float = 0.0) -> bool:
    """Return whether nobody holds the lock of a run, waiting so long for the session of a killed process to end."""
    end_s = time.monotonic() + patience_s
    with database.translate_errors(), database.engine.connect() as connection:
        while not take(connection, run_id):
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.1)
        release_run_lock(connection, run_id)
        return True


def _process_is_gone(tags: Mapping[str, str]) -> bool:
    pid = tags.get(PID_TAG, "")
    if tags.get(HOST_TAG) != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    state, began = _state_and_start(int(pid))
    return state == "Z" or (bool(began) and tags.get(STARTED_TAG, began) not in ("", began))


def _state_and_start(pid: int) -> tuple[str, str]:
    """Return the state of a process, Z for a dead one, and its start in ticks since boot; empty without a /proc."""
    try:
        # The name in brackets may hold blanks; state and start time are fields 3 and 22, the 1st and 20th after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def _keep(database: Database, run_id: str, done: Event, first_try: Event) -> None:
    """Take the lock and keep its session alive until `done`."""
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    try:
        while not done.is_set():
            try:
                with engine.connect() as connection:
                    connection.detach()  # closing it then really ends the session, and with it the lock
                    _keep_session(connection, run_id, done, first_try)
            except DBAPIError:
                first_try.set()
                done.wait(_KEEP_ALIVE_S)
    finally:
        first_try.set()


def _keep_session(connection: Connection, run_id: str, done: Event, first_try: Event) -> None:
    taken = False
    while True:
        if taken:
            connection.exec_driver_sql("select 1")
        else:
            taken = take(connection, run_id)
        first_try.set()
        if done.wait(_KEEP_ALIVE_S if taken else 1.0):
            return
