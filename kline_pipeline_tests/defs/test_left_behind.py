"""The sensor that closes runs whose process is gone: at once where that is sure, else after two looks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import hold_run_lock
from kline_pipeline.definitions import definitions_of
from kline_pipeline.defs.instance.orphans import LOCK_TAG, PID_TAG, process_tags

LONG_AGO_S = 1_700_000_000.0


@dg.job
def nothing() -> None:
    """A job without steps."""


def tick(instance: DagsterInstance, looks: dict[str, float] | None = None) -> Any:
    repository = definitions_of([]).get_repository_def()
    context = dg.build_sensor_context(instance, repository_def=repository, cursor=json.dumps(looks) if looks else None)
    return repository.get_sensor_def("left_behind").evaluate_tick(context)


def started(instance: DagsterInstance, **tags: str) -> DagsterRun:
    run = instance.create_run_for_job(nothing, status=DagsterRunStatus.STARTED)
    instance.add_run_tags(run.run_id, {**process_tags(run.run_id), **tags})
    return run


def make_old(database: Database, run: DagsterRun) -> None:
    """Let a run have begun two minutes ago."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "update dagster.runs set create_timestamp = create_timestamp - interval '2 minutes', "
            "start_time = extract(epoch from now()) - 120 where run_id = %s",
            (run.run_id,),
        )


def status(instance: DagsterInstance, run: DagsterRun) -> DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@contextmanager
def held(database: Database, run: DagsterRun) -> Iterator[None]:
    """Hold the lock of a run, as its process does."""
    with database.engine.connect() as connection:
        assert hold_run_lock(connection, run.run_id)
        yield


def test_a_run_whose_process_of_this_host_is_gone_is_closed_at_once_with_a_reason(instance: DagsterInstance) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = started(instance, **{PID_TAG: str(gone.pid)})
    assert f"closed {run.run_id[:8]}" in tick(instance).skip_message
    assert status(instance, run) == DagsterRunStatus.FAILURE
    (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "ended without a word" in f"{failure.message}{failure.dagster_event}"


def test_one_that_only_seems_to_be_gone_is_closed_at_a_later_tick(
    instance: DagsterInstance, database: Database
) -> None:
    run = started(instance, **{PID_TAG: "unknown"})
    make_old(database, run)
    first = tick(instance)
    assert status(instance, run) == DagsterRunStatus.STARTED
    assert list(json.loads(first.cursor)) == [run.run_id]
    too_soon = tick(instance, json.loads(first.cursor))
    assert status(instance, run) == DagsterRunStatus.STARTED
    assert json.loads(too_soon.cursor) == json.loads(first.cursor)
    assert json.loads(tick(instance, {run.run_id: LONG_AGO_S}).cursor) == {}
    assert status(instance, run) == DagsterRunStatus.FAILURE


def test_a_run_that_took_its_lock_between_two_looks_lives(instance: DagsterInstance, database: Database) -> None:
    run = started(instance, **{PID_TAG: "unknown"})
    make_old(database, run)
    with held(database, run):
        told = tick(instance, {run.run_id: LONG_AGO_S})
    assert told.skip_message == "every run that is on lives"
    assert json.loads(told.cursor) == {}
    assert status(instance, run) == DagsterRunStatus.STARTED


def test_a_run_that_never_said_it_holds_a_lock_is_left_to_dagster(
    instance: DagsterInstance, database: Database
) -> None:
    run = started(instance, **{PID_TAG: "unknown", LOCK_TAG: "of another run"})
    make_old(database, run)
    tick(instance, {run.run_id: LONG_AGO_S})
    assert status(instance, run) == DagsterRunStatus.STARTED
