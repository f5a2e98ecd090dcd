"""What the metrics say of Dagster's runs: those of the last day by status, and how long they took."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance
from sqlalchemy import text

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.defs.instance.memory import DagsterMemory
from kline_pipeline.defs.instance.run_readings import run_readings
from kline_pipeline.metrics import RUN_SECONDS, RUN_STATUSES, RUNS


@dg.op
def fails() -> None:
    raise dg.Failure("on purpose", allow_retries=False)


@dg.op
def works() -> None:
    pass


@dg.job
def bad() -> None:
    fails()


@dg.job
def good() -> None:
    works()


def test_runs_of_the_last_day_are_counted_by_status(instance: DagsterInstance) -> None:
    for job in (good, good, bad):
        job.execute_in_process(instance=instance, raise_on_error=False)
    instance.create_run_for_job(good)
    now = datetime.now(tz=UTC)

    found = run_readings(instance.run_storage, now=now)

    counts = {dict(one.labels)["status"]: one.value for one in found if one.metric is RUNS}
    assert counts == dict.fromkeys(RUN_STATUSES, 0) | {"success": 2, "failure": 1, "queued": 1}
    took = {dict(one.labels)["percentile"]: one.value for one in found if one.metric is RUN_SECONDS}
    assert set(took) == {"50", "90", "100"}
    assert 0 < took["50"] <= took["100"]


def test_older_runs_are_not_counted_and_no_run_has_no_duration(instance: DagsterInstance) -> None:
    good.execute_in_process(instance=instance)
    found = run_readings(instance.run_storage, now=datetime.now(tz=UTC) + timedelta(days=2))
    assert [one.value for one in found] == [0] * len(RUN_STATUSES)
    assert {one.metric for one in found} == {RUNS}


def test_where_dagster_has_made_no_tables_there_is_nothing_to_say(settings: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("drop schema dagster cascade"))
    late = LateDatabase(settings)
    late.look()
    memory = DagsterMemory(late)
    try:
        assert (memory.run_readings(), memory.age_s()) == ([], None)
    finally:
        late.close()
