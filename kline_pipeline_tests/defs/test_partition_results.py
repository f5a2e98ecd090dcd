"""Results per partition as our PostgreSQL storage of Dagster keeps them: the matrix of dagster.md 1.3 and 8."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from kline_pipeline.defs import partition_results

PARTITIONS = dg.MultiPartitionsDefinition(
    {
        "date": dg.MonthlyPartitionsDefinition("2024-01-01", fmt="%Y-%m-%d", end_date="2024-04-01", timezone="UTC"),
        "symbol": dg.DynamicPartitionsDefinition(name="symbols"),
    }
)
JANUARY_A, FEBRUARY_A, JANUARY_B, FEBRUARY_B = "2024-01-01|A", "2024-02-01|A", "2024-01-01|B", "2024-02-01|B"
CELLS = (JANUARY_A, JANUARY_B, FEBRUARY_A, FEBRUARY_B)
RANGE = {"dagster/asset_partition_range_start": JANUARY_A, "dagster/asset_partition_range_end": FEBRUARY_B}
SOURCE, SINK = dg.AssetKey(["linear", "1", "source"]), dg.AssetKey(["linear", "1", "sink"])
NO_GAPS, AGREES = dg.AssetCheckKey(SOURCE, "no_gaps"), dg.AssetCheckKey(SINK, "agrees")


def _one(key: str) -> dict[str, str]:
    day, symbol = key.split("|")
    return {"dagster/partition": key, "dagster/partition/date": day, "dagster/partition/symbol": symbol}


@dataclass(frozen=True)
class Ran:
    """One run, and what the instance stored of it."""

    instance: dg.DagsterInstance
    run_id: str
    success: bool

    def results(self, check: dg.AssetCheckKey) -> dict[str | None, bool]:
        """Return the stored evaluations of a check; two of one partition are an error."""
        found: dict[str | None, bool] = {}
        for entry in self.instance.all_logs(self.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            evaluation = entry.get_dagster_event().asset_check_evaluation_data
            if evaluation.asset_check_key == check:
                assert evaluation.partition not in found
                found[evaluation.partition] = evaluation.passed
        return found

    def rows(self) -> dict[str | None, Any]:
        """Return the metadata `rows` of the stored materializations of the sink."""
        found = {}
        for entry in self.instance.all_logs(self.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            materialization = entry.asset_materialization
            if materialization is not None and materialization.asset_key == SINK:
                found[materialization.partition] = materialization.metadata["rows"].value
        return found

    def failure(self) -> str:
        """Return the sentence of the step that failed."""
        (entry,) = self.instance.all_logs(self.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        told = entry.get_dagster_event().step_failure_data.user_failure_data
        assert told is not None
        return str(told.description)


@dataclass
class Chain:
    """A source with a check, a sink with an inline one, and the cells that are bad or were never derived."""

    instance: dg.DagsterInstance
    bad: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def result(self, key: str) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=key not in self.bad, description="a hole" if key in self.bad else None)

    def run(self, *, partition: str | None = None, over: bool = False, check_only: bool = False) -> Ran:
        """Run everything, or the separate check alone: over one partition, the range, or none."""

        @dg.asset(key=SOURCE, partitions_def=PARTITIONS)
        def source() -> None:
            pass

        @partition_results.partitioned_check(source, "no_gaps", "No gaps")
        def no_gaps(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
            yield from partition_results.check_results(
                context,
                lambda key: None if key in self.absent else self.result(key),
                lambda: dg.AssetCheckResult(passed=not self.bad, metadata={"partitions": 4}),
            )

        spec = partition_results.inline_check(SINK, "agrees", "Agrees", PARTITIONS)

        @dg.asset(key=SINK, deps=[source], partitions_def=PARTITIONS, check_specs=[spec])
        def sink(context: dg.AssetExecutionContext) -> Iterator[Any]:
            landed = {
                key: partition_results.Landed(
                    result=self.result(key), good=key not in self.bad, metadata={"rows": CELLS.index(key)}
                )
                for key in partition_results.partition_keys(context)
            }
            yield from partition_results.landing_results(context, AGREES, landed)

        done = dg.materialize(
            [source, sink, no_gaps],
            instance=self.instance,
            tags=RANGE if over else _one(partition) if partition else None,
            selection=dg.AssetSelection.checks(NO_GAPS) if check_only else None,
            raise_on_error=False,
        )
        return Ran(self.instance, done.run_id, done.success)

    def status(self) -> dict[str, Any]:
        """Return the status that the partition page of the sink shows."""
        found = self.instance.get_status_by_partition(SINK, list(CELLS), PARTITIONS) or {}
        return {key: status.value if status else None for key, status in found.items()}

    def page(self, check: dg.AssetCheckKey) -> dict[str | None, tuple[str, bool]]:
        """Return what the page of a check shows: the status, and whether it is of the newest materialization."""
        infos = self.instance.event_log_storage.get_asset_check_partition_info([check])
        return {info.partition_key: (info.latest_execution_status.value, info.is_current) for info in infos}


@pytest.fixture
def chain(instance: dg.DagsterInstance) -> Chain:
    instance.add_dynamic_partitions("symbols", ["A", "B"])
    return Chain(instance)


def test_these_interfaces_were_measured_with_dagster_1_13_27() -> None:
    # A new release has to pass the matrix below; then, and only then, this name moves on.
    assert dg.__version__ == partition_results.RELEASE == "1.13.27"


def test_a_run_over_one_partition_stores_its_result(chain: Chain) -> None:
    ran = chain.run(partition=JANUARY_A)

    assert ran.success
    assert ran.results(NO_GAPS) == ran.results(AGREES) == {JANUARY_A: True}
    assert ran.rows() == {JANUARY_A: 0}
    assert chain.page(NO_GAPS) == chain.page(AGREES) == {JANUARY_A: ("SUCCEEDED", True)}


def test_a_run_over_a_range_stores_a_result_per_partition_and_nothing_stays_planned(chain: Chain) -> None:
    ran = chain.run(over=True)

    assert ran.success
    assert ran.results(NO_GAPS) == ran.results(AGREES) == dict.fromkeys(CELLS, True)
    assert ran.rows() == {key: CELLS.index(key) for key in CELLS}
    assert chain.page(NO_GAPS) == chain.page(AGREES) == dict.fromkeys(CELLS, ("SUCCEEDED", True))


def test_one_bad_cell_of_a_range_is_red_alone_and_the_others_are_materialized(chain: Chain) -> None:
    chain.bad = {FEBRUARY_A}
    ran = chain.run(over=True)

    expected = {key: key != FEBRUARY_A for key in CELLS}
    assert not ran.success
    assert ran.results(NO_GAPS) == ran.results(AGREES) == expected
    assert ran.rows() == {key: CELLS.index(key) for key in CELLS if key != FEBRUARY_A}
    assert chain.status() == {key: "MATERIALIZED" if good else "FAILED" for key, good in expected.items()}
    assert chain.page(AGREES) == {key: ("SUCCEEDED" if good else "FAILED", True) for key, good in expected.items()}
    assert ran.failure() == f"1 of 4 partitions did not land: {FEBRUARY_A}: a hole"


def test_a_cell_that_was_materialized_before_and_is_bad_now_is_failed(chain: Chain) -> None:
    chain.run(over=True)
    chain.bad = {JANUARY_B}
    chain.run(over=True)

    assert chain.status() == {key: "FAILED" if key == JANUARY_B else "MATERIALIZED" for key in CELLS}
    assert {key for key, (status, _) in chain.page(AGREES).items() if status == "FAILED"} == {JANUARY_B}

    chain.bad = set()
    assert chain.run(partition=JANUARY_B).success
    assert chain.status() == dict.fromkeys(CELLS, "MATERIALIZED")
    assert {status for status, _ in chain.page(AGREES).values()} == {"SUCCEEDED"}


def test_a_single_bad_partition_fails_its_run(chain: Chain) -> None:
    chain.bad = {FEBRUARY_B}
    ran = chain.run(partition=FEBRUARY_B)

    assert not ran.success
    assert ran.results(NO_GAPS) == ran.results(AGREES) == {FEBRUARY_B: False}
    assert chain.status()[FEBRUARY_B] == "FAILED"


def test_a_failed_landing_is_not_retried(chain: Chain) -> None:
    chain.bad = {JANUARY_A}
    ran = chain.run(partition=JANUARY_A)

    assert not list(chain.instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY))


def test_a_check_only_run_over_one_partition_stores_its_result(chain: Chain) -> None:
    chain.run(over=True)
    ran = chain.run(partition=FEBRUARY_A, check_only=True)

    assert ran.success
    assert ran.results(NO_GAPS) == {FEBRUARY_A: True}
    assert chain.page(NO_GAPS)[FEBRUARY_A] == ("SUCCEEDED", True)


def test_a_check_only_run_over_a_range_points_to_the_runs_that_materialized(chain: Chain) -> None:
    chain.run(over=True)
    chain.run(partition=JANUARY_A)
    ran = chain.run(over=True, check_only=True)

    assert ran.success
    assert ran.results(NO_GAPS) == dict.fromkeys(CELLS, True)
    assert chain.page(NO_GAPS) == dict.fromkeys(CELLS, ("SUCCEEDED", True))


def test_a_check_only_run_over_no_partition_has_one_result_over_all_that_is_stored(chain: Chain) -> None:
    chain.run(over=True)
    ran = chain.run(check_only=True)

    assert ran.success
    assert ran.results(NO_GAPS) == {None: True}
    assert chain.page(NO_GAPS)[JANUARY_A] == ("SUCCEEDED", True)


def test_a_partition_that_was_never_derived_has_no_result_and_does_not_fail_the_run(chain: Chain) -> None:
    chain.absent = {JANUARY_B}
    ran = chain.run(over=True, check_only=True)

    assert ran.success
    assert ran.results(NO_GAPS) == {key: True for key in CELLS if key != JANUARY_B}


def test_an_asset_over_no_partition_is_refused_by_dagster_itself(chain: Chain) -> None:
    ran = chain.run()

    assert not ran.success
    assert ran.results(AGREES) == {}
    assert ran.results(NO_GAPS) == {None: True}
