"""The tables are made once however many processes ask, and are those of tables.py."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database import migrate
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.database.tables import SCHEMA, VERSION_TABLE, metadata
from kline_pipeline.errors import StorageError

_PROGRAM = """
import sys
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import connect
sys.stdin.read()
connect(Settings.load()).close()
"""


def _end_of(program: "subprocess.Popen[str]") -> str:
    """Wait for a program and return what it complained about."""
    assert program.stderr is not None
    with program.stderr as complaints:
        said = complaints.read()
    return said if program.wait(timeout=120) else ""


@pytest.fixture
def empty(settings: Settings, server: Database) -> Iterator[Settings]:
    """Settings of a database that nobody has used yet."""
    assert settings.database_url is not None
    name = f"empty_{os.getpid()}"
    admin = server.engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template template0"))
    url = server.url.set(database=name).render_as_string(hide_password=False)
    yield Settings(BybitSettings(), KlineSettings(home=settings.home, database_url=SecretStr(url)))
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))


def test_the_newest_revision_is_told_by_the_names_of_the_files() -> None:
    assert ScriptDirectory.from_config(migrate.alembic_config()).get_heads() == [migrate.head()]


def test_eight_processes_at_once_make_the_tables_once(empty: Settings) -> None:
    assert empty.database_url is not None
    environment = os.environ | {"KLINE_DATABASE_URL": empty.database_url.get_secret_value()}
    command = [sys.executable, "-c", _PROGRAM]
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(8)
    ]
    for program in programs:
        assert program.stdin is not None
        program.stdin.close()  # off they go

    assert [_end_of(program) for program in programs] == [""] * 8
    with connect(empty, migrate=False) as database, database.engine.connect() as connection:
        assert migrate.current(connection) == migrate.head()


def differences(database: Database) -> list[object]:
    """Return what alembic would change to make the database what tables.py says."""

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return name == SCHEMA if kind == "schema" else True

    options = {
        "version_table": VERSION_TABLE,
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": ours,
        "compare_type": True,
        "compare_server_default": True,
    }
    # The embedded server's owner is called like our schema, which alembic then calls the nameless default.
    url = database.url.set(drivername="postgresql+psycopg").update_query_dict({"options": "-c search_path=public"})
    engine = create_engine(url)
    with engine.connect() as connection:
        found = list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
    engine.dispose()
    return found


def test_the_migrations_make_what_tables_says(database: Database) -> None:
    assert differences(database) == []


def test_a_column_that_the_migrations_lack_is_noticed(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("alter table kline.candles drop column turnover cascade"))

    assert len(differences(database)) == 1


def test_people_read_candles_by_name(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("insert into kline.series (category, symbol, interval) values ('spot', 'A', '1')"))
        connection.execute(
            text("insert into kline.candles select series_id, '2024-01-01Z', 1, 2, 0.5, 1.5, 3, 4 from kline.series")
        )
        row = connection.execute(text("select category, symbol, interval, close::text from kline.klines")).one()

    assert tuple(row) == ("spot", "A", "1", "1.5")


def test_only_the_two_schemas_are_touched(empty: Settings) -> None:
    statement = text(
        "select nspname from pg_class join pg_namespace n on n.oid = relnamespace "
        "where nspname not in ('pg_catalog', 'information_schema', 'pg_toast') group by 1 "
        "union select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'"
    )
    with connect(empty, migrate=False) as database, database.engine.connect() as connection:
        before = set(connection.execute(statement).scalars())
    with connect(empty) as database, database.engine.connect() as connection:
        after = set(connection.execute(statement).scalars())
        public = connection.execute(text("select count(*) from pg_tables where schemaname = 'public'")).scalar()

    assert after - before == {"kline", "dagster"}
    assert public == 0


def test_a_schema_that_was_dropped_is_made_again(settings: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("drop schema dagster cascade"))

    with connect(settings) as again, again.engine.connect() as connection:
        found = connection.execute(text("select to_regnamespace('dagster')::text")).scalar()

    assert found == "dagster"


def test_no_right_to_make_schemas_is_needed_where_they_are(settings: Settings, database: Database) -> None:
    url = database.url.set(username="guest", password="guest")
    with database.engine.begin() as connection:
        for statement in (
            "drop schema kline cascade",
            "drop role if exists guest",
            "create role guest login password 'guest'",
            "create schema kline authorization guest",
        ):
            connection.execute(text(statement))
    guest = SecretStr(url.render_as_string(hide_password=False))

    as_guest = Settings(BybitSettings(), KlineSettings(home=settings.home, database_url=guest))
    with connect(as_guest) as given, given.engine.connect() as connection:
        assert migrate.current(connection) == migrate.head()

    with database.engine.begin() as connection:
        connection.execute(text("drop owned by guest cascade"))
        connection.execute(text("drop role guest"))


def test_no_right_to_make_schemas_is_one_sentence(empty: Settings, server: Database) -> None:
    assert empty.database_url is not None
    admin = server.engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("drop role if exists visitor"))
        connection.execute(text("create role visitor login password 'hush'"))
    url = make_url(empty.database_url.get_secret_value()).set(username="visitor", password="hush")
    visitor = SecretStr(url.render_as_string(hide_password=False))

    with pytest.raises(StorageError, match=r"refused: permission denied for database") as caught:
        connect(Settings(BybitSettings(), KlineSettings(home=empty.home, database_url=visitor)))

    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with admin.connect() as connection:
        connection.execute(text("drop role visitor"))


def test_a_database_of_a_newer_release_is_left_alone(settings: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"update {SCHEMA}.{VERSION_TABLE} set version_num = '9999'"))

    with pytest.raises(StorageError, match=r"at revision 9999, which this release does not know \(its newest is \d+\)"):
        connect(settings)
