"""What Dagster runs by the clock: which runs a tick asks for, what holds it back, and that they can be executed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from kline_pipeline.dataset_automation import Schedule
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.definitions import definitions_of
from kline_pipeline.defs.automation.jobs import repair_job_name, update_job_name
from kline_pipeline.defs.automation.schedules import daily_cron, schedules
from kline_pipeline.defs.location import LOCATION_NAME
from kline_pipeline.defs.ranges import rectangles
from kline_pipeline.defs.symbols import known_symbols
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import HOURLY

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
OFTEN = replace(HOURLY, symbols=SYMBOLS, schedule=Schedule(daily=True, every_minutes=15))
NIGHT = datetime(2024, 4, 10, 0, 20, tzinfo=UTC)
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def tick(instance: DagsterInstance, name: str, at: datetime, dataset: Dataset = OFTEN) -> Any:
    """Return what a schedule wants at a time."""
    repository = definitions_of([dataset]).get_repository_def()
    context = dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository)
    return repository.get_schedule_def(name).evaluate_tick(context)


def ranges(requests: Sequence[dg.RunRequest]) -> list[tuple[str, ...]]:
    return [tuple(one.tags[tag] for tag in RANGE) for one in requests]


def launched(instance: DagsterInstance, job_name: str, by: str, status: DagsterRunStatus) -> dg.DagsterRun:
    """Record a run of a schedule, as the daemon does."""
    job = definitions_of([OFTEN]).resolve_job_def(job_name)
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION_NAME), "__repository__")
    pointer = CodePointer.from_module("kline_pipeline.definitions", "defs", None)
    return instance.create_run_for_job(
        job,
        tags={"dagster/schedule_name": by},
        status=status,
        remote_job_origin=RemoteJobOrigin(location, job_name),
        job_code_origin=ReconstructableRepository(pointer).get_reconstructable_job(job_name).get_python_origin(),
    )


def test_every_dataset_has_a_daily_schedule_after_midnight_utc_unless_it_says_no() -> None:
    never = replace(HOURLY, schedule=Schedule(daily=False))
    found = schedules([OFTEN, never])
    assert [(one.name, one.execution_timezone) for one in found] == [
        ("daily_linear_60", "UTC"),
        ("frequent_linear_60", "UTC"),
    ]
    assert {one.default_status for one in found} == {dg.DefaultScheduleStatus.RUNNING}
    assert found[1].cron_schedule == "1-59/15 * * * *"
    assert schedules([never]) == []


def test_datasets_do_not_come_at_once_and_each_at_its_own_minute_for_ever() -> None:
    crons = {daily_cron(replace(HOURLY, category=c, interval=Interval(i))) for c in ("linear", "spot") for i in "135D"}
    minutes = {int(cron.split()[0]) for cron in crons}
    assert len(minutes) > 4
    assert min(minutes) >= 5
    assert max(minutes) <= 45
    assert daily_cron(HOURLY) == "30 0 * * *"


def test_a_tick_takes_the_open_date_and_the_one_before_of_every_symbol_in_one_run(instance: DagsterInstance) -> None:
    (request,) = tick(instance, "daily_linear_60", NIGHT).run_requests
    assert ranges([request]) == [("2024-03-01|BTCUSDT", "2024-04-01|SOLUSDT")]
    assert request.run_key == "linear_60 2024-04-10T00:20Z 2024-03-01|BTCUSDT 2024-04-01|SOLUSDT"
    assert known_symbols(instance, OFTEN) == list(SYMBOLS)


def test_a_tick_has_no_more_partitions_in_a_run_than_the_setting_says(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLINE_RUN_PARTITIONS", "3")
    requests = tick(instance, "daily_linear_60", NIGHT).run_requests
    assert ranges(requests) == [(f"2024-03-01|{symbol}", f"2024-04-01|{symbol}") for symbol in SYMBOLS]
    assert len({one.run_key for one in requests}) == 3


def test_a_frequent_tick_takes_the_open_date_and_in_its_first_minutes_the_one_before_too(
    instance: DagsterInstance,
) -> None:
    at = datetime(2024, 4, 10, 12, 1, tzinfo=UTC)
    assert ranges(tick(instance, "frequent_linear_60", at).run_requests) == [
        ("2024-04-01|BTCUSDT", "2024-04-01|SOLUSDT")
    ]
    border = datetime(2024, 4, 1, 0, 1, tzinfo=UTC)
    assert ranges(tick(instance, "frequent_linear_60", border).run_requests) == [
        ("2024-03-01|BTCUSDT", "2024-04-01|SOLUSDT")
    ]


def test_a_frequent_tick_asks_for_nothing_before_another_candle_has_closed(instance: DagsterInstance) -> None:
    run = launched(instance, update_job_name(OFTEN), "frequent_linear_60", DagsterRunStatus.STARTED)
    instance.report_run_failed(run)
    created = datetime.now(tz=UTC)
    held = tick(instance, "frequent_linear_60", created.replace(year=created.year - 1))
    assert held.run_requests == []
    assert "no candle of linear_60 has closed since the last run" in held.skip_message
    assert tick(instance, "frequent_linear_60", created.replace(year=created.year + 1)).run_requests


def test_the_last_candle_of_a_year_of_weeks_is_taken_when_it_closes_in_the_next_year(
    instance: DagsterInstance,
) -> None:
    weekly = Dataset(
        "linear", Interval("W"), date(2023, 1, 1), "year", ("BTCUSDT",), schedule=Schedule(every_minutes=60)
    )
    closes = datetime(2025, 1, 6, 0, 1, tzinfo=UTC)  # the candle of 2024-12-30
    next_one = datetime(2025, 1, 13, 0, 1, tzinfo=UTC)
    (request,) = tick(instance, "frequent_linear_W", closes, weekly).run_requests
    assert ranges([request]) == [("2024-01-01|BTCUSDT", "2025-01-01|BTCUSDT")]
    (request,) = tick(instance, "frequent_linear_W", next_one, weekly).run_requests
    assert request.tags["dagster/partition"] == "2025-01-01|BTCUSDT"


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.STARTED])
def test_a_tick_waits_while_runs_of_the_one_before_are_on(instance: DagsterInstance, status: DagsterRunStatus) -> None:
    now = datetime.now(tz=UTC)
    run = launched(instance, update_job_name(OFTEN), "frequent_linear_60", status)
    held = tick(instance, "frequent_linear_60", now)
    assert held.run_requests == []
    assert "1 runs of frequent_linear_60 are not done yet" in held.skip_message
    assert tick(instance, "daily_linear_60", now).run_requests
    instance.report_run_failed(run)
    assert tick(instance, "frequent_linear_60", now + timedelta(hours=2)).run_requests


def test_a_run_that_hangs_for_more_than_a_day_does_not_hold_back_every_tick_to_come(
    instance: DagsterInstance,
) -> None:
    launched(instance, update_job_name(OFTEN), "daily_linear_60", DagsterRunStatus.STARTED)
    tomorrow = datetime.now(tz=UTC) + timedelta(hours=25)
    assert tick(instance, "daily_linear_60", tomorrow).run_requests


def test_a_dataset_without_symbols_is_skipped_with_what_to_do(instance: DagsterInstance) -> None:
    told = tick(instance, "daily_linear_60", NIGHT, replace(OFTEN, symbols=())).skip_message
    assert "series add" in told


def test_few_rectangles_hold_exactly_the_cells() -> None:
    days = [date(2024, month, 1) for month in range(1, 7)]
    block = [Cell(day, symbol) for day in days[:4] for symbol in ("A", "B")]
    found = rectangles([*block, *block, Cell(days[5], "C")])
    assert found == [(tuple(days[:4]), ("A", "B")), ((days[5],), ("C",))]
    assert rectangles([]) == []
    ragged = [Cell(days[0], "A"), Cell(days[0], "B"), Cell(days[0], "C"), Cell(days[1], "B"), Cell(days[1], "C")]
    assert rectangles(ragged) == [((days[0],), ("A",)), ((days[0], days[1]), ("B", "C"))]


@pytest.mark.parametrize("name", [update_job_name(OFTEN), repair_job_name(OFTEN)])
def test_a_job_of_a_dataset_runs_its_four_assets_and_all_their_checks(name: str) -> None:
    definitions = definitions_of([OFTEN])
    layer = definitions.resolve_job_def(name).asset_layer
    graph = definitions.resolve_asset_graph()
    assert set(layer.executable_asset_keys) == set(graph.get_all_asset_keys())
    assert set(layer.asset_graph.asset_check_keys) == set(graph.asset_check_keys)


def test_the_tags_of_one_partition_say_no_dimension() -> None:
    # The backfill of a job puts the tags of its first partition on a run over a range, and Dagster 1.13.27 then
    # takes the dimensions for all of the run.
    job = definitions_of([OFTEN]).resolve_job_def(repair_job_name(OFTEN))
    tags = job.get_tags_for_partition_key("2024-04-01|BTCUSDT", selected_asset_keys=None)
    assert not [tag for tag in tags if tag.startswith("dagster/partition/")]
