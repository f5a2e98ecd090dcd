"""A data engineer's day in Dagster's UI: a symbol, a year of three symbols, a gap, its minute, repair, green.

One story told in order: each test goes on where the one before it stopped.
"""

import json
from collections.abc import Iterator

import pytest

from kline_pipeline_tests.browser.conftest import World, world_after
from kline_pipeline_tests.programs import run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

YEAR = "[2024-01-01...2024-12-01]"
HOLE = {"category": "linear", "symbol": "ETHUSDT", "interval": "60", "open_time": "2024-05-17T09:00:00Z"}
CELL = ("2024-05-01", "ETHUSDT")
GROUP = "/locations/kline_pipeline/asset-groups/linear_60"
JOB = "/locations/kline_pipeline/jobs/repair_linear_60"
SINKS = ("candles_postgres", "candles_parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An `up` over one month of one symbol, and an exchange that lacks a candle of another."""
    arguments = ("backfill", "linear:BTCUSDT:60", "--from", "2024-01-01", "--to", "2024-01-31", "--json")
    with world_after(tmp_path_factory.mktemp("live"), arguments) as made:
        made.set_faults({"drop": HOLE})
        yield made


def test_a_symbol_added_in_the_dialog_is_backfilled_with_the_others(world: World) -> None:
    world.ui.open_dialog(GROUP)
    world.ui.add_symbol("SOLUSDT")
    world.ui.open_dialog(GROUP)
    world.ui.choose_dates(YEAR)
    world.ui.choose_symbols()
    world.ui.await_texts("36 partitions")
    world.ui.picture("live_1_symbol_added")
    world.ui.launch("Launch backfill")
    world.ui.picture("live_2_launched")

    assert world.ui.newest_backfill("live_3_backfill") == "Failed"  # for the one candle

    world.ui.await_texts("36 partitions", "candles_postgres", "35")
    for sink in SINKS:
        world.ui.open(f"/assets/linear/60/{sink}?view=partitions", "Materialized (35)", "Failed (1)", "SOLUSDT")
    world.ui.picture("live_4_partitions")


def test_the_failed_check_leads_to_the_missing_hour_and_names_the_repair(world: World) -> None:
    world.ui.open_check("linear/60/candles", "no_gaps", "Passed (35)", "Failed (1)")
    world.ui.choose_cell(*CELL)
    world.ui.await_texts("offenders", "kline-pipeline repair linear:ETHUSDT:60 --from 2024-05-01 --to 2024-05-01")
    world.ui.await_lines("open_time what", f"{HOLE['open_time']} missing")  # the table
    world.ui.await_lines("expected 744", "present 743", "missing 1")
    world.ui.picture("live_5_failed_check")
    world.ui.click("//*[text()='[Show Markdown]']")
    world.ui.await_image()
    world.ui.picture("live_6_coverage_strip")


def test_the_repair_job_mends_the_partition_and_all_is_green(world: World) -> None:
    world.set_faults()
    world.ui.open_dialog(JOB)
    world.ui.choose_dates(CELL[0])
    world.ui.choose_symbols(CELL[1])
    world.ui.await_texts("1 partition\n")
    world.ui.picture("live_7_repair")
    world.ui.launch("Launch 1 run")

    world.ui.open(f"{JOB}/runs", "2024-05-01|ETHUSDT")
    world.ui.await_texts("Success", timeout_s=240)
    world.ui.picture("live_8_repaired")

    for sink in SINKS:
        world.ui.open(f"/assets/linear/60/{sink}?view=partitions", "Materialized (36)", "Failed (0)")
    world.ui.open_check("linear/60/candles", "no_gaps", "Passed (36)", "Failed (0)")
    world.ui.choose_cell(*CELL)
    world.ui.await_texts("Passed", "present 744")
    world.ui.picture("live_9_green")
    told = run(world.env, "verify", "linear:ETHUSDT:60")
    assert told.returncode == 0, told.stdout


def test_what_a_command_hands_over_is_in_the_list_of_runs_under_its_link(world: World) -> None:
    arguments = ("linear:SOLUSDT:60", "--from", "2025-01-01", "--to", "2025-01-31", "--detach", "--json")
    done = run(world.env, "backfill", *arguments)
    assert done.returncode == 0, done.stderr
    (handed,) = json.loads(done.stdout)["runs"]
    world.ui.open(handed["link"].removeprefix(world.ui.url), handed["run_id"][:8])
    world.ui.await_end_of_log("Success", "RUN_SUCCESS", timeout_s=240)
    world.ui.picture("live_10_detached")
