"""A Dagster instance with our storage in the database of the test, and what other processes find in the environment."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance

from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer

NOW_MS = 1_712_752_496_000  # of the exchange: 2024-04-10T12:34:56Z
WorldOf = Callable[[Exchange, str], AbstractContextManager[Settings]]


@pytest.fixture
def instance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """The instance of `settings`, storing events in batches as every process of ours does."""
    assert settings.database_url is not None
    monkeypatch.setenv("KLINE_DATABASE_URL", settings.database_url.get_secret_value())
    for name in ("KLINE_HOME", "KLINE_WORK_URL", "KLINE_SNAPSHOT_URL", "BYBIT_BASE_URL", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "1")  # written by open_instance, so that they are put back after the test
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    with open_instance(settings) as opened:
        yield opened


@pytest.fixture
def exchange() -> Exchange:
    """An exchange on 2024-04-10 that refuses nobody."""
    return Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9)


@pytest.fixture
def world_of(tell_environment: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> WorldOf:
    """What serves an exchange on loopback and declares datasets; gives the settings that every process then finds."""

    @contextmanager
    def of(exchange: Exchange, declared: str) -> Iterator[Settings]:
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        with SimulatorServer(exchange) as server:
            home = tell_environment(server.url)
            home.mkdir(parents=True)
            (home / "datasets.toml").write_text(declared)
            yield Settings.load()

    return of
