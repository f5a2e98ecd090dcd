"""Commands against a simulator on a real port, each in a KLINE_HOME and a database of its own."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kline_pipeline import cli
from kline_pipeline.cli.ui_address import only_up
from kline_pipeline.simulator.control import change_faults
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
KEY = "linear:BTCUSDT:60"
JANUARY = ("--from", "2024-01-01", "--to", "2024-01-31")


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS)


@pytest.fixture
def home(exchange: Exchange, tell_environment: Callable[[str], Path]) -> Iterator[Path]:
    """The KLINE_HOME of the commands of a test."""
    with SimulatorServer(exchange) as server:
        yield tell_environment(server.url)


def run(*arguments: str) -> int:
    return cli.run(list(arguments))


def out(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def drop(exchange: Exchange, open_time: str) -> None:
    fault = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": open_time}
    change_faults(exchange, json.dumps([{"drop": fault}]).encode())


def stored(home: Path) -> list[Path]:
    return [path for folder in ("work", "snapshots") for path in (home / folder).rglob("*.parquet")]


def test_fetch_writes_every_closed_candle_to_csv_and_parquet_alike(home: Path, tmp_path: Path) -> None:
    csv, parquet = tmp_path / "candles.csv", tmp_path / "candles.parquet"
    assert run("fetch", KEY, *JANUARY, "-o", str(csv)) == 0
    assert run("fetch", KEY, *JANUARY, "-o", str(parquet)) == 0
    lines, table = csv.read_text().splitlines(), pq.read_table(parquet)
    assert len(lines) - 1 == len(table) == 744
    assert lines[1].startswith("2024-01-01T00:00:00Z,")
    assert [Decimal(line.split(",")[4]) for line in lines[1:]] == table["close"].to_pylist()
    assert not (home / "postgres").exists()


def test_fetch_refuses_an_incomplete_window_and_writes_nothing(
    exchange: Exchange, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(exchange, "2024-01-10T05:00")
    assert run("fetch", KEY, *JANUARY, "-o", str(tmp_path / "candles.csv")) == 1
    assert "2024-01-10T05:00:00Z" in capsys.readouterr().err
    assert list(tmp_path.glob("candles*")) == []


def test_fetch_takes_the_time_before_the_listing_for_no_gap(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "candles.csv"
    assert run("fetch", KEY, "--from", "2020-03-01", "--to", "2020-03-31", "-o", str(target)) == 0
    assert 1 < len(target.read_text().splitlines()) < 745


def test_backfill_lands_a_range_and_asks_nothing_twice(
    exchange: Exchange, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", KEY, *JANUARY, "--json") == 0
    report = out(capsys)
    assert report["totals"] == {"partitions": 1, "landed": 1, "expected": 744, "present": 744, "missing": 0, "known": 0}
    assert [one["status"] for one in report["runs"]] == ["success"]
    assert report["failed"] == []
    asked = exchange.stats.snapshot()["requests_by_interval"]
    assert run("backfill", KEY, *JANUARY, "--json") == 0
    assert exchange.stats.snapshot()["requests_by_interval"] == asked
    assert run("rebuild", KEY) == 0
    assert exchange.stats.snapshot()["requests_by_interval"] == asked
    capsys.readouterr()
    assert run("coverage", KEY, "--json") == 0
    assert out(capsys)["totals"]["present"] == 744


def test_a_missing_candle_is_named_and_only_its_month_stays_out(
    exchange: Exchange, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(exchange, "2024-02-10T05:00")
    assert run("backfill", KEY, "--from", "2024-01-01", "--to", "2024-02-29", "--json") == 1
    report = out(capsys)
    assert [one["state"] for one in report["partitions"]] == ["landed", "quarantined"]
    assert report["partitions"][1]["missing_open_times"] == ["2024-02-10T05:00:00Z"]
    assert [path.name for path in (home / "snapshots").rglob("*.parquet")] == ["2024-01-01.parquet"]
    exchange.faults.clear()
    assert run("backfill", KEY, "--from", "2024-01-01", "--to", "2024-02-29", "--json") == 0


def test_a_dry_run_fetches_no_candle_and_adds_no_series(
    exchange: Exchange, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", "linear:SOLUSDT:15", *JANUARY, "--json", "--dry-run") == 0
    cost = out(capsys)
    assert (cost["partitions"], cost["requests"], cost["rows"]) == (1, 3, 31 * 96)
    assert exchange.stats.snapshot()["requests_by_interval"].get("15", 0) == 0
    assert not (home / "datasets.toml").exists()
    assert stored(home) == []


def test_an_unknown_series_is_added_by_backfill_and_removed_by_hand(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", "linear:SOLUSDT:240", *JANUARY) == 0
    assert "linear:SOLUSDT:240 was not known yet" in capsys.readouterr().err
    assert run("series", "list") == 0
    assert "linear:SOLUSDT:240" in capsys.readouterr().out.splitlines()
    assert run("series", "remove", "linear:SOLUSDT:240") == 0
    capsys.readouterr()
    assert run("series", "list") == 0
    assert "linear:SOLUSDT:240" not in capsys.readouterr().out.splitlines()


def test_a_new_dataset_says_how_a_running_ui_comes_to_show_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_up(home, "http://127.0.0.1:3000"):
        assert run("series", "add", "linear:SOLUSDT:240") == 0
        assert "linear_240; it shows them after Reload on http://127.0.0.1:3000/locations" in capsys.readouterr().err
        assert run("series", "add", "linear:ETHUSDT:240") == 0
        assert "Reload" not in capsys.readouterr().err


def test_a_symbol_that_the_exchange_does_not_know_leaves_no_trace(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("backfill", *JANUARY), ("series", "add")):
        assert run(*command, "linear:NOPEUSDT:60") == 1
        output = capsys.readouterr()
        assert "NOPEUSDT" in output.err
        assert output.err.count("\n") == 1
    assert not (home / "datasets.toml").exists()
    assert stored(home) == []


@pytest.mark.parametrize(
    ("variable", "value", "code", "told"),
    [
        ("KLINE_DATABASE_URL", "postgresql://u:geheim@127.0.0.1:1/x", 1, "does not answer"),
        ("BYBIT_BASE_URL", "http://127.0.0.1:9", 1, "BYBIT_BASE_URL"),
        ("BYBIT_TIMEOUT_S", "soon", 2, "BYBIT_TIMEOUT_S"),
        ("KLINE_DATASETS_FILE", "broken.toml", 2, "is not TOML"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_nothing_is_written(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.toml").write_text("x = [")
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("BYBIT_RETRY_MAX_ATTEMPTS", "1")
    assert run("backfill", KEY, *JANUARY) == code
    output = capsys.readouterr()
    assert told in output.err
    assert output.err.count("\n") == 1
    assert "geheim" not in output.err
    assert stored(home) == []


def test_another_exchange_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", KEY, *JANUARY) == 0
    before = stored(home)
    with SimulatorServer(Exchange(SyntheticHistory(9, now_ms=NOW_MS), clock=lambda: NOW_MS)) as other:
        monkeypatch.setenv("BYBIT_BASE_URL", other.url)
        assert run("backfill", KEY, "--from", "2024-02-01") == 1
    assert "simulated-seed-9" in capsys.readouterr().err
    assert stored(home) == before


def test_a_changed_grain_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("backfill", KEY, *JANUARY) == 0
    before = stored(home)
    changed = tmp_path / "changed.toml"
    changed.write_text('[[dataset]]\ncategory = "linear"\ninterval = "60"\ngrain = "day"\nsymbols = ["BTCUSDT"]\n')
    monkeypatch.setenv("KLINE_DATASETS_FILE", str(changed))
    assert run("backfill", KEY, "--from", "2024-02-01") == 2
    assert 'grain = "month"' in capsys.readouterr().err
    assert stored(home) == before
