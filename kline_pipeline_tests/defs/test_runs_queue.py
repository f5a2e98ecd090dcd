"""Runs handed to a daemon: a real `up` executes them; without a daemon nothing is handed over."""

import json
import signal
from collections.abc import Iterator
from threading import Event

import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, EventLogEntry
from dagster._daemon.types import DaemonHeartbeat

from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.orphans import LOCK_TAG
from kline_pipeline.defs.runs_queue import daemon_answers
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.programs import environment, free_port, run, running
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
NOW_S = 1_712_752_496.0
MONTHS = ("--from", "2024-01-01", "--to", "2024-02-29")
ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}


@pytest.fixture
def env(settings: Settings) -> Iterator[dict[str, str]]:
    """The environment of commands in the KLINE_HOME and the database of the test."""
    assert settings.database_url is not None
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS)
    with SimulatorServer(exchange) as server:
        database_url = settings.database_url.get_secret_value()
        yield environment(settings.home, KLINE_DATABASE_URL=database_url, BYBIT_BASE_URL=server.url)


def _await_end(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    """Return how a run ended, once the storage tells."""
    ended = Event()

    def look(entry: EventLogEntry, _: str) -> None:
        if entry.dagster_event is not None and entry.dagster_event.event_type in ENDS:
            ended.set()

    instance.watch_event_logs(run_id, None, look)
    assert ended.wait(120), f"run {run_id} has not ended"
    found = instance.get_run_by_id(run_id)
    assert found is not None
    return found.status


def test_the_daemon_of_up_executes_what_detach_hands_over(env: dict[str, str], instance: DagsterInstance) -> None:
    port = free_port()
    with running(env, "up", "--port", str(port), "--ops-port", "0", says="Dagster UI", ends_by=signal.SIGTERM):
        # A dataset that the daemon has not loaded, and two runs of one partition each.
        done = run(
            {**env, "KLINE_RUN_PARTITIONS": "1"}, "backfill", "linear:BTCUSDT:240", *MONTHS, "--detach", "--json"
        )
        assert done.returncode == 0, done.stderr
        handed = json.loads(done.stdout)["runs"]
        assert [one["status"] for one in handed] == ["queued"] * 2
        assert handed[0]["link"] == f"http://127.0.0.1:{port}/runs/{handed[0]['run_id']}"
        ends = {_await_end(instance, one["run_id"]) for one in handed}
    assert ends == {DagsterRunStatus.SUCCESS}
    tags = [found.tags for one in handed if (found := instance.get_run_by_id(one["run_id"]))]
    # Begun by the daemon, so it is retried as the UI's runs are and shows its life by a lock of its own.
    assert all("dagster/max_retries" not in one for one in tags)
    assert [one[LOCK_TAG] for one in tags] == [one["run_id"] for one in handed]
    stored = run(env, "coverage", "linear:BTCUSDT:240", "--json")
    assert json.loads(stored.stdout)["totals"] == {
        "partitions": 2, "landed": 2, "expected": 360, "present": 360, "missing": 0, "known": 0,
    }  # fmt: skip


def test_without_a_daemon_nothing_is_handed_over_or_written(env: dict[str, str], instance: DagsterInstance) -> None:
    done = run(env, "backfill", "linear:SOLUSDT:240", *MONTHS, "--detach")
    assert done.returncode == 1
    assert "kline-pipeline up" in done.stderr
    assert done.stderr.count("\n") == 1
    assert instance.get_runs() == []
    assert "SOLUSDT" not in run(env, "series", "list").stdout


@pytest.mark.parametrize(("age_s", "answers"), [(5, True), (85, True), (95, False)])
def test_a_daemon_that_has_been_silent_for_long_is_none(
    instance: DagsterInstance, age_s: float, *, answers: bool
) -> None:
    _beat(instance, NOW_S - age_s)
    assert daemon_answers(instance, clock_s=lambda: NOW_S) is answers


def test_the_first_heartbeat_is_waited_for(instance: DagsterInstance) -> None:
    now_s = [NOW_S]

    def pause(seconds: float) -> None:
        now_s[0] += seconds
        if now_s[0] > NOW_S + 5:
            _beat(instance, now_s[0])

    assert not daemon_answers(instance, patience_s=4, clock_s=lambda: now_s[0], pause=pause)
    assert daemon_answers(instance, patience_s=4, clock_s=lambda: now_s[0], pause=pause)


def _beat(instance: DagsterInstance, timestamp: float) -> None:
    instance.add_daemon_heartbeat(DaemonHeartbeat(timestamp, "QUEUED_RUN_COORDINATOR", "of the test", []))
