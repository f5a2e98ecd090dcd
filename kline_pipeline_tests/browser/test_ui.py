"""What a person sees in Dagster's UI: groups, a backfill from the dialog, partitions, checks, a hole, a run again."""

import pytest

from kline_pipeline_tests.browser.conftest import World
from kline_pipeline_tests.programs import run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ASSETS = ("raw_batches", "candles", "candles_postgres", "candles_parquet")


@pytest.fixture(scope="module")
def backfilled(world: World) -> str:
    """Three months of two symbols, launched from the dialog; the status of the backfill."""
    return world.ui.launch_backfill("linear_60", "[2024-01-01...2024-03-01]", 6, picture="backfill")


def test_the_asset_graph_shows_one_group_of_four_assets_per_dataset(world: World) -> None:
    # A box says its name and how many assets are in it.
    world.ui.open("/asset-groups", "linear_1\n4\n", "linear_60\n4\n", "spot_15\n4\n")
    world.ui.picture("groups")
    world.ui.open("/locations/kline_pipeline/asset-groups/linear_60", *ASSETS)
    world.ui.picture("group")


def test_a_backfill_of_three_months_and_two_symbols_from_the_dialog_ends_green(backfilled: str) -> None:
    assert backfilled == "Succeeded"


@pytest.mark.parametrize("asset", ASSETS)
def test_the_partition_page_shows_date_and_symbol(world: World, backfilled: str, asset: str) -> None:
    path = f"/assets/linear/60/{asset}?view=partitions&partition=2024-02-01%7CETHUSDT"
    world.ui.open(path, "Materialized (6)", "Failed (0)", "2024-02-01|ETHUSDT", "rows")
    world.ui.await_lines("2024-02-01", "BTCUSDT", "ETHUSDT", "696")  # hours of that February
    world.ui.picture(f"partitions_{asset}")


@pytest.mark.parametrize(
    ("asset", "check"),
    [
        ("candles", "no_gaps"),
        ("candles", "no_duplicates"),
        ("candles", "well_formed"),
        ("candles_postgres", "postgres_agrees"),
        ("candles_parquet", "parquet_agrees"),
    ],
)
def test_the_checks_tab_shows_results_by_partition(world: World, backfilled: str, asset: str, check: str) -> None:
    world.ui.open_check(f"linear/60/{asset}", check, "Passed (6)", "Failed (0)", "BTCUSDT", "ETHUSDT")
    world.ui.choose_cell("2024-02-01", "ETHUSDT")
    world.ui.await_texts("2024-02-01T00:00:00Z to 2024-03-01T00:00:00Z")
    world.ui.picture(f"checks_{check}")


def test_a_hole_is_red_in_exactly_its_cell_until_it_is_filled(world: World) -> None:
    hole = {"category": "spot", "symbol": "BTCUSDT", "interval": "15", "open_time": "2024-02-10T07:15:00Z"}
    world.set_faults({"drop": hole})

    status = world.ui.launch_backfill("spot_15", "[2024-01-01...2024-03-01]", 6, picture="hole")

    assert status == "Failed"
    for sink in ("candles_postgres", "candles_parquet"):
        path = f"/assets/spot/15/{sink}?view=partitions&partition=2024-02-01%7CBTCUSDT"
        world.ui.open(path, "Failed (1)", "Materialized (5)", "2024-02-01|BTCUSDT", "did not materialize this asset")
        world.ui.picture(f"hole_{sink}")
    world.ui.click("//a[starts-with(@href, '/runs/') and string-length(normalize-space()) = 8]")
    reason = (
        f"1 of 3 partitions did not land: 2024-02-01|BTCUSDT: {{}}: quarantined: no_gaps: {hole['open_time']} missing\n"
    )
    world.ui.await_end_of_log("RUN_FAILURE", reason.format("postgres_agrees"), reason.format("parquet_agrees"))
    world.ui.picture("hole_run")
    world.ui.open_check("spot/15/candles", "no_gaps", "Passed (5)", "Failed (1)")
    world.ui.choose_cell("2024-02-01", "BTCUSDT")
    world.ui.await_texts("Failed", "candles", "2784", hole["open_time"])
    world.ui.picture("hole_no_gaps")
    world.ui.open("/runs", "Failure", world.command_run[:8])
    assert "kline_lock" not in world.ui.text()  # what only we read, people do not see
    world.ui.picture("hole_runs")

    world.set_faults()
    again = run(world.env, "backfill", "spot:BTCUSDT:15", "--from", "2024-01-01", "--to", "2024-03-31")

    assert again.returncode == 0, again.stderr
    for sink in ("candles_postgres", "candles_parquet"):
        world.ui.open(f"/assets/spot/15/{sink}?view=partitions", "Failed (0)", "Materialized (6)")
    world.ui.open_check("spot/15/candles", "no_gaps", "Passed (6)", "Failed (0)")
    world.ui.picture("hole_filled_no_gaps")


def test_a_run_made_before_up_started_is_shown_and_can_be_executed_again(world: World) -> None:
    run_id = world.command_run
    path = "/assets/linear/1/candles_postgres?view=partitions&partition=2024-02-01%7CBTCUSDT"
    world.ui.open(path, "Materialized (3)", "Failed (0)", run_id[:8])
    world.ui.await_lines("41760")  # minutes of that February
    world.ui.picture("command_partitions")
    world.ui.open_check("linear/1/candles", "no_gaps", "Passed (3)", "Failed (0)")
    world.ui.picture("command_checks")

    world.ui.open(f"/runs/{run_id}", "Success", "4 assets", "6 checks", "Re-execute all")
    world.ui.picture("command_run")
    world.ui.click_button("Re-execute all (*)")
    world.ui.await_leaving(f"/runs/{run_id}")
    world.ui.await_end_of_log("Success", "RUN_SUCCESS", timeout_s=180)
    world.ui.picture("command_run_again")
