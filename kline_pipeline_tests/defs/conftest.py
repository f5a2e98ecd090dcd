"""A Dagster instance with our storage in the database of the test; tests of the simulated exchange make their own."""

from collections.abc import Iterator

import pytest
from dagster import DagsterInstance

from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.storage import open_instance


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
