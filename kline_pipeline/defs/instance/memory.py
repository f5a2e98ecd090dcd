"""What Dagster remembers of its daemon and its runs, read without opening an instance, which would make tables."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from dagster_postgres import PostgresRunStorage
from sqlalchemy import make_url
from sqlalchemy.exc import NoSuchTableError, OperationalError, ProgrammingError

from kline_pipeline.database.engine import Database
from kline_pipeline.database.late import LateDatabase, Sessions
from kline_pipeline.defs.instance.run_readings import run_readings
from kline_pipeline.errors import DatabaseUnavailable
from kline_pipeline.metrics import Reading

_CONNECT_TIMEOUT_S: Final = "5"
Beat = tuple[str, float]  # who, and when in Unix seconds


class DagsterMemory:
    """Daemon and runs of Dagster on one database; for two threads, and one that breaks off what hangs.

    Args:
        database: which Dagster works on too.
        clock_s: Unix time in seconds.
    """

    def __init__(self, database: LateDatabase, *, clock_s: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock_s = clock_s
        self._of: Database | None = None
        self._storage: PostgresRunStorage | None = None
        self._sessions: Sessions | None = None

    def age_s(self) -> float | None:
        """Return the age of the newest heartbeat of that part of the daemon which has been silent the longest.

        None where no daemon has ever worked on this database.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        storage = self._opened(self._database.current())
        try:
            beats = storage.get_daemon_heartbeats().values()
        except (NoSuchTableError, ProgrammingError):  # Dagster has made no tables yet
            return None
        except OperationalError as exc:
            raise DatabaseUnavailable("the database does not answer when asked for heartbeats of the daemon") from exc
        return oldest_age_s([(beat.daemon_id or "", beat.timestamp) for beat in beats], self._clock_s())

    def run_readings(self) -> list[Reading]:
        """Return what there is to say of Dagster's runs; nothing where it has made no tables yet.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        storage = self._opened(self._database.current())
        try:
            return run_readings(storage, now=datetime.fromtimestamp(self._clock_s(), tz=UTC))
        except (NoSuchTableError, ProgrammingError):
            return []
        except OperationalError as exc:
            raise DatabaseUnavailable("the database does not answer when asked for Dagster's runs") from exc

    def give_up(self) -> None:
        """Break off a question that hangs, from another thread."""
        if self._sessions is not None:
            self._sessions.break_off()

    def _opened(self, database: Database) -> PostgresRunStorage:
        if self._storage is None or self._of is not database:
            url = make_url(database.dagster_url).update_query_dict({"connect_timeout": _CONNECT_TIMEOUT_S})
            told = url.render_as_string(hide_password=False)
            # It keeps no connection: each look makes a new one.
            self._storage = PostgresRunStorage(told, should_autocreate_tables=False)
            self._sessions = Sessions(self._storage._engine)  # noqa: SLF001 - of dagster-postgres 0.29.27
            self._of = database
        return self._storage


def oldest_age_s(beats: Iterable[Beat], now_s: float) -> float | None:
    """Return the age of the oldest heartbeat of the process that had the newest; None of none.

    What daemons of the past had besides stays in the table, and says nothing of the one that runs.
    """
    kept = list(beats)
    if not kept:
        return None
    process = max(kept, key=lambda beat: beat[1])[0]
    return max(0.0, now_s - min(when_s for who, when_s in kept if who == process))
