"""The assets and checks of a dataset in real Dagster runs, over a simulated exchange and a real PostgreSQL."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import PROGRESS_MARK, asset_key, dataset_assets, partitions_def
from kline_pipeline.defs.checks import candle_checks
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.symbols import sync_symbols
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import HOURLY, World, world

JANUARY, FEBRUARY, MARCH = date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)
HOLE = "2024-02-10T07:00:00Z"
BAD = "2024-02-01|BTCUSDT"
STEPS = ("raw_batches", "candles", "candles_postgres", "candles_parquet")
CHECKS = (
    ("candles", "no_gaps"),
    ("candles", "no_duplicates"),
    ("candles", "well_formed"),
    ("candles", "consistent"),
    ("candles_postgres", "postgres_agrees"),
    ("candles_parquet", "parquet_agrees"),
)
QUARTER = RangeRun(HOURLY, (JANUARY, FEBRUARY, MARCH), ("BTCUSDT", "ETHUSDT"))
KEYS = [f"{cell.date}|{cell.symbol}" for cell in QUARTER.cells]


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        sync_symbols(made, HOURLY)
        yield made


def run(
    sim: World,
    instance: dg.DagsterInstance,
    cells: RangeRun | None = QUARTER,
    selection: dg.AssetSelection | None = None,
    dataset: Dataset = HOURLY,
) -> dg.ExecuteInProcessResult:
    assets = dataset_assets(dataset)
    return dg.materialize(
        [*assets, *candle_checks(dataset, assets[1], [dataset])],
        instance=instance,
        resources={"pipeline": sim.pipeline},
        tags=cells.range_tags if cells else None,
        selection=selection,
        raise_on_error=False,
    )


def results(ran: dg.ExecuteInProcessResult, asset: str, check: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    found = [one for one in ran.get_asset_check_evaluations() if one.check_name == check]
    assert {one.asset_key for one in found} <= {asset_key(HOURLY, asset)}
    assert len(found) == len({one.partition for one in found})
    return {one.partition: one for one in found}


def metadata(instance: dg.DagsterInstance, asset: str, key: str) -> dict[str, Any]:
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key(HOURLY, asset), asset_partitions=[key]), limit=1
    ).records
    materialization = found[0].asset_materialization
    assert materialization is not None
    return {name: value.value for name, value in materialization.metadata.items()}


def status(instance: dg.DagsterInstance, asset: str) -> dict[str, str | None]:
    found = instance.get_status_by_partition(asset_key(HOURLY, asset), KEYS, partitions_def(HOURLY)) or {}
    return {key: one.value if one else None for key, one in found.items()}


def drop(sim: World) -> None:
    where = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE}
    sim.exchange.faults.add([{"drop": where}])


def test_one_run_over_a_range_materializes_and_judges_every_partition(sim: World, instance: dg.DagsterInstance) -> None:
    ran = run(sim, instance)

    assert ran.success
    for step in STEPS:
        assert status(instance, step) == dict.fromkeys(KEYS, "MATERIALIZED")
    for asset, check in CHECKS:
        assert {key: one.passed for key, one in results(ran, asset, check).items()} == dict.fromkeys(KEYS, True)
    assert len(sim.table("linear:BTCUSDT:60")) == (31 + 29 + 31) * 24


def test_every_partition_has_metadata_of_its_own(sim: World, instance: dg.DagsterInstance) -> None:
    run(sim, instance)

    candles = metadata(instance, "candles", BAD)
    assert (candles["rows"], candles["expected"], candles["missing"]) == (29 * 24, 29 * 24, 0)
    assert (candles["first"], candles["last"]) == ("2024-02-01T00:00:00Z", "2024-02-29T23:00:00Z")
    assert (candles["not_listed"], candles["quarantined"], candles["dropped"]) == (False, False, 0)
    assert metadata(instance, "candles_postgres", BAD)["written"] == 29 * 24
    assert metadata(instance, "candles_parquet", BAD)["bytes"] > 0
    raw = [metadata(instance, "raw_batches", key) for key in KEYS]
    assert sum(one["requests"] for one in raw) == 6  # three full pages for each of two spans
    assert sum(one["rows"] for one in raw) == 2 * (31 + 29 + 31) * 24


def test_a_second_run_fetches_and_writes_nothing(sim: World, instance: dg.DagsterInstance) -> None:
    run(sim, instance)
    before = sim.pages("60")

    assert run(sim, instance).success
    assert sim.pages("60") == before
    assert metadata(instance, "raw_batches", BAD)["held"] is True
    assert metadata(instance, "candles_postgres", BAD)["written"] == 0


def test_a_hole_fails_exactly_its_cell_of_both_sinks_and_is_named(sim: World, instance: dg.DagsterInstance) -> None:
    drop(sim)
    ran = run(sim, instance)

    assert not ran.success
    for step in STEPS[:2]:
        assert status(instance, step) == dict.fromkeys(KEYS, "MATERIALIZED")
    for step in STEPS[2:]:
        assert status(instance, step) == {key: "FAILED" if key == BAD else "MATERIALIZED" for key in KEYS}
    red = {check: [key for key, one in results(ran, asset, check).items() if not one.passed] for asset, check in CHECKS}
    assert red == {
        "no_gaps": [BAD], "no_duplicates": [], "well_formed": [], "consistent": [],
        "postgres_agrees": [BAD], "parquet_agrees": [BAD],
    }  # fmt: skip
    assert metadata(instance, "candles", BAD)["quarantined"] is True

    hole = results(ran, "candles", "no_gaps")[BAD]
    assert hole.severity is dg.AssetCheckSeverity.ERROR
    table = hole.metadata["offenders"]
    assert isinstance(table, dg.TableMetadataValue)
    assert table.records[0].data["open_time"] == HOLE
    assert hole.metadata["offending"].value == 1
    assert hole.metadata["window"].value == "2024-02-01T00:00:00Z to 2024-03-01T00:00:00Z"
    assert str(hole.metadata["repair"].value).startswith("kline-pipeline repair linear:BTCUSDT:60 --from 2024-02-01")


def test_when_the_hole_is_filled_the_same_run_ends_green(sim: World, instance: dg.DagsterInstance) -> None:
    drop(sim)
    run(sim, instance)
    sim.exchange.faults.clear()

    assert run(sim, instance).success
    for step in STEPS:
        assert status(instance, step) == dict.fromkeys(KEYS, "MATERIALIZED")


def test_a_check_only_run_over_nothing_has_one_result_over_all_that_is_stored(
    sim: World, instance: dg.DagsterInstance
) -> None:
    drop(sim)
    run(sim, instance)
    only = dg.AssetSelection.checks(dg.AssetCheckKey(asset_key(HOURLY, "candles"), "no_gaps"))
    ran = run(sim, instance, None, only)

    assert ran.success
    stored = results(ran, "candles", "no_gaps")
    assert list(stored) == [None]
    assert not stored[None].passed
    assert (stored[None].metadata["partitions"].value, stored[None].metadata["failed"].value) == (6, 1)


def test_a_check_only_run_says_what_was_never_derived_instead_of_failing(
    sim: World, instance: dg.DagsterInstance
) -> None:
    run(sim, instance, RangeRun(HOURLY, (JANUARY,), ("BTCUSDT", "ETHUSDT")))
    only = dg.AssetSelection.checks(dg.AssetCheckKey(asset_key(HOURLY, "candles"), "no_gaps"))
    ran = run(sim, instance, QUARTER, only)

    assert ran.success
    assert set(results(ran, "candles", "no_gaps")) == {"2024-01-01|BTCUSDT", "2024-01-01|ETHUSDT"}


def test_an_unknown_symbol_fails_its_own_cells_only(sim: World, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("symbols_linear_60", ["NOSUCHUSDT"])
    ran = run(sim, instance, RangeRun(HOURLY, (JANUARY,), ("BTCUSDT", "ETHUSDT", "NOSUCHUSDT")))

    assert not ran.success
    assert metadata(instance, "raw_batches", "2024-01-01|NOSUCHUSDT")["fetch_error"]
    assert metadata(instance, "candles", "2024-01-01|NOSUCHUSDT")["quarantined"] is True
    assert len(sim.table("linear:BTCUSDT:60")) == len(sim.table("linear:ETHUSDT:60")) == 31 * 24
    agrees = results(ran, "candles_postgres", "postgres_agrees")
    assert {key for key, one in agrees.items() if not one.passed} == {"2024-01-01|NOSUCHUSDT"}


def test_an_exchange_that_is_down_is_asked_again(sim: World, instance: dg.DagsterInstance) -> None:
    assets = dataset_assets(HOURLY)
    sim.exchange.faults.add([{"http": {"status": 503}}])
    with pytest.raises(dg.RetryRequested):
        assets[0](dg.build_asset_context(partition_key="2024-01-01|BTCUSDT", instance=instance), pipeline=sim.pipeline)


def test_what_no_retry_mends_fails_the_step_with_its_sentence(sim: World, instance: dg.DagsterInstance) -> None:
    run(sim, instance, RangeRun(HOURLY, (JANUARY,), ("BTCUSDT",)))
    other = Dataset("linear", HOURLY.interval, date(2024, 1, 1), "year", ("BTCUSDT",))
    ran = run(sim, instance, RangeRun(other, (JANUARY,), ("BTCUSDT",)), dataset=other)

    (failed,) = [event for event in ran.all_events if event.is_step_failure]
    assert failed.step_key == "linear__60__raw_batches"
    assert "grain" in str(failed.step_failure_data.user_failure_data)
    assert not [event for event in ran.all_events if event.is_step_up_for_retry]


def test_every_partition_and_step_logs_one_line_of_progress(sim: World, instance: dg.DagsterInstance) -> None:
    ran = run(sim, instance)

    lines = [entry.user_message for entry in instance.all_logs(ran.run_id)]
    told = [line.split(" ", 3) for line in lines if line.startswith(f"{PROGRESS_MARK} ")]
    assert sorted((asset, key) for _, asset, key, _ in told) == sorted((step, key) for step in STEPS for key in KEYS)
    assert all(isinstance(json.loads(facts), dict) for *_, facts in told)


def test_the_dates_reach_from_the_start_up_to_and_including_the_open_one() -> None:
    dates = partitions_def(HOURLY).time_window_partitions_def.get_partition_keys
    yearly = Dataset("linear", Interval("D"), date(2020, 1, 1), "year", ("BTCUSDT",))
    at = datetime(2024, 4, 10, 12, 34, 56, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral():
        assert dates(current_time=at) == [f"2024-0{month}-01" for month in (1, 2, 3, 4)]
        years = partitions_def(yearly).time_window_partitions_def.get_partition_keys(current_time=at)
    assert years == [f"{year}-01-01" for year in range(2020, 2025)]


def test_a_dataset_without_a_sink_has_no_asset_of_it() -> None:
    only = Dataset("spot", Interval("15"), date(2024, 1, 1), "month", ("BTCUSDT",), sinks=("parquet",))
    assert [asset.key.path for asset in dataset_assets(only)] == [
        ["spot", "15", "raw_batches"], ["spot", "15", "candles"], ["spot", "15", "candles_parquet"],
    ]  # fmt: skip
    assert {group for asset in dataset_assets(only) for group in asset.group_names_by_key.values()} == {"spot_15"}


@pytest.mark.parametrize(("interval", "grain", "most"), [("1", "month", 47), ("60", "month", 250), ("1", "year", 3)])
def test_a_backfill_is_cut_into_runs_of_about_two_million_candles(interval: str, grain: str, most: int) -> None:
    dataset = Dataset("linear", Interval(interval), date(2024, 1, 1), grain, ("BTCUSDT",))
    for asset in dataset_assets(dataset):
        assert asset.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=most)
