"""`up` as a process of its own: one per KLINE_HOME, until a signal, and nothing of it is left."""

import fcntl
import json
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from kline_pipeline.cli.dagster_children import check_port
from kline_pipeline.cli.ui_address import running_up
from kline_pipeline_tests.holders import cluster
from kline_pipeline_tests.programs import environment, free_port, run, running


# The browser tier ends its `up` by SIGTERM.
def test_up_serves_until_ctrl_c_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gql.py").write_text("raise SystemExit('a file of the folder was taken for a library')\n")
    monkeypatch.chdir(tmp_path)
    env, port, ops = environment(tmp_path / "home"), free_port(), free_port()
    home = tmp_path / "home" / "simulated"
    ports = ("--port", str(port), "--ops-port", str(ops))

    with running(env, "--simulate", "up", *ports, says="Dagster UI", ends_by=signal.SIGINT) as told:
        assert told.endswith(f"http://127.0.0.1:{port}")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info") as answer:
            assert "dagster_version" in json.load(answer)
        with urllib.request.urlopen(f"http://127.0.0.1:{ops}/health/live") as answer:
            assert json.load(answer)["status"] == "ok"
        assert running_up(home) == f"http://127.0.0.1:{port}"
        simulator = json.loads((home / "simulator.json").read_text())["url"]
        second = run(env, "--simulate", "up", "--port", str(free_port()), "--ops-port", "0")
        stop = run(env, "--simulate", "db", "stop")

    assert (second.returncode, stop.returncode) == (1, 1)
    assert str(home) in second.stderr
    assert second.stderr.count("\n") == stop.stderr.count("\n") == 1
    pages = (f"http://127.0.0.1:{port}/server_info", f"http://127.0.0.1:{ops}/health", f"{simulator}/_sim/stats")
    for url in pages:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url)
    assert cluster(home).state() == "absent"


def test_a_killed_up_takes_its_children_with_it(tmp_path: Path) -> None:
    env, port, ops = environment(tmp_path / "home"), free_port(), free_port()
    ports = ("--port", str(port), "--ops-port", str(ops))
    with running(env, "up", *ports, says="Dagster UI", ends_by=signal.SIGKILL):
        pass

    with (tmp_path / "home" / "postgres.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)  # waits for the last process that uses the server

    assert run(env, "db", "stop").returncode == 0
    check_port(port)
    check_port(ops)


@pytest.mark.parametrize("option", ["--port", "--ops-port"])
def test_a_port_in_use_is_one_sentence(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--port": str(free_port()), "--ops-port": str(free_port()), option: str(port)}
        done = run(environment(tmp_path / "home"), "up", *(word for pair in ports.items() for word in pair))

    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert f"with {option}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "home" / "postgres").exists()


def test_two_services_on_one_port_are_one_sentence(tmp_path: Path) -> None:
    port = str(free_port())
    done = run(environment(tmp_path / "home"), "up", "--port", port, "--ops-port", port)

    assert done.returncode == 2
    assert port in done.stderr
    assert done.stderr.count("\n") == 1
