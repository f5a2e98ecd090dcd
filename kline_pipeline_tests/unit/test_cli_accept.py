"""`accept` records a decision and lands it through Dagster; the checks, coverage and the facade say so."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kline_pipeline import api, cli
from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.errors import IncompleteWindow
from kline_pipeline.simulator.control import change_faults
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
KEY = "linear:BTCUSDT:60"
FEBRUARY = ("--from", "2024-02-01", "--to", "2024-02-29")
HOLE = ("--from", "2024-02-10T05:00", "--to", "2024-02-10T06:00")


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS)


@pytest.fixture
def home(exchange: Exchange, tell_environment: Callable[[str], Path]) -> Iterator[Path]:
    """A KLINE_HOME in which February lacks what a test dropped."""
    with SimulatorServer(exchange) as server:
        yield tell_environment(server.url)


def drop(exchange: Exchange, *open_times: str) -> None:
    about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60"}
    plan = [{"drop": {**about, "open_time": open_time}} for open_time in open_times]
    change_faults(exchange, json.dumps(plan).encode())
    assert run("backfill", KEY, *FEBRUARY) == 1


def run(*arguments: str) -> int:
    return cli.run(list(arguments))


def out(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_what_is_accepted_lands_in_a_run_that_the_ui_shows_and_asks_nothing(
    exchange: Exchange, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(exchange, "2024-02-10T05:00")
    with pytest.raises(IncompleteWindow):
        api.load_candles(KEY, "2024-02-01", "2024-02-29")
    asked = exchange.stats.snapshot()["requests_by_interval"]
    assert run("accept", KEY, *HOLE, "--reason", "known outage") == 0
    assert exchange.stats.snapshot()["requests_by_interval"] == asked
    capsys.readouterr()
    assert run("coverage", KEY, "--json") == 0
    report = out(capsys)
    assert report["totals"] == {
        "partitions": 1, "landed": 1, "expected": 696, "present": 695, "missing": 0, "known": 1,
    }  # fmt: skip
    assert len(list((home / "snapshots").rglob("*.parquet"))) == 1
    with open_instance(Settings.load()) as instance:
        statuses = [run.status.value for run in instance.get_runs()]
    assert statuses == ["SUCCESS", "FAILURE"]
    assert len(api.load_candles(KEY, "2024-02-01", "2024-02-29")) == 695
    gaps = api.find_gaps(KEY, "2024-02-01", "2024-02-29")
    assert gaps[["candles", "why"]].to_dict("records") == [{"candles": 1, "why": "accepted: known outage"}]


def test_what_cannot_be_accepted_or_stays_wrong_is_named(
    exchange: Exchange, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(exchange, "2024-02-10T05:00", "2024-02-20T05:00")
    assert run("accept", KEY, "--from", "2024-02-12T05:00", "--to", "2024-02-12T06:00", "--reason", "why") == 2
    assert "there is nothing to accept" in capsys.readouterr().err
    assert run("accept", KEY, *HOLE, "--reason", " ") == 2
    with open_instance(Settings.load()) as instance:
        assert instance.get_runs_count() == 1
    capsys.readouterr()
    assert run("accept", KEY, *HOLE, "--reason", "known outage") == 1
    assert "2024-02-20T05:00:00Z missing" in capsys.readouterr().err
