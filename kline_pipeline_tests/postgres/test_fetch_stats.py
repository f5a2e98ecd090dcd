"""Counts of processes in PostgreSQL: whatever ends, is killed, or flushes twice, each count is there once."""

import json
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from kline_pipeline.database.engine import Database
from kline_pipeline.evidence.fetch_stats import Counted, kept, totals
from kline_pipeline.evidence.fetch_stats_files import collect, kept_in_files
from kline_pipeline.metrics import REQUEST_SECONDS, RETRIES, ROWS_WRITTEN, Tally
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.outcomes import requests_told
from kline_pipeline_tests.programs import command, environment

NOW_MS = 1_712_752_496_000  # 2024-04-10T12:34:56Z
ROWS = 'kline_rows_written_total{sink="postgres"}'
SUM = 'kline_exchange_request_seconds_sum{kind="kline"}'
# Counts without a database, says so, and waits for its end.
_LIVES = """
import sys, threading
from pathlib import Path
from kline_pipeline.evidence.fetch_stats_files import kept_in_files
from kline_pipeline.metrics import ROWS_WRITTEN, Tally
tally, home = Tally(), Path(sys.argv[1])
tally.add(ROWS_WRITTEN, 5, sink="postgres")
with kept_in_files(home, tally, every_s=0.01):
    while not list((home / "fetch_stats").glob("*.json")):
        threading.Event().wait(0.01)
    print("counted", flush=True)
    sys.stdin.read()
"""


def counts(database: Database) -> dict[str, float]:
    with database.engine.begin() as connection:
        return totals(connection)


def sources(database: Database) -> int:
    with database.engine.begin() as connection:
        return int(connection.execute(text("select count(*) from kline.fetch_stats")).scalar_one())


@pytest.fixture
def other(database: Database) -> Iterator[Database]:
    """Another process with the same database."""
    with Database(database.url, None) as same:
        yield same


def test_to_flush_twice_counts_once(database: Database) -> None:
    counted = Counted(database.tally)
    database.tally.add(ROWS_WRITTEN, 3, sink="postgres")
    counted.flush(database)
    counted.flush(database)
    database.tally.add(ROWS_WRITTEN, 4, sink="postgres")
    counted.flush(database)
    assert counts(database) == {ROWS: 7}


def test_what_was_written_and_not_acknowledged_is_counted_once(database: Database) -> None:
    # A commit whose answer is lost: the process does not know that it was written, and writes it again.
    counted = Counted(database.tally)
    database.tally.add(ROWS_WRITTEN, 3, sink="postgres")
    counted.flush(database)
    counted._written = None
    counted.flush(database)
    assert counts(database) == {ROWS: 3}


def test_the_counts_of_processes_that_end_are_one_row(database: Database, other: Database) -> None:
    for one in (database, other):
        one.tally.add(ROWS_WRITTEN, 2, sink="postgres")
        with kept(one):
            pass
    assert counts(database) == {ROWS: 4}
    assert sources(database) == 1


def test_a_killed_process_keeps_what_it_flushed_and_is_added_after_a_day(database: Database, other: Database) -> None:
    other.tally.add(ROWS_WRITTEN, 2, sink="postgres")
    Counted(other.tally).flush(other)  # and it is never heard of again
    database.tally.add(ROWS_WRITTEN, 1, sink="postgres")
    Counted(database.tally).end(database)
    assert (counts(database), sources(database)) == ({ROWS: 3}, 2)
    with database.engine.begin() as connection:
        connection.execute(text("update kline.fetch_stats set flushed_at = flushed_at - interval '25 hours'"))
    with Database(database.url, None) as later:
        later.tally.add(ROWS_WRITTEN, 1, sink="postgres")
        Counted(later.tally).end(later)
    assert (counts(database), sources(database)) == ({ROWS: 4}, 1)


def test_a_process_that_was_taken_for_dead_goes_on_and_counts_nothing_twice(
    database: Database, other: Database
) -> None:
    sleeper = Counted(other.tally)
    other.tally.add(ROWS_WRITTEN, 2, sink="postgres")
    sleeper.flush(other)
    with database.engine.begin() as connection:
        connection.execute(text("update kline.fetch_stats set flushed_at = flushed_at - interval '25 hours'"))
    database.tally.add(ROWS_WRITTEN, 1, sink="postgres")
    Counted(database.tally).end(database)
    for total in (4, 5):
        other.tally.add(ROWS_WRITTEN, 1, sink="postgres")
        sleeper.flush(other)
        assert counts(database) == {ROWS: total}
    sleeper.end(other)
    assert (counts(database), sources(database)) == ({ROWS: 5}, 1)


