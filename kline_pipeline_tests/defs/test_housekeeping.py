"""The job that prunes Dagster's storage, executed in the process of the test; what it deletes: test_pruning."""

import time
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id
from sqlalchemy import text

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.definitions import definitions_of
from kline_pipeline.defs.automation.housekeeping import housekeeping
from kline_pipeline.defs.instance.orphans import PID_TAG, process_tags

DAY_S = 86_400


def test_the_definitions_have_one_daily_schedule_that_is_on() -> None:
    schedule = definitions_of(datasets.load(None)).resolve_schedule_def("housekeeping")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "30 3 * * *"


def test_ticks_of_sensors_and_schedules_are_kept_for_a_while_only(instance: dg.DagsterInstance) -> None:
    for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
        assert all(0 < days <= 30 for days in instance.get_tick_retention_settings(kind).values())


def test_the_job_deletes_old_runs_with_their_files_and_says_how_much(
    settings: Settings, instance: dg.DagsterInstance, database: Database
) -> None:
    old = create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS).run_id
    with database.engine.begin() as connection:
        connection.execute(text("update dagster.runs set end_time = :end"), {"end": time.time() - 31 * DAY_S})
    folder = settings.home / "dagster" / "storage" / old / "compute_logs"
    folder.mkdir(parents=True)
    (folder / "step.out").touch()

    ran = _execute(instance)

    assert instance.get_run_by_id(old) is None
    assert not folder.parent.exists()
    assert _told(ran)["rows runs"] == 1
    assert float(_told(ran)["MB after"]) > 0


def test_the_job_closes_a_run_whose_process_is_gone(instance: dg.DagsterInstance) -> None:
    run_id = make_new_run_id()
    tags = process_tags(run_id) | {PID_TAG: _free_pid()}
    create_run_for_test(instance, run_id=run_id, status=dg.DagsterRunStatus.STARTED, tags=tags)

    ran = _execute(instance)

    assert _told(ran)["runs closed"] == 1
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE


def _execute(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = housekeeping().job
    assert isinstance(job, dg.JobDefinition)
    return job.execute_in_process(instance=instance)


def _told(ran: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (output,) = (event for event in ran.all_node_events if event.event_type == dg.DagsterEventType.STEP_OUTPUT)
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def _free_pid() -> str:
    return next(str(pid) for pid in range(4_000_000, 3, -1) if not Path(f"/proc/{pid}").exists())
