"""One database for a process: embedded or of KLINE_DATABASE_URL, a pool of connections, and errors in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
)

from kline_pipeline.config import Settings
from kline_pipeline.database import migrate as migrations
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.tables import DAGSTER_SCHEMA
from kline_pipeline.errors import ConfigError, DatabaseUnavailable, StorageError
from kline_pipeline.metrics import DATABASE_ERRORS, Tally

_CONNECT_TIMEOUT_S: Final = 5
_APPLICATION: Final = "kline_pipeline"


class Database:
    """The database of one KLINE_HOME; a context manager.

    Attributes:
        url: with the password; never to be printed, `where` is.
        engine: psycopg 3, time zone UTC.
        where: host and database for people, without the password.
        tally: what this process counts; it is kept in this database, see evidence/fetch_stats.
    """

    def __init__(self, url: URL, server: EmbeddedServer | None) -> None:
        self.url = url
        self._server = server
        self.tally = Tally()
        self.where = server.describe() if server else _for_people(url)
        self._remedy = "run the command again" if server else "check that it runs, and KLINE_DATABASE_URL"
        self.engine: Engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=4,
            max_overflow=12,
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "application_name": _APPLICATION,
                "options": _options(url, "timezone=UTC"),
            },
        )
        event.listen(self.engine, "connect", _note_fresh)
        event.listen(self.engine, "checkout", _look_alive)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dagster_url(self) -> str:
        """URL of the same database for Dagster's own tables: psycopg 2, schema `dagster`. Holds the password."""
        url = self.url.set(drivername="postgresql+psycopg2").update_query_dict(
            {
                "options": _options(self.url, f"search_path={DAGSTER_SCHEMA}", "timezone=UTC"),
                "application_name": "dagster",
            }
        )
        return url.render_as_string(hide_password=False)

    @property
    def psql_url(self) -> str:
        """URL for psql and other programs of libpq, without the password; to libpq a plus is no space."""
        text_ = self.url._replace(password=None).render_as_string(hide_password=False)
        address, mark, query = text_.partition("?")
        return address + mark + query.replace("+", "%20")

    def close(self) -> None:
        """Close the connections, and stop the embedded server if no other process uses it."""
        self.engine.dispose()
        if self._server is not None:
            self._server.release()

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn errors of the driver inside the block into ours.

        Raises:
            DatabaseUnavailable: no server answers, or it went away.
            StorageError: the server refused, for example for want of rights or space.
        """
        try:
            yield
        except (OperationalError, InterfaceError) as exc:
            said = _first_line(exc)
            self.tally.add(DATABASE_ERRORS, kind="unavailable")
            raise DatabaseUnavailable(f"the database {self.where} does not answer: {said}; {self._remedy}") from exc
        except SQLAlchemyError as exc:
            self.tally.add(DATABASE_ERRORS, kind="refused")
            raise StorageError(f"the database {self.where} refused: {_first_line(exc)}") from exc


def connect(settings: Settings, *, migrate: bool = True) -> Database:
    """Return the database of the settings, reached once; the embedded server is found or started.

    Args:
        settings: KLINE_DATABASE_URL, or the KLINE_HOME of the embedded server.
        migrate: create or upgrade our tables.

    Raises:
        ConfigError: KLINE_DATABASE_URL is no URL.
        DatabaseUnavailable: no server answers.
        StorageError: the embedded server cannot be started, or a newer release has upgraded the tables.
    """
    server = None
    if settings.database_url is None:
        server = EmbeddedServer(settings.home)
        url = server.acquire()
    else:
        url = external_url(settings.database_url.get_secret_value())
    database = Database(url, server)
    try:
        with database.translate_errors():
            with database.engine.connect() as connection:
                connection.execute(text("select 1"))
            if migrate:
                migrations.upgrade(database.engine)
    except BaseException:
        database.close()
        raise
    return database


def has_database(settings: Settings) -> bool:
    """Return whether there is a database to connect to without making one: of one's own, or embedded and begun."""
    return settings.database_url is not None or EmbeddedServer(settings.home).exists


def external_url(text_: str) -> URL:
    """Return the URL of KLINE_DATABASE_URL.

    Raises:
        ConfigError: it is none.
    """
    try:
        return make_url(text_.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):  # whose words may hold the password
        msg = "KLINE_DATABASE_URL is no URL; write postgresql://user:password@host:5432/database"
        raise ConfigError(msg) from None


def _note_fresh(_connection: psycopg.Connection[Any], record: Any) -> None:
    record.info["fresh"] = True


def _look_alive(connection: psycopg.Connection[Any], record: Any, _fairy: object) -> None:
    """Look whether a connection that the pool has kept still lives, before it is used.

    SQLAlchemy's own `pool_pre_ping` sets autocommit back in a `finally`. In the middle of an interrupt that fails, and
    the failure takes the place of the KeyboardInterrupt: a Ctrl-C was told as an error of the database.
    """
    if record.info.pop("fresh", False):
        return
    try:
        connection.autocommit = True
        connection.execute("select 1")
        connection.autocommit = False
    except psycopg.Error as exc:
        raise InvalidatePoolError from exc


def _for_people(url: URL) -> str:
    return url.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


def _options(url: URL, *settings: str) -> str:
    """Return the options of a session: those of the URL, then ours, which win."""
    given = url.query.get("options", ())
    parts = [given] if isinstance(given, str) else list(given)
    return " ".join([*parts, *(f"-c {setting}" for setting in settings)])


def _first_line(exc: SQLAlchemyError) -> str:
    cause = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    lines = str(cause).strip().splitlines()
    return lines[0].strip() if lines else type(cause).__name__
