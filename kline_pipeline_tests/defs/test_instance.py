"""Dagster's storage and how runs show that they live; no run is executed here."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id
from sqlalchemy import event

from kline_pipeline.config import Settings
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database
from kline_pipeline.defs.instance.check_states import EventLog
from kline_pipeline.defs.instance.home import write_dagster_home
from kline_pipeline.defs.instance.known_schema import RunsOfKnownTables
from kline_pipeline.defs.instance.orphans import (
    HOST_TAG,
    LOCK_TAG,
    PID_TAG,
    STARTED_TAG,
    close_orphans,
    hold_run_lock,
    process_tags,
)


def _run(instance: DagsterInstance, tags: Mapping[str, str], run_id: str | None = None) -> str:
    status = DagsterRunStatus.STARTED
    return str(create_run_for_test(instance, run_id=run_id, status=status, tags=dict(tags)).run_id)


def _tags_of_a_dead_process(run_id: str) -> dict[str, str]:
    """Tags of a process that ended and whose number another one, this one, has now."""
    return process_tags(run_id) | {STARTED_TAG: "1"}


def test_the_top_level_dagster_yaml_is_the_packaged_one() -> None:
    top = Path(__file__).parents[2] / "dagster.yaml"
    assert top.read_text() == (files("kline_pipeline") / "deploy" / "dagster.yaml").read_text()


def test_a_changed_dagster_yaml_is_written_again(settings: Settings) -> None:
    written = write_dagster_home(settings) / "dagster.yaml"
    packaged = written.read_text()
    written.write_text("telemetry: {}\n")
    assert (write_dagster_home(settings) / "dagster.yaml").read_text() == packaged


def test_dagster_keeps_its_tables_in_its_own_schema(instance: DagsterInstance, database: Database) -> None:
    run_id = _run(instance, {})
    with database.engine.connect() as connection:
        found = connection.exec_driver_sql("select run_id from dagster.runs").scalars().all()
    assert found == [run_id]


def test_tables_of_dagster_are_looked_for_until_they_are_found(instance: DagsterInstance, database: Database) -> None:
    log, runs = instance.event_log_storage, instance.run_storage
    assert isinstance(log, EventLog)
    assert isinstance(runs, RunsOfKnownTables)
    looks: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "pg_catalog" in statement:
            looks.append(statement)

    event.listen(log._engine, "before_cursor_execute", note, named=False)
    event.listen(runs._engine, "before_cursor_execute", note, named=False)

    def asked() -> list[bool]:
        return [log.supports_asset_checks, log.has_asset_key_index_cols(), runs.has_run_stats_index_cols()]

    assert asked() == [True] * 3
    first = len(looks)
    assert asked() == [True] * 3
    assert len(looks) == first > 0
    assert not log.has_table("a_table_of_later")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("create table dagster.a_table_of_later (id int)")
    assert log.has_table("a_table_of_later")


def test_the_embedded_server_serves_dagster_until_its_process_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = (
        "import gc\nfrom kline_pipeline.config import Settings\n"
        "from kline_pipeline.defs.instance.storage import open_instance\n"
        "with open_instance(Settings.load()) as instance: gc.collect(); print(instance.get_runs_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KLINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    server = EmbeddedServer(home)
    alive = (server.folder / "data" / "postmaster.pid").exists()
    server.destroy()
    assert (done.stdout, alive) == ("0\n", False), done.stderr


def test_a_failed_run_is_not_retried_for_its_candles(instance: DagsterInstance) -> None:
    assert instance.run_retries_enabled
    assert not instance.run_retries_retry_on_asset_or_op_failure


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times of processes: Linux")
def test_a_run_whose_process_is_gone_is_closed_at_once(
    settings: Settings, instance: DagsterInstance, database: Database
) -> None:
    run_id = make_new_run_id()
    _run(instance, _tags_of_a_dead_process(run_id), run_id)
    assert close_orphans(settings, instance, database) == [run_id]
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE


def test_a_run_that_holds_its_lock_is_left_alone_whatever_its_tags_say(
    settings: Settings, instance: DagsterInstance, database: Database
) -> None:
    run_id = make_new_run_id()
    _run(instance, _tags_of_a_dead_process(run_id), run_id)
    with hold_run_lock(database, run_id):
        assert close_orphans(settings, instance, database) == []


def test_the_lock_is_free_again_after_the_block(
    settings: Settings, instance: DagsterInstance, database: Database
) -> None:
    run_id = make_new_run_id()
    _run(instance, _tags_of_a_dead_process(run_id), run_id)
    with hold_run_lock(database, run_id), hold_run_lock(database, run_id):
        assert close_orphans(settings, instance, database) == []
    assert close_orphans(settings, instance, database) == [run_id]


def test_an_older_run_is_closed_when_its_lock_is_free_at_two_looks(
    settings: Settings, instance: DagsterInstance, database: Database
) -> None:
    run_id = make_new_run_id()
    _run(instance, process_tags(run_id) | {HOST_TAG: "another host"}, run_id)
    pauses: list[float] = []
    closed = close_orphans(settings, instance, database, clock_s=lambda: time.time() + 61, pause=pauses.append)
    assert (closed, pauses) == ([run_id], [15.0])


def test_an_older_run_that_takes_its_lock_between_the_looks_is_left_alone(
    settings: Settings, instance: DagsterInstance, database: Database
) -> None:
    run_id = make_new_run_id()
    _run(instance, process_tags(run_id) | {HOST_TAG: "another host"}, run_id)
    with ExitStack() as stack:
        closed = close_orphans(
            settings,
            instance,
            database,
            clock_s=lambda: time.time() + 61,
            pause=lambda _: stack.enter_context(hold_run_lock(database, run_id)),
        )
    assert closed == []


def test_inherited_tags_close_no_repetition(settings: Settings, instance: DagsterInstance, database: Database) -> None:
    repetition = _run(instance, _tags_of_a_dead_process(make_new_run_id()))
    assert close_orphans(settings, instance, database) == []
    with hold_run_lock(database, repetition, instance):
        run = instance.get_run_by_id(repetition)
    assert run is not None
    assert run.tags[LOCK_TAG] == repetition
    assert run.tags[PID_TAG] != str(os.getpid())


def test_a_young_run_of_a_living_process_is_left_alone(
    settings: Settings, instance: DagsterInstance, database: Database
) -> None:
    run_id = make_new_run_id()
    _run(instance, process_tags(run_id), run_id)
    assert close_orphans(settings, instance, database) == []
