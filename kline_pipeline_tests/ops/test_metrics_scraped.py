"""A real Prometheus scrapes the service while commands fetch: what it sums is what the exchange itself has counted.

The service asks the exchange for its time all along: those requests are left out, as one is always on its way.
"""

import json
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.evidence.fetch_stats import EVERY_S
from kline_pipeline.metrics import COUNTED, sample_names
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.outcomes import requests_told
from kline_pipeline_tests.programs import command, environment, free_port, run, running

pytestmark = [pytest.mark.ops, pytest.mark.timeout(240)]

NOW_MS = 1_749_990_896_000  # 2025-06-15
FAULTS = [
    {"http": {"status": 503, "path": "kline", "nth": [4, 11, 30]}},
    {"ret_code": {"code": 10006, "path": "kline", "nth": [15]}},
    {"slow": {"seconds": 20, "path": "kline", "nth": [17, 33]}},
    {"reset": {"path": "kline", "nth": [20, 25, 26]}},
    {"truncate": {"path": "kline", "nth": 28}},
    {"wrong_symbol": {"path": "kline", "nth": 35}},
]
_WAIT_S = 60.0
_LONG = ("backfill", "linear:ETHUSDT:1", "--from", "2023-01-01", "--to", "2024-12-31", "--json")
Counts = Counter[tuple[str, str]]


@dataclass
class Scraped:
    """A service, a Prometheus that scrapes it each second, and the exchange that both are about."""

    env: dict[str, str]
    exchange: Exchange
    service_port: str
    prometheus: str
    _service: ExitStack = field(default_factory=ExitStack)

    def begin_service(self) -> None:
        """Start the service; the one before has ended."""
        self._service.enter_context(
            running(self.env, "serve", "--port", self.service_port, says="ops service", ends_by=signal.SIGTERM)
        )

    def end_service(self) -> None:
        """End the service as an orderly stop does."""
        self._service.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what Prometheus answers."""
        url = f"{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def requests(self) -> Counts:
        """Return requests by (kind, outcome) as Prometheus has them."""
        found = self.query("sum by (kind, outcome) (kline_exchange_requests_total)")
        counts: Counts = Counter()
        for one in found:
            counts[one["metric"]["kind"], one["metric"]["outcome"]] = int(float(one["value"][1]))
        return without_time(counts)

    def told(self) -> Counts:
        """Return the same as the exchange has counted it."""
        return without_time(requests_told(self.exchange.stats.snapshot()))


def without_time(counts: Counts) -> Counts:
    return Counter({key: number for key, number in counts.items() if key[0] != "time" and number})


def until(holds: Callable[[], bool]) -> bool:
    """Return whether something holds at last."""
    end_s = time.monotonic() + _WAIT_S
    while not (held := holds()) and time.monotonic() < end_s:
        threading.Event().wait(0.5)
    return held


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run Debian's Prometheus for the length of the block, scraping each second; give its URL."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    scrape = {"job_name": "kline", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with subprocess.Popen([*words, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


@pytest.fixture
def scraped(settings: Settings, tmp_path: Path) -> Iterator[Scraped]:
    assert settings.database_url is not None
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9, latency_ms=20)
    port = str(free_port())
    with SimulatorServer(exchange) as server, prometheus(tmp_path / "prometheus", f"127.0.0.1:{port}") as url:
        env = environment(
            settings.home,
            KLINE_DATABASE_URL=settings.database_url.get_secret_value(),
            KLINE_PROBE_SERIES="none",
            BYBIT_BASE_URL=server.url,
            BYBIT_TIMEOUT_S="2",
            BYBIT_RETRY_INITIAL_DELAY_S="0.01",
        )
        found = Scraped(env, exchange, port, url)
        found.begin_service()
        yield found
        found.end_service()


def test_prometheus_sums_what_the_exchange_counted_over_runs_restarts_and_a_kill(scraped: Scraped) -> None:
    scraped.exchange.faults.replace(FAULTS)
    done = run(scraped.env, "backfill", "linear:BTCUSDT:1", "--from", "2024-01-01", "--to", "2024-01-31", "--json")
    assert done.returncode == 0, done.stderr
    assert until(lambda: scraped.requests() == scraped.told()), (scraped.requests(), scraped.told())
    assert {"timeout", "connection_error", "server_busy", "rate_limited", "malformed"} <= {
        outcome for _, outcome in scraped.requests()
    }
    candles = scraped.query("sum(kline_exchange_candles_total)")[0]["value"][1]
    assert int(candles) == scraped.exchange.stats.snapshot()["candles_served"]

    scraped.end_service()
    scraped.begin_service()
    assert run(scraped.env, "backfill", "linear:BTCUSDT:60", "--from", "2024-01-01", "--json").returncode == 0
    assert until(lambda: scraped.requests() == scraped.told()), (scraped.requests(), scraped.told())

    seen = [(time.monotonic(), scraped.told().total())]

    def sent(number: int) -> bool:
        seen.append((time.monotonic(), scraped.told().total()))
        return seen[-1][1] >= seen[0][1] + number

    with subprocess.Popen(command(*_LONG), env=scraped.env, stdout=subprocess.DEVNULL) as process:
        assert until(lambda: sent(500))  # ten seconds of it
        process.kill()
    killed_s = time.monotonic()
    assert until(lambda: not sent(10**9) and seen[-1][1] == seen[-2][1])  # its workers are gone
    # What was flushed stays, and what is missing was sent after the last flush but one, which may have been on its way.
    flushed = max(number for when_s, number in seen if when_s < killed_s - 2 * EVERY_S)
    assert until(lambda: scraped.requests().total() >= flushed), (scraped.requests(), seen)
    assert scraped.requests() <= scraped.told()

    for metric in COUNTED:
        for name in sample_names(metric):
            falls = scraped.query(f"max(resets({name}[10m]))")
            assert [one["value"][1] for one in falls] == ["0"], name
    with urllib.request.urlopen(f"http://127.0.0.1:{scraped.service_port}/metrics") as answer:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=answer.read(), capture_output=True, check=False
        )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