def test_a_total_never_falls_when_a_process_ends(database: Database, other: Database) -> None:
    seen = 0.0
    for one in (database, other):
        counted = Counted(one.tally)
        for number in range(1, 30):
            one.tally.observe(REQUEST_SECONDS, 0.1 / number, kind="kline")
            counted.flush(one)
            assert counts(database)[SUM] >= seen
            seen = counts(database)[SUM]
        counted.end(one)
        assert counts(database)[SUM] == seen


def test_a_database_that_is_gone_fails_nobody(database: Database) -> None:
    nowhere = Database(database.url.set(port=1, host="127.0.0.1", query={}), None)
    nowhere.tally.add(RETRIES, kind="kline")
    with kept(nowhere):
        done = "what had to be done"
    assert done
    assert counts(database) == {}


def test_counts_without_a_database_are_taken_in_once_they_are_final(database: Database, tmp_path: Path) -> None:
    tally = Tally()
    with kept_in_files(tmp_path, tally):
        tally.add(ROWS_WRITTEN, 2, sink="postgres")
    (left,) = (tmp_path / "fetch_stats").glob("*.json")
    content = left.read_bytes()
    collect(database, tmp_path)
    assert counts(database) == {ROWS: 2}
    assert list((tmp_path / "fetch_stats").iterdir()) == []
    left.write_bytes(content)  # killed before it was removed
    collect(database, tmp_path)
    assert counts(database) == {ROWS: 2}


def test_a_home_that_is_made_meanwhile_keeps_the_counts_and_none_is_made_for_them(
    database: Database, tmp_path: Path
) -> None:
    tally = Tally()
    with kept_in_files(tmp_path / "none", tally), kept_in_files(tmp_path / "home", tally):
        tally.add(ROWS_WRITTEN, 2, sink="postgres")
        (tmp_path / "home").mkdir()  # as a cache does
    assert not (tmp_path / "none").exists()
    collect(database, tmp_path / "home")
    assert counts(database) == {ROWS: 2}


def test_counts_of_a_living_process_are_left_and_those_of_a_killed_one_taken(
    database: Database, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _LIVES, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        collect(database, tmp_path)
        assert counts(database) == {}
        process.send_signal(signal.SIGKILL)
        process.wait()
    collect(database, tmp_path)
    assert counts(database) == {ROWS: 5}


def test_a_fetch_that_is_terminated_keeps_all_that_it_counted(database: Database, tmp_path: Path) -> None:
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9)
    exchange.faults.replace([{"slow": {"seconds": 0.2, "path": "kline", "interval": "1"}}])
    file = tmp_path / "year.csv"
    words = ("fetch", "linear:BTCUSDT:1", "--from", "2023-01-01", "--to", "2023-12-31", "-o", str(file))
    with SimulatorServer(exchange) as server:
        env = environment(tmp_path / "home", XDG_CACHE_HOME=str(tmp_path), BYBIT_BASE_URL=server.url)
        with subprocess.Popen(command(*words), env=env, stderr=subprocess.DEVNULL) as process:
            while exchange.stats.snapshot()["candles_served"] < 20_000:
                threading.Event().wait(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 143
    collect(database, tmp_path / "home")
    found = counts(database)
    sent = requests_told(exchange.stats.snapshot())
    assert sent["kline", "ok"] > 20
    for (kind, outcome), number in sent.items():
        assert found[f'kline_exchange_requests_total{{kind="{kind}",outcome="{outcome}"}}'] == number
    assert not file.exists()


def test_a_spoilt_file_of_counts_is_removed(database: Database, tmp_path: Path) -> None:
    (tmp_path / "fetch_stats").mkdir()
    spoilt = ("{", "[]", *(json.dumps({ROWS: value}) for value in ("x", None, math.nan, -1)))
    for name, content in enumerate(spoilt):
        (tmp_path / "fetch_stats" / f"{name}.json").write_text(content)
    collect(database, tmp_path)
    assert counts(database) == {}
    assert list((tmp_path / "fetch_stats").iterdir()) == []
