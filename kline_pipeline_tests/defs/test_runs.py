"""Range runs in worker processes against the simulator on a loopback port; the rest is real."""

import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from inspect import signature
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster import __version__ as dagster_version

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs import runs_selection
from kline_pipeline.defs.instance.orphans import PID_TAG, close_orphans
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.ranges import MOST_CANDLES, MOST_CELLS, out_of_step, plan_runs
from kline_pipeline.defs.run_messages import RunEvent
from kline_pipeline.defs.runs import RunWorkers, execute_runs
from kline_pipeline.defs.runs_processes import LOADED
from kline_pipeline.defs.symbols import add_symbol, known_symbols, remove_symbol, sync_symbols
from kline_pipeline.errors import StorageError, UnknownSeries
from kline_pipeline.evidence.fetch_stats import totals
from kline_pipeline.market.interval import Interval
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline_tests.defs.conftest import NOW_MS, WorldOf

HOURLY = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("BTCUSDT", "ETHUSDT", "SOLUSDT"))
DECLARED = """
[[dataset]]
category = "linear"
interval = "60"
start = 2024-01-01
symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
"""
CELL_CHECKS = ("no_gaps", "no_duplicates", "well_formed", "consistent", "postgres_agrees", "parquet_agrees")
MARCH, APRIL = date(2024, 3, 1), date(2024, 4, 1)
MONTHS = [date(2024, 1, 1), date(2024, 2, 1), MARCH, APRIL]


@pytest.fixture
def world(world_of: WorldOf, exchange: Exchange) -> Iterator[Settings]:
    """Settings that worker processes find in the environment, three hourly symbols, and an exchange that answers."""
    with world_of(exchange, DECLARED) as made:
        yield made


@pytest.fixture
def instance(world: Settings) -> Iterator[DagsterInstance]:
    with open_instance(world) as opened:
        sync_symbols(opened, datasets.load(world.datasets_file)[0])
        yield opened


def _ignore(_: RunEvent) -> None:
    pass


def _on_start(act: Callable[[RunEvent], None]) -> Callable[[RunEvent], None]:
    return lambda event: act(event) if event.kind == "started" else None


