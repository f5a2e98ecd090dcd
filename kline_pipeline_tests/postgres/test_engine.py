"""What a database that cannot be used is called, and how one that can is spoken to."""

import os
import signal
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest
from psycopg.pq import TransactionStatus
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.errors import ConfigError, DatabaseUnavailable, StorageError


def settings_of(url: str, tmp_path: Path) -> Settings:
    return Settings(BybitSettings(), KlineSettings(home=tmp_path / "home", database_url=SecretStr(url)))


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
@pytest.mark.parametrize("form", ["postgresql://me:hush@{}/db", "postgres://{}/db?user=me&password=hush"])
def test_a_dead_url_is_one_sentence_without_the_password(tmp_path: Path, host: str, form: str) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        connect(settings_of(form.format(host), tmp_path))

    message = str(caught.value)
    assert "does not answer" in message
    assert host.partition(":")[0] in message
    assert message.endswith("check that it runs, and KLINE_DATABASE_URL")
    assert "hush" not in message
    assert "\n" not in message
    assert caught.value.retryable
    assert not (tmp_path / "home").exists()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        with pytest.raises(DatabaseUnavailable):
            connect(settings_of(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db", tmp_path))


@pytest.mark.parametrize("url", ["postgresql://me:hush@host:port/db", "postgresql://[::1/hush", "postgresql://"])
def test_a_url_that_is_none_is_said_without_it(tmp_path: Path, url: str) -> None:
    with pytest.raises((ConfigError, DatabaseUnavailable)) as caught:
        connect(settings_of(url, tmp_path))

    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None or "hush" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"password": "hush", "database": "postgres"}, "authentication failed"),
        ({"database": "nowhere"}, "does not exist"),
    ],
)
def test_a_refusal_says_why(database: Database, tmp_path: Path, part: dict[str, str], words: str) -> None:
    url = database.url.set(**part).render_as_string(hide_password=False)  # type: ignore[arg-type]

    with pytest.raises(DatabaseUnavailable, match=words) as caught:
        connect(settings_of(url, tmp_path))

    assert "hush" not in str(caught.value)


def test_a_lost_session_is_told_as_such(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), database.translate_errors(), database.engine.connect() as connection:
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))


def test_a_statement_that_the_server_refuses_is_no_outage(database: Database) -> None:
    with pytest.raises(StorageError) as caught, database.translate_errors(), database.engine.connect() as connection:
        connection.execute(text("insert into kline.coverage_days values (1, '2024-01-01', 1, 1)"))

    assert not caught.value.retryable


def test_sessions_are_in_utc_and_keep_the_options_of_the_url(database: Database, tmp_path: Path) -> None:
    url = database.url.update_query_dict({"options": "-c work_mem=7MB -c timezone=Asia/Tokyo"})

    given = settings_of(url.render_as_string(hide_password=False), tmp_path)
    with connect(given, migrate=False) as connected, connected.engine.connect() as connection:
        zone = connection.execute(text("show timezone")).scalar()
        memory = connection.execute(text("show work_mem")).scalar()

    assert (zone, memory) == ("UTC", "7MB")


def test_dagster_is_sent_to_its_own_schema_by_its_own_driver(database: Database) -> None:
    engine = create_engine(database.dagster_url)
    with engine.begin() as connection:
        connection.execute(text("create table here (id integer)"))
        driver = connection.connection.driver_connection
        zone = connection.execute(text("show timezone")).scalar()
    engine.dispose()

    assert isinstance(driver, psycopg2.extensions.connection)
    assert zone == "UTC"
    with database.engine.connect() as connection:
        assert connection.execute(text("select to_regclass('dagster.here')::text")).scalar() == "dagster.here"


def test_a_given_server_is_left_running(settings: Settings) -> None:
    connect(settings).close()

    with connect(settings) as again, again.engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1
    assert not settings.home.exists()


def test_the_embedded_database_is_described_without_its_password(server: Database, tmp_path: Path) -> None:
    with connect(Settings(BybitSettings(), KlineSettings(home=tmp_path / "home"))) as embedded:
        assert embedded.where.startswith("embedded PostgreSQL in /")
        assert str(embedded.url.password) not in embedded.where
        assert embedded.url.host is None
    assert os.fspath(tmp_path) not in server.where


def test_an_interrupt_while_a_connection_is_looked_at_stays_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts: list[str] = []

    def wait(connection: psycopg.Connection[Any], question: Generator[Any, Any, Any], *_: object) -> None:
        next(question, None)
        if connection.info.transaction_status == TransactionStatus.ACTIVE:  # it is on its way to the server
            interrupts.append(connection.info.transaction_status.name)
            signal.raise_signal(signal.SIGINT)

    with database.engine.connect() as connection:
        connection.execute(text("select 1"))
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "wait", wait)
        with pytest.raises(KeyboardInterrupt), database.translate_errors():
            database.engine.connect()

    assert interrupts == ["ACTIVE"]
    with database.engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1


def test_connections_that_the_server_has_ended_are_replaced_unnoticed(database: Database) -> None:
    with database.engine.connect(), database.engine.connect(), database.engine.connect():
        pass
    others = "pid <> pg_backend_pid() and datname = current_database() and backend_type = 'client backend'"
    with database.engine.connect() as connection:
        ended = connection.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"))
        assert len(ended.all()) == 2

    with database.translate_errors(), database.engine.connect() as one, database.engine.connect() as other:
        assert one.execute(text("select 1")).scalar() == other.execute(text("select 1")).scalar() == 1
