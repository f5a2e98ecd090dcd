"""Checks over several series and over a dataset in real Dagster runs: how many results, how bad, what they show."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import asset_key, dataset_assets
from kline_pipeline.defs.checks import DATASET_CHECKS, candle_checks
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.symbols import sync_symbols
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import HOURLY, World, world

DAILY = Dataset("linear", Interval("D"), date(2024, 1, 1), "year", ("BTCUSDT",))
DECLARED = (HOURLY, DAILY)
JANUARY, FEBRUARY, MARCH = date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)
QUARTER = RangeRun(HOURLY, (JANUARY, FEBRUARY, MARCH), ("BTCUSDT", "ETHUSDT"))
YEAR = RangeRun(DAILY, (JANUARY,), ("BTCUSDT",))
ONE = RangeRun(HOURLY, (FEBRUARY,), ("BTCUSDT",))
HOUR = "2024-02-10T07:00:00Z"


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


@pytest.fixture
def symbols(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    for dataset in DECLARED:
        sync_symbols(instance, dataset)
    return instance


def run(
    sim: World, instance: dg.DagsterInstance, cells: RangeRun | None, *, dataset: Dataset = HOURLY, checks: bool = False
) -> dg.ExecuteInProcessResult:
    assets = dataset_assets(dataset)
    found = candle_checks(dataset, assets[1], DECLARED)
    return dg.materialize(
        [*assets, *found],
        instance=instance,
        resources={"pipeline": sim.pipeline},
        tags=cells.range_tags if cells else None,
        selection=dg.AssetSelection.checks(*found) if checks else None,
        raise_on_error=False,
    )


def records(instance: dg.DagsterInstance, check: str) -> list[tuple[str, str | None]]:
    """Return status and partition of every execution that the storage keeps of a check."""
    key = dg.AssetCheckKey(asset_key(HOURLY, "candles"), check)
    kept = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return [(one.status.value, one.partition) for one in kept]


def results(ran: dg.ExecuteInProcessResult, check: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    return {one.partition: one for one in ran.get_asset_check_evaluations() if one.check_name == check}


def shown(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in evaluation.metadata.items()}


def times(evaluation: dg.AssetCheckEvaluation) -> list[Any]:
    table = evaluation.metadata["offenders"]
    assert isinstance(table, dg.TableMetadataValue)
    return [record.data["open_time"] for record in table.records]


@pytest.mark.parametrize(
    ("cells", "checks"), [(QUARTER, False), (ONE, False), (QUARTER, True), (ONE, True), (None, True)]
)
def test_a_check_of_a_dataset_has_one_result_whatever_a_run_is_over_and_leaves_nothing_planned(
    sim: World, symbols: dg.DagsterInstance, cells: RangeRun | None, *, checks: bool
) -> None:
    if checks:
        sim.run(HOURLY, ("2024-02-01", "BTCUSDT"))
    ran = run(sim, symbols, cells, checks=checks)

    assert ran.success
    for name in DATASET_CHECKS:
        assert len(results(ran, name)) == 1
        ((status, partition),) = records(symbols, name)
        assert status in {"SUCCEEDED", "FAILED"}
        assert partition is None


def test_consistency_has_a_result_and_a_picture_per_partition(sim: World, symbols: dg.DagsterInstance) -> None:
    run(sim, symbols, QUARTER)
    found = results(run(sim, symbols, YEAR, dataset=DAILY), "consistent")
    again = results(run(sim, symbols, QUARTER, checks=True), "consistent")

    (year,) = found.values()
    assert year.passed
    assert shown(year)["added_up"] == 31 + 29 + 31
    assert shown(year)["not_compared"] == 10  # what there is of April; the year before and after has no joint
    assert len(again) == 6
    assert all(one.passed for one in again.values())
    assert shown(again["2024-02-01|BTCUSDT"])["added_up"] == 29
    assert shown(again["2024-02-01|ETHUSDT"])["added_up"] == 0
    picture = shown(again["2024-02-01|BTCUSDT"])["picture"]
    assert picture.startswith("![picture of consistent](data:image/svg+xml;base64,")
    assert len(picture) < 4000


def test_an_hour_that_differs_is_told_in_its_month_and_in_its_year(sim: World, symbols: dg.DagsterInstance) -> None:
    where = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOUR}
    sim.exchange.faults.replace([{"correct": {**where, "volume": "1"}}])
    run(sim, symbols, YEAR, dataset=DAILY)
    month = results(run(sim, symbols, ONE), "consistent")["2024-02-01|BTCUSDT"]
    year = results(run(sim, symbols, YEAR, dataset=DAILY, checks=True), "consistent")["2024-01-01|BTCUSDT"]

    # The close of the hour is another one too: a warning for the hour after it.
    told = {"month": times(month), "year": times(year)}
    assert told == {"month": ["2024-02-10T00:00:00Z", "2024-02-10T08:00:00Z"], "year": ["2024-02-10T00:00:00Z"]}
    assert [(one.passed, one.severity) for one in (month, year)] == [(False, dg.AssetCheckSeverity.ERROR)] * 2
    assert shown(month)["repair"] == "kline-pipeline repair linear:BTCUSDT:60 --from 2024-02-01 --to 2024-02-01"
    assert shown(year)["repair"] == "kline-pipeline repair linear:BTCUSDT:D --from 2024-01-01 --to 2024-01-01"


def test_a_gap_is_shown_as_a_strip_of_days(sim: World, symbols: dg.DagsterInstance) -> None:
    where = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOUR}
    sim.exchange.faults.replace([{"drop": where}])
    found = results(run(sim, symbols, QUARTER), "no_gaps")

    assert {key for key, one in found.items() if "picture" in one.metadata} == {"2024-02-01|BTCUSDT"}
    assert len(shown(found["2024-02-01|BTCUSDT"])["picture"]) < 1500


def test_what_cannot_be_compared_because_a_file_is_spoilt_fails_the_step(
    sim: World, symbols: dg.DagsterInstance
) -> None:
    run(sim, symbols, QUARTER)
    (path,) = sim.settings.home.glob("work/candles/linear/60/BTCUSDT/2024-03-01.parquet")
    path.write_bytes(path.read_bytes()[:-50])

    ran = run(sim, symbols, ONE, checks=True)

    assert not ran.success
    assert results(ran, "consistent") == {}


def test_what_is_too_old_is_a_warning_after_a_run_that_did_not_ask_for_the_newest(
    sim: World, symbols: dg.DagsterInstance
) -> None:
    (old,) = results(run(sim, symbols, QUARTER), "fresh").values()
    (asked,) = results(run(sim, symbols, None, checks=True), "fresh").values()

    assert [(one.passed, one.severity.value) for one in (old, asked)] == [(False, "WARN"), (False, "ERROR")]
