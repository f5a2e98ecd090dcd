"""The simulator on a real port, and the command that starts it."""

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from kline_pipeline.cli.simulate import simulate
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.history import HistoryError
from kline_pipeline.simulator.server import SimulatorServer

MAIN = "import typer\nfrom kline_pipeline.cli.simulate import simulate\ntyper.run(simulate)\n"


def test_a_page_over_loopback_is_the_page_of_the_exchange(exchange: Exchange) -> None:
    query = {"category": "spot", "symbol": "BTCUSDT", "interval": "15", "limit": "1000"}
    with SimulatorServer(exchange) as server, httpx.Client(base_url=server.url) as client:
        page = client.get("/v5/market/kline", params=query)
        assert page.content == exchange.handle("GET", "/v5/market/kline", query).body
        assert client.get("/_sim/stats").json()["requests"] == {"kline": {"ok": 2}}
        assert client.post("/_sim/faults", content=b"[]").json() == {"faults": []}


def test_a_reset_breaks_the_connection_and_the_next_request_works(exchange: Exchange) -> None:
    exchange.faults.replace([{"reset": {"times": 1}}])
    with SimulatorServer(exchange) as server, httpx.Client(base_url=server.url) as client:
        with pytest.raises(httpx.TransportError):
            client.get("/v5/market/time")
        assert client.get("/v5/market/time").status_code == 200


def test_a_slow_answer_runs_into_the_timeout_of_the_client(exchange: Exchange) -> None:
    exchange.faults.replace([{"slow": {"seconds": 5}}])
    with (
        SimulatorServer(exchange) as server,
        httpx.Client(base_url=server.url, timeout=0.2) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get("/v5/market/time")


def test_a_port_in_use_is_said_in_one_sentence(exchange: Exchange) -> None:
    with SimulatorServer(exchange) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(HistoryError, match=f"cannot listen on 127.0.0.1:{port}"):
            SimulatorServer(exchange, port=port)


@pytest.mark.parametrize(("stop", "as_file"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_the_command_announces_itself_keeps_its_time_and_stops(
    tmp_path: Path, stop: signal.Signals, as_file: bool
) -> None:
    plan = '[{"http": {"status": 503, "path": "kline"}}]'
    if as_file:
        (tmp_path / "plan.json").write_text(plan)
        plan = str(tmp_path / "plan.json")
    command = [sys.executable, "-c", MAIN, "--port", "0", "--seed", "3"]
    options = ["--now", "2024-03-01T12:00", "--faults", plan]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[3]
        with httpx.Client(base_url=url) as client:
            stats = client.get("/_sim/stats").json()
            kline = client.get("/v5/market/kline", params={"symbol": "BTCUSDT", "interval": "1"})
        process.send_signal(stop)
        assert process.wait(5) in {0, -stop}
    assert line == f"simulator listening on {url} (venue simulated-seed-3)\n"
    assert stats["seed"] == 3
    assert 0 <= stats["now_ms"] - 1_709_294_400_000 < 60_000
    assert kline.status_code == 503


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--now", "noon"], "is no time"),
        (["--category", "linear"], "give --data too"),
        (["--data", "."], "--data needs --category"),
        (["--data", ".", "--category", "spot", "--seed", "1"], "give one"),
        (["--data", ".", "--category", "spot", "--symbols", "1"], "give one"),
        (["--data", "/nowhere", "--category", "linear"], "does not exist"),
        (["--data", ".", "--category", "option"], "use one of linear, inverse, spot"),
        (["--faults", "/nowhere"], "cannot be read"),
        (["--faults", "bad.json"], "Unknown fault"),
        (["--faults", '[{"explode": {}}]'], "Unknown fault"),
        (["--faults", ' {"reset": '], "A fault plan must be JSON"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text(json.dumps([{"explode": {}}]))
    app = typer.Typer()
    app.command()(simulate)
    result = CliRunner().invoke(app, options)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_is_replayed_by_the_command(tmp_path: Path) -> None:
    rows = "open_time,open,high,low,close,volume\n" + "".join(
        f"2024-01-01 00:0{minute},1,2,1,2,3\n" for minute in range(6)
    )
    (tmp_path / "AUSDT_1m.csv.gz").write_bytes(gzip.compress(rows.encode()))
    command = [sys.executable, "-c", MAIN, "--port", "0", "--data", str(tmp_path)]
    options = ["--category", "linear", "--intervals", "1m"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        with httpx.Client(base_url=line.split()[3]) as client:
            query = {"symbol": "AUSDT", "interval": "5"}
            page = client.get("/v5/market/kline", params=query).json()
        process.terminate()
    assert "(venue replay-" in line
    assert page["result"]["list"] == [["1704067200000", "1", "2", "1", "2", "15", "30"]]
