"""The states of checks come out as Dagster's own reckoning of the same storage, in every way that a result can be."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.storage.asset_check_state import AssetCheckState, bulk_update_asset_check_state
from dagster._core.test_utils import create_run_for_test

from kline_pipeline.defs import partition_results

DATES = dg.MonthlyPartitionsDefinition("2024-01-01", fmt="%Y-%m-%d", end_date="2024-04-01", timezone="UTC")
CELLS = dg.MultiPartitionsDefinition({"date": DATES, "symbol": dg.DynamicPartitionsDefinition(name="symbols")})
RANGE = {
    "dagster/asset_partition_range_start": "2024-01-01|A",
    "dagster/asset_partition_range_end": "2024-03-01|C",
}
CANDLES = dg.AssetKey("candles")
NO_GAPS, FRESH = dg.AssetCheckKey(CANDLES, "no_gaps"), dg.AssetCheckKey(CANDLES, "fresh")


@dg.asset(key=CANDLES, partitions_def=CELLS)
def candles() -> None:
    pass


@partition_results.partitioned_check(candles, "no_gaps", "No gaps")
def no_gaps(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
    def one(key: str) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=not key.endswith("B"))

    yield from partition_results.check_results(context, one, lambda: dg.AssetCheckResult(passed=True))


@dg.asset_check(asset=candles)
def fresh() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def told(state: AssetCheckState) -> dict[str, set[str]]:
    """The keys of each status and of each run that goes on, without those that have none."""
    named = {status.value: subset for status, subset in state.subsets.items()} | dict(state.in_progress_runs)
    found = {
        name: set(subset.subset_value.get_partition_keys())
        if subset.is_partitioned
        else {"all"}
        if subset.value
        else set()
        for name, subset in named.items()
    }
    return {name: keys for name, keys in found.items() if keys}


def states(
    instance: dg.DagsterInstance, keys: list[tuple[dg.AssetCheckKey, Any]]
) -> dict[dg.AssetCheckKey, dict[str, set[str]]]:
    """Our states, which must be Dagster's own."""
    ours = instance.event_log_storage.get_asset_check_state(keys)
    empty = {key: AssetCheckState.empty() for key, _ in keys}
    with partition_loading_context(dynamic_partitions_store=instance):
        theirs = bulk_update_asset_check_state(instance, keys, initial_states=empty)
    assert {key: told(state) for key, state in ours.items()} == {key: told(state) for key, state in theirs.items()}
    assert {key: state.latest_storage_id for key, state in ours.items()} == {
        key: state.latest_storage_id for key, state in theirs.items()
    }
    return {key: told(state) for key, state in ours.items()}


def plan(instance: dg.DagsterInstance, key: str, status: dg.DagsterRunStatus) -> str:
    """Record a run that has planned the check of a partition and has this status."""
    run_id: str = create_run_for_test(instance, status=status).run_id
    subset = CELLS.subset_with_partition_keys([key])
    planned = AssetCheckEvaluationPlanned(asset_key=CANDLES, check_name="no_gaps", partitions_subset=subset)
    event = DagsterEvent(DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, "job", event_specific_data=planned)
    instance.report_dagster_event(event, run_id)
    return run_id


@pytest.fixture
def checked(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    instance.add_dynamic_partitions("symbols", ["A", "B", "C"])
    assert dg.materialize([candles, no_gaps, fresh], instance=instance, tags=RANGE).success
    return instance


def test_passed_and_failed_partitions_and_a_check_without_partitions(checked: dg.DagsterInstance) -> None:
    found = states(checked, [(NO_GAPS, CELLS), (FRESH, None)])

    assert found[NO_GAPS] == {
        "SUCCEEDED": {f"2024-0{month}-01|{symbol}" for month in (1, 2, 3) for symbol in "AC"},
        "FAILED": {f"2024-0{month}-01|B" for month in (1, 2, 3)},
    }
    assert found[FRESH] == {"SUCCEEDED": {"all"}}


def test_a_new_materialization_makes_the_result_of_its_partition_outdated(checked: dg.DagsterInstance) -> None:
    before = states(checked, [(NO_GAPS, CELLS)])
    checked.report_runless_asset_event(dg.AssetMaterialization(CANDLES, partition="2024-02-01|B"))

    assert len(before[NO_GAPS]["FAILED"]) == 3
    assert states(checked, [(NO_GAPS, CELLS)])[NO_GAPS]["FAILED"] == {"2024-01-01|B", "2024-03-01|B"}


def test_a_removed_symbol_has_no_state(checked: dg.DagsterInstance) -> None:
    checked.delete_dynamic_partition("symbols", "B")

    assert "FAILED" not in states(checked, [(NO_GAPS, CELLS)])[NO_GAPS]


def test_what_is_planned_is_in_progress_until_its_run_ends(checked: dg.DagsterInstance) -> None:
    going = plan(checked, "2024-01-01|A", dg.DagsterRunStatus.STARTED)
    plan(checked, "2024-01-01|C", dg.DagsterRunStatus.FAILURE)
    plan(checked, "2024-02-01|A", dg.DagsterRunStatus.CANCELED)

    found = states(checked, [(NO_GAPS, CELLS)])[NO_GAPS]

    assert found["IN_PROGRESS"] == found[going] == {"2024-01-01|A"}
    assert found["EXECUTION_FAILED"] == {"2024-01-01|C"}
    assert found["SKIPPED"] == {"2024-02-01|A"}


def test_a_check_that_never_ran_has_no_state(instance: dg.DagsterInstance) -> None:
    assert states(instance, [(NO_GAPS, CELLS), (FRESH, None), (NO_GAPS, DATES)]) == {NO_GAPS: {}, FRESH: {}}


def test_queries_of_one_moment_share_a_state_until_the_next_event(checked: dg.DagsterInstance) -> None:
    def asked() -> AssetCheckState:
        return checked.event_log_storage.get_asset_check_state([(NO_GAPS, CELLS)])[NO_GAPS]

    first = asked()
    assert asked() is first
    checked.report_runless_asset_event(dg.AssetMaterialization(CANDLES, partition="2024-02-01|B"))
    assert told(asked()) != told(first)
