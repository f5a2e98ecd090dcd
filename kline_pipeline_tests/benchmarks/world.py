"""The exchange of a benchmark on loopback, as slow and strict as the real one, and a KLINE_HOME with its server up."""

import json
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, connect
from kline_pipeline_tests.benchmarks.processes import Ran, busy_s, cpu_of_family_s, run_watched
from kline_pipeline_tests.benchmarks.row_versions import sessions_of, wait_until_gone
from kline_pipeline_tests.programs import command, environment

LATENCY_MS = 50
RATE = 110  # requests per second of ours; the exchange allows 600 in 5 s


@dataclass(frozen=True)
class Cost:
    """What a command took, until its processes and its sessions of the database were gone.

    Attributes:
        ran: wall time, exit code, largest process, and CPU of the command and of its workers, each by its own account.
        postgres_cpu_s, exchange_cpu_s: of all processes of each.
        other_cpu_s: what else the machine did: the harness, which looks on, what no look saw of ours, and whatever
            else ran. Where it is large, the machine was not ours alone.
    """

    ran: Ran
    postgres_cpu_s: float
    exchange_cpu_s: float
    other_cpu_s: float

    @property
    def own_cpu_s(self) -> float:
        """CPU of the command and its workers."""
        return self.ran.command_cpu_s + self.ran.workers_cpu_s


@dataclass(frozen=True)
class World:
    """A KLINE_HOME of a benchmark's own, and the exchange that it asks.

    Attributes:
        home: with an embedded server that runs.
        env: for commands.
        url: of the exchange.
        exchange_pid: of the simulator.
        database: of the home, migrated.
    """

    home: Path
    env: dict[str, str]
    url: str
    exchange_pid: int
    database: Database

    def command(self, *arguments: str) -> Cost:
        """Run kline-pipeline to its end."""
        return self.program(command(*arguments))

    def program(self, words: Sequence[str]) -> Cost:
        """Run a program to its end, and say what it took; its output goes to KLINE_HOME/output."""
        sessions, before, was_busy_s = sessions_of(self.database), self._cpu_s(), busy_s()
        ran = run_watched(words, self.env, self.home / "output")
        wait_until_gone(self.database, besides=sessions)
        postgres_s, exchange_s = (now - then for now, then in zip(self._cpu_s(), before, strict=True))
        others_s = busy_s() - was_busy_s - postgres_s - exchange_s - ran.command_cpu_s - ran.workers_cpu_s
        return Cost(ran, postgres_s, exchange_s, others_s)

    def output(self) -> str:
        """Return what the last program wrote."""
        return (self.home / "output").read_text()

    def stats(self) -> dict[str, Any]:
        """Return what the exchange counted."""
        with urllib.request.urlopen(f"{self.url}/_sim/stats") as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def refused(self) -> int:
        """Return how many 403 the exchange has answered so far."""
        outcomes = (each for kind in self.stats()["requests"].values() for each in kind.items())
        return sum(count for outcome, count in outcomes if "403" in outcome)

    def _cpu_s(self) -> tuple[float, float]:
        return cpu_of_family_s(postmaster_of(self.home)), cpu_of_family_s(self.exchange_pid)


def settings_of(home: Path, **bybit: Any) -> Settings:
    """Return settings of a KLINE_HOME of its own: no variable and no `.env` leads to a database or folder of yours."""
    nowhere = KlineSettings(home=home, datasets_file=None, database_url=None, work_url=None, snapshot_url=None)
    return Settings(BybitSettings(**bybit), nowhere)


def only_ours() -> None:
    """End the program where the commands that it starts would find a database or folders of somebody's.

    Raises:
        SystemExit: a variable or a `.env` of the working directory names one.
    """
    found = KlineSettings()
    if found.database_url or found.work_url or found.snapshot_url or found.datasets_file:
        raise SystemExit("KLINE_DATABASE_URL or a folder of yours is set, here or in .env: run benchmarks elsewhere")


@contextmanager
def world(*options: str, latency_ms: int = LATENCY_MS) -> Iterator[World]:
    """Give a new KLINE_HOME with a running server, and an exchange; both are gone at the end of the block.

    Args:
        options: of `simulate`.
        latency_ms: of the exchange.

    Raises:
        SystemExit: the block ended by one; if the exchange had answered 403 by then, that is told last.
    """
    with tempfile.TemporaryDirectory(prefix="kline-benchmark-") as folder:
        home = Path(folder, "home")
        home.mkdir()
        env = environment(home, XDG_CACHE_HOME=folder, BYBIT_REQUESTS_PER_SECOND=str(RATE))
        with _exchange(env, "--latency-ms", str(latency_ms), *options) as (pid, url):
            env["BYBIT_BASE_URL"] = url
            settings = settings_of(home, base_url=url)
            with connect(settings) as database:
                here = World(home, env, url, pid, database)
                try:
                    yield here
                except SystemExit as exc:
                    if refused := here.refused():
                        raise SystemExit(f"{exc}\n{too_often(refused)}") from exc
                    raise
            EmbeddedServer(home).destroy()


def too_often(refused: int) -> str:
    """Return the sentence that ends a benchmark in which the exchange answered 403."""
    return (
        f"the exchange answered 403 to {refused} requests: more came in 5 s than it allows, "
        "so that nothing measured here counts"
    )


@contextmanager
def _exchange(env: dict[str, str], *options: str) -> Iterator[tuple[int, str]]:
    """Run the simulator for the length of the block; give its process and its URL."""
    words = command("simulate", "--port", "0", "--now", "2025-06-15T12:34:56", *options)
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().split()[3]
        finally:
            process.send_signal(signal.SIGINT)


def postmaster_of(home: Path) -> int:
    """Return the process of the embedded server of a KLINE_HOME."""
    return int((EmbeddedServer(home).folder / "data" / "postmaster.pid").read_text().split()[0])
