"""What pruning deletes of Dagster's memory and what it leaves, over runs of a small asset; pages: test_pages_kept."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._core.test_utils import create_run_for_test
from sqlalchemy import text

from kline_pipeline.database.engine import Database
from kline_pipeline.defs import partition_results
from kline_pipeline.defs.instance.pruning import Pruned, prune
from kline_pipeline.errors import StorageError

PARTITIONS = dg.StaticPartitionsDefinition(["A", "B", "C"])
KEY = dg.AssetKey("candles")
HOUR_S, DAY_S = 3600.0, 86_400.0
KEEP_DAYS = 30


@dataclass
class History:
    """Runs of an asset with a check, and the pruning of what they left, seen from a later time."""

    instance: dg.DagsterInstance
    database: Database
    bad: set[str] = field(default_factory=set)

    def run(self, first: str, last: str) -> str:
        """Materialize a range, failing if one of it is bad, and return the id of the run."""

        @dg.asset(key=KEY, partitions_def=PARTITIONS)
        def candles(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            context.log.info("a line of the log")
            if self.bad & set(context.partition_keys):
                raise dg.Failure("bad", allow_retries=False)
            return dg.MaterializeResult()

        @partition_results.partitioned_check(candles, "no_gaps", "No gaps")
        def no_gaps(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
            yield from partition_results.check_results(
                context, lambda key: dg.AssetCheckResult(passed=True), lambda: dg.AssetCheckResult(passed=True)
            )

        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return dg.materialize([candles, no_gaps], instance=self.instance, tags=tags, raise_on_error=False).run_id

    def prune(self, after_s: float) -> Pruned:
        """Prune as if so much time had passed."""
        return prune(self.database, now_ms=round((time.time() + after_s) * 1000), keep_days=KEEP_DAYS)

    def runs(self) -> list[str]:
        return [run.run_id for run in reversed(self.instance.get_runs())]

    def events(self, run_id: str, kind: dg.DagsterEventType) -> list[str]:
        """Return the partitions of the stored events of a type of a run."""
        entries = self.instance.all_logs(run_id, of_type=kind)
        return sorted(entry.get_dagster_event().partition or "" for entry in entries)

    def count(self, statement: str, **values: Any) -> int:
        with self.database.engine.connect() as connection:
            return int(connection.execute(text(f"select count(*) from dagster.{statement}"), values).scalar_one())

    def lines(self, run_id: str) -> int:
        return self.count("event_logs where run_id = :run and dagster_event_type is null", run=run_id)


@pytest.fixture
def history(instance: dg.DagsterInstance, database: Database) -> History:
    return History(instance, database)


def test_the_tables_were_read_with_dagster_1_13_27() -> None:
    # A new release may show other events on its pages: read its queries again, then let this name move on.
    assert dg.__version__ == partition_results.RELEASE == "1.13.27"


def test_what_is_young_stays(history: History) -> None:
    history.run("A", "C")
    history.run("A", "C")
    report = history.prune(35 * HOUR_S)
    assert (report.rows, report.freed_bytes, report.run_ids) == ({}, 0, [])


def test_events_and_results_that_newer_ones_replaced_go_after_36_hours(history: History) -> None:
    old, new = history.run("A", "C"), history.run("A", "B")
    report = history.prune(37 * HOUR_S)

    for kind in (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED):
        assert history.events(old, kind) == ["C"]
        assert history.events(new, kind) == ["A", "B"]
    executions = history.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "no_gaps"), limit=9
    )
    assert {(one.partition, one.run_id) for one in executions} == {("A", new), ("B", new), ("C", old)}
    evaluations = history.instance.all_logs(old, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    assert [one.get_dagster_event().asset_check_evaluation_data.partition for one in evaluations] == ["C"]
    assert history.count("asset_event_tags where event_id not in (select id from dagster.event_logs)") == 0
    assert report.rows["asset_check_executions"] == 2
    assert report.freed_bytes > 0
    assert history.runs() == [old, new]


def test_pruning_again_deletes_nothing(history: History) -> None:
    for _ in range(3):
        history.run("A", "C")
    assert history.prune(40 * DAY_S).rows
    assert history.prune(40 * DAY_S).rows == {}


def test_the_space_of_what_was_deleted_is_used_again(history: History) -> None:
    empty = history.prune(0).bytes_after
    for _ in range(6):
        history.run("A", "C")
    full = history.prune(40 * DAY_S).bytes_after
    for _ in range(3):
        history.run("A", "C")
    assert history.prune(0).bytes_after - full <= (full - empty) / 10


def test_lines_of_the_log_go_after_seven_days_and_the_story_of_the_run_stays(history: History) -> None:
    run_id = history.run("A", "C")
    history.prune(6 * DAY_S)
    assert history.lines(run_id) == 1
    history.prune(8 * DAY_S)
    assert history.lines(run_id) == 0
    assert history.instance.get_run_stats(run_id).end_time
    assert {step.step_key for step in history.instance.get_run_step_stats(run_id)} == {"candles", "candles_no_gaps"}


def test_a_run_goes_when_nothing_of_it_is_shown_any_more(history: History) -> None:
    replaced, half, new = history.run("A", "C"), history.run("A", "C"), history.run("A", "B")
    assert history.prune(29 * DAY_S).run_ids == []
    report = history.prune(31 * DAY_S)
    assert report.run_ids == [replaced]
    assert history.runs() == [half, new]
    assert history.count("event_logs where run_id = :run", run=replaced) == 0
    assert history.count("run_tags where run_id = :run", run=replaced) == 0


def test_a_failed_run_stays_as_long_as_a_partition_is_failed_by_it(history: History) -> None:
    history.run("A", "C")
    history.bad = {"B"}
    failed = history.run("B", "B")
    history.prune(40 * DAY_S)
    assert status(history, ["A", "B", "C"]) == ["MATERIALIZED", "FAILED", "MATERIALIZED"]
    assert history.events(failed, dg.DagsterEventType.STEP_FAILURE) == [""]

    history.bad = set()
    history.run("B", "B")
    assert history.prune(40 * DAY_S).run_ids == [failed]
    assert status(history, ["A", "B", "C"]) == ["MATERIALIZED"] * 3


def test_a_check_that_came_to_no_result_leaves_the_result_before_it(history: History) -> None:
    good = history.run("B", "B")
    history.bad = {"B"}
    broken = history.run("B", "B")
    history.prune(40 * DAY_S)
    executions = history.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "no_gaps"), limit=9
    )
    assert [(one.run_id, one.status.value) for one in executions] == [(broken, "PLANNED"), (good, "SUCCEEDED")]


@pytest.mark.parametrize("state", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
def test_a_run_that_is_not_finished_is_not_touched(history: History, state: dg.DagsterRunStatus) -> None:
    # Another run has replaced all that it wrote; should it be executed again, Dagster expects its rows.
    run_id = history.run("A", "C")
    with history.database.engine.begin() as connection:
        connection.execute(text("update dagster.runs set status = :status"), {"status": state.value})
    before = history.count("event_logs where run_id = :run", run=run_id)
    executions = history.count("asset_check_executions where run_id = :run", run=run_id)
    history.run("A", "C")
    history.prune(400 * DAY_S)
    assert history.count("event_logs where run_id = :run", run=run_id) == before
    assert history.count("asset_check_executions where run_id = :run", run=run_id) == executions
    assert run_id in history.runs()


def test_a_run_that_another_one_repeats_goes_with_it(history: History) -> None:
    ends = dg.DagsterRunStatus.FAILURE
    first = create_run_for_test(history.instance, status=ends).run_id
    tags = {"dagster/parent_run_id": first, "dagster/root_run_id": first}
    second = create_run_for_test(history.instance, status=ends, tags=tags).run_id
    running = create_run_for_test(history.instance, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id

    assert history.prune(40 * DAY_S).run_ids == [second]
    history.instance.delete_run(running)
    assert history.prune(40 * DAY_S).run_ids == [first]


def test_a_chain_of_repetitions_goes_at_once(history: History) -> None:
    ends = dg.DagsterRunStatus.FAILURE
    first = create_run_for_test(history.instance, status=ends).run_id
    second = create_run_for_test(history.instance, status=ends, tags={"dagster/parent_run_id": first}).run_id
    assert history.prune(40 * DAY_S).run_ids == [second, first]


def test_of_a_sensor_the_newest_tick_stays(history: History) -> None:
    for origin, days in (("a", (50, 45, 40)), ("b", (40, 1, 0))):
        for day in days:
            history.instance.create_tick(_tick(origin, time.time() - day * DAY_S))
    report = history.prune(0)
    assert report.rows == {"job_ticks": 3}
    assert [_days_ago(history, origin) for origin in ("a", "b")] == [[40], [0, 1]]


def test_a_database_that_dagster_never_used_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("drop schema dagster cascade"))

    with pytest.raises(StorageError, match="asset_check_executions"):
        prune(database, now_ms=0, keep_days=KEEP_DAYS)


def status(history: History, keys: Sequence[str]) -> list[str | None]:
    """Return what the partitions page shows, computed anew."""
    history.instance.wipe_asset_cached_status([KEY])
    found = history.instance.get_status_by_partition(KEY, keys, PARTITIONS) or {}
    return [one.value if (one := found[key]) else None for key in keys]


def _tick(origin: str, at_s: float) -> TickData:
    return TickData(
        instigator_origin_id=origin,
        instigator_name=origin,
        instigator_type=InstigatorType.SENSOR,
        status=TickStatus.SKIPPED,
        timestamp=at_s,
        selector_id=origin,
    )


def _days_ago(history: History, origin: str) -> list[int]:
    ticks = history.instance.get_ticks(origin, origin)
    return [round((time.time() - tick.timestamp) / DAY_S) for tick in ticks]
