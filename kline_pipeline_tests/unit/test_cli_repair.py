"""`repair` against a simulator on a real port: what was broken is mended, and nothing else is asked for."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kline_pipeline import cli, datasets
from kline_pipeline.cli.repair import FAILED, UNFETCHED
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell
from kline_pipeline.defs.instance.failed_cells import failed_cells
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.runs_worker import create_run, load_job
from kline_pipeline.defs.symbols import add_symbol
from kline_pipeline.simulator.control import change_faults
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
KEY = "linear:BTCUSDT:60"
RANGE = ("--from", "2024-01-01", "--to", "2024-03-31")
SERIES = {"category": "linear", "symbol": "BTCUSDT", "interval": "60"}
GONE = "2024-02-10T05:00:00Z"


@pytest.fixture
def exchange() -> Exchange:
    """Its clock goes on with every question, for of two answers the one of the newer server time counts."""
    ticks = count(NOW_MS)
    return Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: next(ticks))


@pytest.fixture
def home(exchange: Exchange, tell_environment: Callable[[str], Path]) -> Iterator[Path]:
    """The KLINE_HOME of the commands of a test."""
    with SimulatorServer(exchange) as server:
        yield tell_environment(server.url)


def run(*arguments: str) -> int:
    return cli.run(list(arguments))


def out(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def inject(exchange: Exchange, *faults: dict[str, Any]) -> None:
    change_faults(exchange, json.dumps(list(faults)).encode())


def candles_asked(exchange: Exchange) -> int:
    return int(exchange.stats.snapshot()["requests_by_interval"].get("60", 0))


def file_of(home: Path, folder: str, day: str) -> Path:
    (found,) = (path for path in (home / folder).rglob("*.parquet") if day in str(path.relative_to(home)))
    return found


def spoil(path: Path) -> None:
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(16) + whole[middle + 16 :])


def mended(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Repair all, and return the dates that were broken; nothing is afterwards."""
    capsys.readouterr()
    assert run("repair", KEY, "--json") == 0
    report = out(capsys)
    assert report["totals"]["landed"] == report["totals"]["partitions"] == len(report["broken"])
    assert all(one["reasons"] for one in report["broken"])
    assert run("verify", KEY) == 0
    return [one["date"] for one in report["broken"]]


def test_gaps_and_contradictions_that_have_gone_are_fetched_again_and_nothing_else(
    home: Path, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    inject(
        exchange,
        {"drop": {**SERIES, "open_time": GONE}},
        {"contradict": {**SERIES, "open_time": "2024-03-10T05:00:00Z"}},
    )
    assert run("backfill", KEY, *RANGE) == 1
    inject(exchange)
    asked = candles_asked(exchange)

    assert mended(capsys) == ["2024-02-01", "2024-03-01"]

    assert candles_asked(exchange) == asked + 2
    capsys.readouterr()
    assert run("repair", KEY) == 0
    assert capsys.readouterr().out == "nothing to repair in 3 partitions\n"
    assert run("repair", KEY, "--json") == 0
    assert out(capsys)["runs"] == []
    assert candles_asked(exchange) == asked + 2


def test_what_the_exchange_still_lacks_stays_red_and_is_named(
    home: Path, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    inject(exchange, {"drop": {**SERIES, "open_time": GONE}})
    assert run("backfill", KEY, *RANGE) == 1
    capsys.readouterr()
    assert run("repair", KEY, "--from", "2024-02-01", "--to", "2024-02-29") == 1
    first, *_, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith(KEY)]
    assert first.startswith(f"{KEY} 2024-02-01 is broken: ")
    assert last.startswith(f"{KEY} 2024-02-01: ")
    assert GONE in first
    assert GONE in last


def test_spoilt_files_are_written_again(home: Path, exchange: Exchange, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("backfill", KEY, *RANGE) == 0
    asked = candles_asked(exchange)
    spoil(file_of(home, "snapshots", "2024-01-01"))
    spoil(file_of(home, "work/candles", "2024-02-01"))
    assert mended(capsys) == ["2024-01-01", "2024-02-01"]
    assert candles_asked(exchange) == asked  # the raw batches say all
    spoil(file_of(home, "work/raw", "2024-03-01"))
    assert mended(capsys) == ["2024-03-01"]
    assert candles_asked(exchange) == asked + 1


def test_what_was_deleted_comes_back(
    home: Path, database: Database, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", KEY, *RANGE) == 0
    asked = candles_asked(exchange)
    file_of(home, "snapshots", "2024-01-01").unlink()
    file_of(home, "work/candles", "2024-03-01").unlink()
    with database.engine.begin() as connection:
        deleted = connection.execute(text("delete from kline.candles where open_time = :gone"), {"gone": GONE})
        assert deleted.rowcount == 1
    assert mended(capsys) == ["2024-01-01", "2024-02-01", "2024-03-01"]
    assert candles_asked(exchange) == asked
    file_of(home, "work/raw", "2024-02-01").unlink()
    assert mended(capsys) == ["2024-02-01"]
    assert candles_asked(exchange) == asked + 1


def test_what_a_killed_run_left_failed_in_dagster_is_run_again(
    home: Path, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", KEY, *RANGE) == 0
    dataset = next(one for one in datasets.load(None) if one.name == "linear_60")
    february = RangeRun(dataset, (date(2024, 2, 1),), ("BTCUSDT",))
    with open_instance(Settings.load()) as instance:
        left = create_run(instance, load_job(), february)
        instance.report_run_failed(left, "its process was killed")
        cells = [Cell(date(2024, month, 1), "BTCUSDT") for month in (1, 2, 3)]
        assert failed_cells(instance, dataset, cells) == [cells[1]]
    asked = candles_asked(exchange)

    assert run("repair", KEY, "--json") == 0

    told = out(capsys)
    assert [(one["date"], one["reasons"]) for one in told["broken"]] == [("2024-02-01", [FAILED])]
    assert candles_asked(exchange) == asked
    with open_instance(Settings.load()) as instance:
        assert failed_cells(instance, dataset, cells) == []


def test_a_row_in_a_month_that_was_never_landed_is_found_by_verify(
    home: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", KEY, *RANGE) == run("verify", KEY) == 0
    with database.engine.begin() as connection:
        stray = "update kline.candles set open_time = '2024-06-01Z' where open_time = '2024-03-31 23:00Z'"
        assert connection.execute(text(stray)).rowcount == 1
    capsys.readouterr()
    assert run("repair", KEY) == 0
    assert run("verify", KEY) == 1
    assert "1 rows outside of every partition" in capsys.readouterr().out
    assert run("verify", KEY, "--to", "2024-03-31") == 0


def test_what_a_killed_run_never_fetched_is_fetched(
    home: Path, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = next(one for one in datasets.load(None) if one.name == "linear_60")
    with open_instance(Settings.load()) as instance:
        add_symbol(instance, dataset, "BTCUSDT")
        left = create_run(instance, load_job(), RangeRun(dataset, (date(2024, 2, 1), date(2024, 3, 1)), ("BTCUSDT",)))
        instance.report_run_failed(left, "its process was killed")

    assert run("repair", KEY, "--to", "2024-02-29", "--json") == 0

    told = out(capsys)
    assert [(one["date"], one["reasons"]) for one in told["broken"]] == [("2024-02-01", [UNFETCHED])]
    assert told["totals"]["present"] == 29 * 24
    assert candles_asked(exchange) > 0


def test_a_series_of_which_nothing_is_stored_is_bad_usage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("repair", KEY) == 2
    assert f"kline-pipeline backfill {KEY}" in capsys.readouterr().err
