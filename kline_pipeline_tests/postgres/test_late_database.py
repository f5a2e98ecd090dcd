"""A database that is away, comes back, freezes; and that nothing is left waiting for it, or open."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._daemon.types import DaemonHeartbeat
from dagster_postgres import PostgresRunStorage
from pydantic import SecretStr
from sqlalchemy import text

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database import migrate
from kline_pipeline.database.engine import Database
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.defs.instance.memory import DagsterMemory, oldest_age_s
from kline_pipeline.errors import ConfigError, DatabaseUnavailable
from kline_pipeline.service.looks import daemon_look, database_look
from kline_pipeline_tests.frozen import OwnServer
from kline_pipeline_tests.holders import cluster

_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path_factory.mktemp("own") / "home")
    yield server
    server.destroy()


@pytest.fixture
def late(own: OwnServer, tmp_path: Path) -> Iterator[LateDatabase]:
    found = LateDatabase(of(own.url, tmp_path))
    yield found
    found.close()


def of(url: str | None, tmp_path: Path) -> Settings:
    secret = None if url is None else SecretStr(url)
    return Settings(BybitSettings(), KlineSettings(home=tmp_path / "home", database_url=secret))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_given_to_others_only_while_it_was_found(own: OwnServer, late: LateDatabase) -> None:
    look = database_look(late)
    with pytest.raises(DatabaseUnavailable):
        late.current()

    assert look().status == "ok"
    with late.current().engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1

    own.stop()
    assert (look().status, look().readings[0].value) == ("failed", 0)
    with pytest.raises(DatabaseUnavailable):
        late.current()

    own.start()
    assert (look().status, look().readings[0].value) == ("ok", 1)
    with late.current().engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1


class Sleeper(threading.Thread):
    """A thread that waits for a statement that takes an hour, and keeps the error that ends it."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self.asks = threading.Event()
        self.told: Exception | None = None
        self._database = database

    def run(self) -> None:
        try:
            with self._database.translate_errors(), self._database.engine.connect() as connection:
                self.asks.set()
                connection.execute(text("select pg_sleep(3600)"))
        except DatabaseUnavailable as exc:
            self.told = exc


def test_a_frozen_server_fails_a_look_and_frees_who_waits_for_a_statement(own: OwnServer, late: LateDatabase) -> None:
    late.look()
    sleeper = Sleeper(late.current())
    sleeper.start()
    assert sleeper.asks.wait(_PATIENCE_S)
    with own.frozen():
        with pytest.raises(DatabaseUnavailable):
            late.look()
        sleeper.join(_PATIENCE_S)
        assert sleeper.told is not None

    assert late.look() == migrate.head()


def test_a_statement_that_hangs_can_be_given_up(own: OwnServer, late: LateDatabase) -> None:
    late.look()
    sleeper = Sleeper(late.current())
    sleeper.start()
    assert sleeper.asks.wait(_PATIENCE_S)
    with own.frozen():
        while sleeper.is_alive():
            late.give_up()
            sleeper.join(0.05)

    assert sleeper.told is not None


def test_looks_leave_nothing_open(own: OwnServer, late: LateDatabase) -> None:
    late.look()
    before = descriptors()
    for _ in range(20):
        late.look()
    own.stop()
    for _ in range(20):
        with pytest.raises(DatabaseUnavailable):
            late.look()
    own.start()
    late.look()

    assert descriptors() <= before  # what tests before left may have been collected meanwhile


def test_a_database_without_our_tables_is_not_ready_and_is_left_alone(server: Database, tmp_path: Path) -> None:
    url = server.url.set(database="template1").render_as_string(hide_password=False)
    late = LateDatabase(of(url, tmp_path))

    look = database_look(late)()

    late.close()
    assert (look.status, look.readings[0].value) == ("failed", 1)
    assert "db upgrade" in look.seen


def test_a_database_at_another_revision_is_not_ready(settings: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("update kline.kline_alembic_version set version_num = '0001'"))
    late = LateDatabase(settings)

    look = database_look(late)()

    late.close()
    assert look.status == "failed"
    assert f"0001 instead of {migrate.head()}" in look.seen


def test_no_sentence_names_host_user_or_password(tmp_path: Path) -> None:
    late = LateDatabase(of("postgresql://somebody:hush@127.0.0.1:1/secret_name", tmp_path))

    look = database_look(late)()

    assert look.status == "failed"
    for word in ("somebody", "hush", "127.0.0.1", "secret_name"):
        assert word not in look.seen
    assert "hush" not in look.reason


def test_a_url_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        LateDatabase(of("postgresql://[::1/hush", tmp_path))


def test_the_embedded_server_is_started_upgraded_and_stopped_with_its_last_user(tmp_path: Path) -> None:
    late = LateDatabase(of(None, tmp_path))

    assert database_look(late)().status == "ok"
    assert cluster(tmp_path / "home").state() == "ready"
    cluster(tmp_path / "home").stop()
    assert database_look(late)().status == "ok"  # started again

    late.close()
    assert cluster(tmp_path / "home").state() == "absent"


def test_an_embedded_server_that_cannot_be_started_is_a_failed_look_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    late = LateDatabase(of(None, tmp_path))

    look = database_look(late)()
    assert look.status == "failed"
    assert str(tmp_path) not in look.seen

    (tmp_path / "home").unlink()
    assert database_look(late)().status == "ok"
    late.close()


def test_a_frozen_embedded_server_is_left_behind_soon(tmp_path: Path) -> None:
    server = OwnServer(tmp_path / "home")
    late = LateDatabase(of(None, tmp_path))
    late.look()
    with server.frozen():
        with pytest.raises(DatabaseUnavailable):
            late.look()
        began_s = time.monotonic()
        late.close()
        assert time.monotonic() - began_s < 10

    server.destroy()


def test_heartbeats_of_the_daemon_have_an_age(settings: Settings, database: Database) -> None:
    late = LateDatabase(settings)
    heartbeats = DagsterMemory(late, clock_s=lambda: 1000.0)
    look = daemon_look(heartbeats.age_s)
    assert look().status == "degraded"  # nobody has looked whether the database is there
    late.look()
    assert heartbeats.age_s() is None
    assert look().status == "degraded"

    def beat(kind: str, who: str, when_s: float) -> None:
        storage = PostgresRunStorage(database.dagster_url, should_autocreate_tables=False)
        storage.add_daemon_heartbeat(DaemonHeartbeat(when_s, kind, who, None))

    beat("SENSOR", "one", 990.0)
    beat("SCHEDULER", "one", 980.0)
    beat("GONE", "of the past", 1.0)
    assert heartbeats.age_s() == 20
    assert look().status == "ok"
    assert look().readings[0].value == 20

    late_look = daemon_look(DagsterMemory(late, clock_s=lambda: 1100.0).age_s)()
    assert late_look.status == "failed"
    late.close()


def test_a_database_without_tables_of_dagster_has_no_heartbeat(server: Database, tmp_path: Path) -> None:
    url = server.url.set(database="template1").render_as_string(hide_password=False)
    late = LateDatabase(of(url, tmp_path))
    late.look()

    assert DagsterMemory(late).age_s() is None
    late.close()


def test_only_the_process_with_the_newest_heartbeat_counts() -> None:
    assert oldest_age_s([], 10) is None
    assert oldest_age_s([("a", 9), ("a", 5), ("b", 1)], 10) == 5
    assert oldest_age_s([("a", 11)], 10) == 0
