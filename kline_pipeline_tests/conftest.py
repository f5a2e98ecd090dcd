"""What every tier shares: a real PostgreSQL, a fresh database and KLINE_HOME per test, a clean environment.

The whole suite runs in a zone that is not UTC and has no whole hours: local time taken for UTC turns it red.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest
from dagster_postgres import DagsterPostgresStorage
from pydantic import SecretStr
from sqlalchemy import text

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, connect

_NUMBERS = count()
_TRUSTING = "local postgres all scram-sha-256\nlocal all all trust\n"
# A busy machine is no defect: how long an example takes is measured in benchmarks/.
hypothesis.settings.register_profile("kline", deadline=None)
hypothesis.settings.load_profile("kline")


@pytest.fixture(scope="session", autouse=True)
def _strange_time_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, no `.env`, and a user's cache folder of the test's own."""
    for name in list(os.environ):
        if name.startswith(("KLINE_", "BYBIT_", "DAGSTER_")) and name != "KLINE_REALDATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts() -> Iterator[None]:
    """Ctrl-C raises in every test, also where a shell began them in the background, and after what they called."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sigterm = signal.getsignal(signal.SIGTERM)
    yield
    left = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, sigterm)  # Dagster sets it when it first runs something in a process
    assert left == signal.default_int_handler


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What a test, or a run inside it, sets up for log lines ends with it."""
    root, ours = logging.getLogger(), logging.getLogger("kline_pipeline")
    handlers, level, before = list(root.handlers), root.level, (list(ours.handlers), ours.level)
    factory = logging.getLogRecordFactory()
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level
    ours.handlers = before[0]
    ours.setLevel(before[1])
    logging.setLogRecordFactory(factory)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A PostgreSQL of the session, with the database that others are copied from: migrated, Dagster's tables too.

    It need not outlive a crash of this machine, so it waits for no disk; and it asks for no password, as checking one
    takes 10 ms, which every test would pay many times over.
    """
    home = tmp_path_factory.mktemp("server")
    database = connect(Settings(BybitSettings(), KlineSettings(home=home)))
    DagsterPostgresStorage(database.dagster_url)  # makes its tables, and keeps no connection
    database.engine.dispose()
    admin = Database(database.url.set(database="postgres"), None)
    with admin.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(text(f"alter system set {setting} = off"))
        Path(connection.execute(text("show hba_file")).scalar_one()).write_text(_TRUSTING)
        connection.execute(text("select pg_reload_conf()"))
    yield admin
    admin.close()
    database.close()
    EmbeddedServer(home).destroy()


@pytest.fixture
def settings(server: Database, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a KLINE_HOME of the test's own, with a migrated and empty database of its own."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    url = server.url.set(database=name).render_as_string(hide_password=False)
    admin = server.engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template kline"))
    yield Settings(BybitSettings(), KlineSettings(home=tmp_path / "home", database_url=SecretStr(url)))
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))


@pytest.fixture
def tell_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Tell the environment of `settings` and of an exchange by its URL, as for commands; gives the KLINE_HOME.

    What a command exports is undone after the test.
    """

    def tell(base_url: str) -> Path:
        assert settings.database_url is not None
        monkeypatch.setenv("KLINE_HOME", str(settings.home))
        monkeypatch.setenv("KLINE_DATABASE_URL", settings.database_url.get_secret_value())
        monkeypatch.setenv("BYBIT_BASE_URL", base_url)
        for name in ("KLINE_WORK_URL", "KLINE_SNAPSHOT_URL", "KLINE_DATASETS_FILE", "DAGSTER_HOME"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        return settings.home

    return tell


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database of `settings`, connected."""
    with connect(settings, migrate=False) as connected:
        yield connected
