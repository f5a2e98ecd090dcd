"""`serve` as a process of its own: whatever is away or hangs, it begins, answers and ends; and it tells no secret."""

import json
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kline_pipeline.config import Settings
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.frozen import OwnServer
from kline_pipeline_tests.programs import command, environment, run, running
from kline_pipeline_tests.service.raw_http import PAGES, malformed, sent, statuses
from kline_pipeline_tests.worlds import ms

CANARY = "canary-secret-value"
TOKEN = "canary-token-value"
_PATIENCE_S = 60.0
NOW_MS = ms("2024-04-10 12:34:56")


@pytest.fixture
def exchange() -> Iterator[tuple[Exchange, str]]:
    began_s = time.monotonic()
    simulated = Exchange(
        SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS + int((time.monotonic() - began_s) * 1000)
    )
    with SimulatorServer(simulated) as server:
        yield simulated, server.url


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


def address(told: str) -> str:
    return told.rsplit(" ", 1)[1].removesuffix("/health")


def asked(url: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


def awaited(url: str, holds: Callable[[int, dict[str, str]], bool]) -> float:
    """Return after how many seconds /health was so."""
    began_s = time.monotonic()
    seen: object = None
    while time.monotonic() - began_s < _PATIENCE_S:
        status, content = asked(f"{url}/health")
        parts = {name: part["status"] for name, part in content["parts"].items()}
        seen = status, parts
        if holds(status, parts):
            return time.monotonic() - began_s
        threading.Event().wait(0.2)
    raise AssertionError(seen)


def variables(base_url: str, url: str | None = None, **more: str) -> dict[str, str]:
    database = {} if url is None else {"KLINE_DATABASE_URL": url}
    return {"BYBIT_BASE_URL": base_url, "KLINE_OPS_REQUESTS_PER_MINUTE": "100000", **database, **more}


def test_it_answers_while_database_and_exchange_hang_and_sees_their_return(
    exchange: tuple[Exchange, str], tmp_path: Path
) -> None:
    simulated, base_url = exchange
    own = OwnServer(tmp_path / "own")
    try:
        env = environment(tmp_path / "home", **variables(base_url, own.url))
        with running(env, "serve", "--port", "0", says="ops service", ends_by=signal.SIGTERM) as told:
            url = address(told)

            def works(status: int, parts: dict[str, str]) -> bool:
                # The simulator's time is another one: its clock is 'off', which is degraded.
                return (status, parts["database"]) == (200, "ok") and parts["exchange"] in {"ok", "degraded"}

            awaited(url, works)
            simulated.faults.replace([{"slow": {"seconds": 86_400}}])
            awaited(url, lambda _, parts: parts["exchange"] == "failed")
            assert asked(f"{url}/health")[0] == 200
            with own.frozen():
                awaited(url, lambda status, parts: (status, parts["database"]) == (503, "failed"))
                assert [asked(url + page)[0] for page in PAGES[:4]] == [503, 200, 200, 503]
            simulated.faults.replace([])
            assert awaited(url, works) < 15

            own.stop()
            awaited(url, lambda status, _: status == 503)
            own.start()
            assert awaited(url, works) < 15
    finally:
        own.destroy()


def test_it_begins_with_nothing_there_and_ends_soon_while_looks_hang(silent: int, tmp_path: Path) -> None:
    hanging = variables(f"http://127.0.0.1:{silent}", f"postgresql://me:{CANARY}@127.0.0.1:{silent}/db")
    env = environment(tmp_path / "home", **hanging)
    for number in (signal.SIGTERM, signal.SIGINT):
        with (tmp_path / "log").open("w") as log:
            serving = subprocess.Popen(
                command("serve", "--port", "0"), env=env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert serving.stdout is not None
        url = address(serving.stdout.readline().strip())
        status, content = asked(f"{url}/health")
        assert (status, content["status"]) == (503, "failed")
        assert asked(f"{url}/health/live")[0] == 200
        awaited(url, lambda _, parts: parts["disk"] != "failed")

        began_s = time.monotonic()
        serving.send_signal(number)
        assert serving.wait(_PATIENCE_S) == 0
        assert time.monotonic() - began_s < 8
        serving.stdout.close()
        written = (tmp_path / "log").read_text()
        assert "disk" in {json.loads(line).get("probe") for line in written.splitlines() if line.startswith("{")}
        assert CANARY not in written
        assert "Traceback" not in written


def test_alone_it_starts_the_embedded_server_and_stops_it(tmp_path: Path) -> None:
    env = environment(tmp_path / "home")
    with running(env, "--simulate", "serve", "--port", "0", says="ops service", ends_by=signal.SIGINT) as told:
        awaited(address(told), lambda status, parts: (status, parts["exchange"]) == (200, "ok"))
        status, content = asked(f"{address(told)}/health/bybit")
        assert (status, content["series"]["linear:BTCUSDT:1"]["candles"]) == (200, 5)

    assert run(env, "--simulate", "db", "stop").returncode == 0


def test_a_stop_while_the_embedded_server_begins_leaves_none_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = EmbeddedServer(home)
    env = environment(home, BYBIT_BASE_URL="http://127.0.0.1:1")
    with subprocess.Popen(command("serve", "--port", "0"), env=env, stdout=subprocess.DEVNULL) as serving:
        while not (server.folder / "data").exists():  # it is being made
            threading.Event().wait(0.005)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(_PATIENCE_S) == 0
    assert (server.folder / "data" / "PG_VERSION").exists()
    assert not (server.folder / "data" / "postmaster.pid").exists()
    server.destroy()


def traces(database: Database) -> list[object]:
    """Return count and digest of the rows of every table, but the budget, which looks pay from, and what they count."""
    without = "('rate_budget', 'fetch_stats')"
    every = f"select schemaname, relname from pg_stat_user_tables where relname not in {without} order by 1, 2"
    digest = 'select count(*), md5(string_agg(t::text, chr(10) order by t::text)) from "{}"."{}" t'
    with database.engine.connect() as connection:
        tables = connection.execute(text(every)).all()
        return [(table, connection.execute(text(digest.format(*table))).one()) for table in tables]


def test_malformed_requests_leave_no_trace_in_the_data_and_no_answer_has_a_secret(
    exchange: tuple[Exchange, str], settings: Settings, database: Database, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    url = database.url.set(password=CANARY).render_as_string(hide_password=False)
    env = environment(
        tmp_path / "home",
        **variables(exchange[1], url, BYBIT_API_KEY="test_api_key", BYBIT_API_SECRET=CANARY, KLINE_OPS_TOKEN=TOKEN),
    )
    before, source = traces(database), random.Random(7)
    with running(env, "serve", "--port", "0", says="ops service", ends_by=signal.SIGTERM) as told:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        answers = [sent(address(told), malformed(source)) for _ in range(1000)]
        for page in PAGES:
            head = f"GET {page} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
            answers.append(sent(address(told), head.encode()))
        assert asked(f"{address(told)}/health", **bearer)[0] in {200, 503}
        assert asked(f"{address(told)}/health")[0] == 401

    seen = {status for answer in answers for status in statuses(answer)}
    assert {status for status in seen if status >= 500} <= {503}
    assert {400, 401} <= seen
    for answer in answers:
        for secret in (CANARY, TOKEN, str(tmp_path), "postgresql://", "Traceback"):
            assert secret.encode() not in answer
    assert traces(database) == before


def test_what_it_says_about_its_address(tmp_path: Path) -> None:
    env = environment(tmp_path / "home", BYBIT_BASE_URL="http://127.0.0.1:1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(env, "serve", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "home").exists()

    words = "set KLINE_OPS_TOKEN"
    with running(env, "serve", "--host", "0.0.0.0", "--port", "0", says=words, ends_by=signal.SIGTERM):
        pass
    quiet = {**env, "KLINE_OPS_TOKEN": TOKEN}
    with running(quiet, "serve", "--host", "0.0.0.0", "--port", "0", says="ops", ends_by=signal.SIGTERM) as told:
        assert words not in told


@pytest.mark.parametrize("value", ["linear:BTCUSDT", "linear:btcusdt:1", " ".join(f"spot:A{n}:1" for n in range(11))])
def test_series_that_are_none_are_bad_usage(value: str, tmp_path: Path) -> None:
    done = run(environment(tmp_path / "home", KLINE_PROBE_SERIES=value), "serve", "--port", "0")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