def test_runs_hold_every_asked_partition_once_and_no_other() -> None:
    known = [f"S{number}USDT" for number in range(40)]
    symbols = [known[number] for number in (3, 4, 5, 9, 0, *range(20, 40))]
    dates = [date(2020 + number // 12, number % 12 + 1, 1) for number in range(30) if number != 7]
    runs = plan_runs(HOURLY, reversed(dates), symbols, known=known)
    cells = [cell for run in runs for cell in run.cells]
    assert sorted(cells) == sorted(Cell(day, symbol) for day, symbol in product(dates, symbols))


def test_the_first_and_the_last_of_several_runs_are_short_and_nothing_is_lost_of_them() -> None:
    dates = [date(2023, month, 1) for month in range(1, 13)]
    runs = plan_runs(HOURLY, dates, ["BTCUSDT"], known=HOURLY.symbols, most=3)
    cut = out_of_step(runs)
    assert [len(run.dates) for run in cut] == [1, 2, 3, 3, 2, 1]
    assert [cell for run in cut for cell in run.cells] == [cell for run in runs for cell in run.cells]
    assert out_of_step(runs[:1]) == runs[:1]
    single = plan_runs(HOURLY, dates[:1], HOURLY.symbols, known=HOURLY.symbols, most=1)
    assert out_of_step(single) == single


def test_a_run_has_no_hole_in_dates_or_symbols() -> None:
    runs = plan_runs(HOURLY, [MONTHS[0], MARCH, APRIL], ["SOLUSDT", "BTCUSDT"], known=HOURLY.symbols)
    assert [(run.dates, run.symbols) for run in runs] == [
        ((MONTHS[0],), ("BTCUSDT",)),
        ((MARCH, APRIL), ("BTCUSDT",)),
        ((MONTHS[0],), ("SOLUSDT",)),
        ((MARCH, APRIL), ("SOLUSDT",)),
    ]


@pytest.mark.parametrize("code", ["1", "60", "D"])
def test_a_run_stays_below_what_dagster_and_memory_bear(code: str) -> None:
    dataset = Dataset("linear", Interval(code), date(2020, 1, 1), "month", ())
    dates = dataset.dates(NOW_MS)
    known = [f"S{number}USDT" for number in range(60)]
    runs = plan_runs(dataset, dates, known, known=known)
    assert all(len(run.cells) <= MOST_CELLS and run.expected <= MOST_CANDLES for run in runs)
    assert sum(len(run.cells) for run in runs) == len(dates) * len(known)


def test_a_symbol_that_dagster_does_not_know_is_refused() -> None:
    with pytest.raises(UnknownSeries, match="DOGEUSDT"):
        plan_runs(HOURLY, MONTHS, ["DOGEUSDT"], known=HOURLY.symbols)


def test_nothing_asked_is_no_run() -> None:
    assert plan_runs(HOURLY, [], HOURLY.symbols, known=HOURLY.symbols) == []


def test_symbols_come_and_go_without_losing_their_order(instance: DagsterInstance) -> None:
    assert sync_symbols(instance, HOURLY) == []
    assert remove_symbol(instance, HOURLY, "BTCUSDT")
    assert not remove_symbol(instance, HOURLY, "BTCUSDT")
    assert add_symbol(instance, HOURLY, "BTCUSDT")
    assert not add_symbol(instance, HOURLY, "BTCUSDT")
    assert known_symbols(instance, HOURLY) == ["ETHUSDT", "SOLUSDT", "BTCUSDT"]


def test_a_range_run_materializes_its_rectangle_and_tells_of_each_partition(
    world: Settings, instance: DagsterInstance
) -> None:
    runs = plan_runs(HOURLY, [MARCH, APRIL], ["BTCUSDT", "SOLUSDT"], known=known_symbols(instance, HOURLY))
    events: list[RunEvent] = []
    outcomes = execute_runs(world, runs, on_progress=events.append, workers=2)
    assert [(outcome.success, outcome.error) for outcome in outcomes] == [(True, "")] * 2
    assert [outcome.run for outcome in outcomes] == runs
    for asset in ("raw_batches", "candles", "candles_postgres", "candles_parquet"):
        told = [event.cell for event in events if event.kind == "cell" and event.asset == asset]
        assert sorted(cell for cell in told if cell) == sorted(cell for run in runs for cell in run.cells)
    fetched = [event.facts for event in events if event.kind == "fetched"]
    assert fetched.count({"done": 2, "planned": 2}) == 2  # the hours of two months are two pages
    assert sorted(event.run_id for event in events if event.kind == "finished") == sorted(
        outcome.run_id for outcome in outcomes
    )
    stored = {path.parent.name for path in Path(world.snapshot_url).rglob("*.parquet")}
    assert stored == {"BTCUSDT", "SOLUSDT"}
    assert list(world.home.rglob("compute_logs")) == []  # no processes were started to keep what runs print
    for outcome in outcomes:
        run = instance.get_run_by_id(outcome.run_id)
        assert run is not None
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.location_name == "kline_pipeline"
        assert run.tags["dagster/max_retries"] == "0"
        checks = instance.all_logs(outcome.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
        found = [entry.dagster_event.asset_check_evaluation_data for entry in checks if entry.dagster_event]
        cells = {f"{cell.date}|{cell.symbol}" for cell in outcome.run.cells}
        # A backfill of old data is not red for being old: checks of the whole dataset are left out.
        assert {(one.check_name, one.partition) for one in found} == set(product(CELL_CHECKS, cells))


def test_leaving_checks_out_was_measured_with_dagster_1_13_27() -> None:
    # create_run_for_job takes no check selection; when a release does, runs_selection is not needed any more.
    assert dagster_version == runs_selection.RELEASE == "1.13.27"
    assert "asset_check_selection" not in signature(DagsterInstance.create_run_for_job).parameters


def test_a_gap_fails_exactly_its_partition_and_says_where(
    world: Settings, instance: DagsterInstance, exchange: Exchange
) -> None:
    hole = {"category": "linear", "symbol": "ETHUSDT", "interval": "60", "open_time": "2024-03-10T05:00"}
    exchange.faults.replace([{"drop": hole}])
    runs = plan_runs(HOURLY, [MARCH, APRIL], ["ETHUSDT"], known=known_symbols(instance, HOURLY))
    (outcome,) = execute_runs(world, runs, on_progress=_ignore, workers=1)
    assert not outcome.success
    assert {failed.cell for failed in outcome.failed} == {Cell(MARCH, "ETHUSDT")}
    assert "no_gaps" in {failed.check for failed in outcome.failed}
    assert {failed.asset for failed in outcome.failed} >= {"candles_postgres", "candles_parquet"}
    assert all(failed.reason for failed in outcome.failed if failed.check == "no_gaps")


def test_a_single_partition_is_a_run_of_that_partition(world: Settings, instance: DagsterInstance) -> None:
    runs = plan_runs(HOURLY, [APRIL], ["BTCUSDT"], known=known_symbols(instance, HOURLY))
    (outcome,) = execute_runs(world, runs, on_progress=_ignore, workers=4)
    run = instance.get_run_by_id(outcome.run_id)
    assert outcome.success
    assert run is not None
    assert run.tags["dagster/partition"] == "2024-04-01|BTCUSDT"


def test_a_ctrl_c_of_the_terminal_does_not_reach_a_worker(world: Settings, instance: DagsterInstance) -> None:
    # Its parent decides what it means.
    runs = plan_runs(HOURLY, [APRIL], ["BTCUSDT"], known=known_symbols(instance, HOURLY))
    strike = _on_start(lambda event: os.kill(_process_of(instance, event.run_id), signal.SIGINT))
    (outcome,) = execute_runs(world, runs, on_progress=strike, workers=1)
    assert outcome.success


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_ctrl_c_and_sigterm_cancel_the_runs_and_end_the_workers(
    world: Settings, instance: DagsterInstance, number: signal.Signals, raised: type[BaseException]
) -> None:
    runs = plan_runs(HOURLY, MONTHS, ["BTCUSDT"], known=known_symbols(instance, HOURLY))
    started: list[str] = []

    def interrupt(event: RunEvent) -> None:
        started.append(event.run_id)
        os.kill(os.getpid(), number)

    with pytest.raises(raised):
        execute_runs(world, runs, on_progress=_on_start(interrupt), workers=1)
    run = instance.get_run_by_id(started[0])
    assert run is not None
    assert run.status == DagsterRunStatus.CANCELED
    assert multiprocessing.active_children() == []


def test_what_a_worker_counted_is_kept_where_ctrl_c_ends_it(
    world: Settings, instance: DagsterInstance, database: Database
) -> None:
    runs = plan_runs(HOURLY, MONTHS, ["BTCUSDT"], known=known_symbols(instance, HOURLY))

    def interrupt(event: RunEvent) -> None:
        if event.kind == "cell":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        execute_runs(world, runs, on_progress=interrupt, workers=1)
    with database.engine.begin() as connection:
        kept = totals(connection)
    assert kept['kline_exchange_requests_total{kind="kline",outcome="ok"}'] >= 3  # pages of three months of hours


def test_a_killed_worker_costs_its_run_only(world: Settings, instance: DagsterInstance) -> None:
    runs = plan_runs(HOURLY, [APRIL], ["BTCUSDT", "SOLUSDT"], known=known_symbols(instance, HOURLY))
    killed: list[str] = []

    def kill_first(event: RunEvent) -> None:
        if not killed:
            killed.append(event.run_id)
            os.kill(_process_of(instance, event.run_id), signal.SIGKILL)

    first, second = execute_runs(world, runs, on_progress=_on_start(kill_first), workers=1)
    assert (first.status, second.success) == ("failed", True)
    assert "workers.log" in first.error
    run = instance.get_run_by_id(killed[0])
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for the end of a process that is no child: Linux")
def test_workers_end_with_a_killed_parent_and_their_run_is_closed(
    world: Settings, instance: DagsterInstance, database: Database, exchange: Exchange
) -> None:
    exchange.faults.replace([{"slow": {"seconds": 5, "path": "kline"}}])
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_parent, args=(theirs,))
    parent.start()
    run_id = ours.recv()
    worker = os.pidfd_open(_process_of(instance, run_id))
    parent.kill()
    parent.join()
    assert multiprocessing.connection.wait([worker], timeout=5) == [worker]
    os.close(worker)
    ours.close()
    theirs.close()
    assert close_orphans(world, instance, database) == [run_id]
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE
    assert close_orphans(world, instance, database) == []


def test_workers_are_forked_with_all_that_the_definitions_import_and_without_them() -> None:
    for name in ("kline_pipeline.definitions", "kline_pipeline.defs.runs_worker"):
        importlib.import_module(name)
    imported = {name for name in sys.modules if name.startswith("kline_pipeline.")}
    assert {name for name in LOADED if name.startswith("kline_pipeline.")} <= imported
    assert "kline_pipeline.definitions" not in LOADED  # it reads the settings, which are those of a command
    assert "kline_pipeline.defs.automation.alerts" in LOADED
    for name in LOADED:
        importlib.import_module(name)


def _parent(connection: Connection) -> None:
    """Run what the test will kill: a command that executes one run."""
    settings = Settings.load()
    with open_instance(settings) as instance:
        runs = plan_runs(HOURLY, MONTHS, ["BTCUSDT"], known=known_symbols(instance, HOURLY))
    execute_runs(settings, runs, on_progress=_on_start(lambda event: connection.send(event.run_id)), workers=1)


def _process_of(instance: DagsterInstance, run_id: str) -> int:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return int(run.tags[PID_TAG])


def test_a_command_that_has_workers_run_ranges_does_not_load_dagster_itself() -> None:
    loads = "import kline_pipeline.cli.ranged_runs, kline_pipeline.cli.summary, kline_pipeline.opening, sys; "
    tells = "print(sorted(name for name in sys.modules if name.partition('.')[0].startswith('dagster')))"
    told = subprocess.run([sys.executable, "-c", loads + tells], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_a_worker_lets_dagster_know_symbols_before_runs_are_planned(world: Settings, instance: DagsterInstance) -> None:
    with RunWorkers(world) as workers:
        prepared = workers.prepare([(HOURLY, ("ETHUSDT", "DOGEUSDT"))])
        (run,) = plan_runs(HOURLY, [APRIL], ["DOGEUSDT"], known=prepared.known["linear_60"])
        (outcome,) = workers.execute([run], on_progress=_ignore, workers=1, assets=["raw_batches"])
    assert prepared.known == {"linear_60": ["BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT"]}
    assert prepared.known["linear_60"] == known_symbols(instance, HOURLY)
    assert outcome.run == run
    assert outcome.run_id


def test_a_worker_that_cannot_begin_is_one_sentence(world: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINE_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1.*refused"), RunWorkers(world) as workers:
        workers.prepare([(HOURLY, ())])
    assert "127.0.0.1" in (world.home / "dagster" / "workers.log").read_text()
