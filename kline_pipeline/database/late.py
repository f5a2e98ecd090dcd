"""A database that may be away when a process begins, come back, or hang: for a service that must answer all the same.

How a database is reached at once or not at all is told in engine.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Engine, event

from kline_pipeline.config import Settings
from kline_pipeline.database import migrate
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, external_url
from kline_pipeline.errors import DatabaseUnavailable
from kline_pipeline.metrics import Tally

_BEGINNING_S: Final = 120.0  # making a cluster and its tables; who breaks that off only makes it longer
_STOPPING_S: Final = 5.0
_MOST_BEGUN_S: Final = 30.0  # to the end of a beginning, after which the server can be stopped; else it ran on alone


class LateDatabase:
    """The database of the settings, looked at again and again.

    One thread looks; all others are given the database only while the last look found it, so they wait for nothing
    that is known to be away. The embedded server is started where it does not run, and brought to the newest
    revision, as every command does; a server of KLINE_DATABASE_URL is looked at alone.

    Attributes:
        tally: what the process counts, whichever server it finds.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is reached.

        Raises:
            ConfigError: KLINE_DATABASE_URL is no URL.
        """
        self.tally = Tally()
        self._server = EmbeddedServer(settings.home) if settings.database_url is None else None
        self._database: Database | None = None
        self._looking: Database | None = None
        self._sessions: list[Sessions] = []
        self._is_there = False
        self._is_upgraded = False
        self._began_s: float | None = None  # of starting the embedded server
        self._starting = threading.Lock()
        self._is_closed = False
        if settings.database_url is not None:
            url = external_url(settings.database_url.get_secret_value())
            self._open(Database(url, None), Database(url, None))

    def current(self) -> Database:
        """Return the database, not to be closed.

        Raises:
            DatabaseUnavailable: the last look did not find it.
        """
        if not self._is_there or self._database is None:
            raise DatabaseUnavailable("the database did not answer when it was last looked at; see its own message")
        return self._database

    def look(self) -> str | None:
        """Return the revision of the tables, None where ours are not; the embedded server runs after that.

        The connection is a new one each time: that one can be made is what matters.

        Raises:
            DatabaseUnavailable: no server answers.
            StorageError: the embedded server cannot be started, or was upgraded by a newer release.
        """
        try:
            looking = self._reached()
            with looking.translate_errors(), looking.engine.connect() as connection:
                revision = migrate.current(connection)
        except BaseException:
            self._is_there = False
            # Whoever still waits for an answer on an old connection would wait for ever.
            self.give_up()
            raise
        finally:
            if self._looking is not None:
                self._looking.engine.dispose()
        self._is_there = True
        return revision

    def give_up(self) -> None:
        """Break off what waits for an answer of the server, in any thread; it is an error there."""
        began_s = self._began_s
        if began_s is None or time.monotonic() - began_s > _BEGINNING_S:
            for sessions in self._sessions:
                sessions.break_off()

    def close(self) -> None:
        """Close the connections; an embedded server is stopped if no other process uses it, and if it answers.

        One that does not answer is left behind, as after a kill: the next command finds it.
        """
        answered, begins = self._is_there, self._began_s is not None and not self._is_upgraded
        self._is_there, self._is_closed = False, True
        self.give_up()
        for database in (self._database, self._looking):
            if database is not None:
                database.engine.dispose()
        if self._server is None:
            return
        if answered or begins:
            # It may have frozen a moment ago, and then to stop it takes a minute.
            stopping = threading.Thread(target=self._stop, daemon=True)
            stopping.start()
            stopping.join(_MOST_BEGUN_S if begins else _STOPPING_S)
        self._server.leave()

    def _stop(self) -> None:
        assert self._server is not None  # noqa: S101 - only then is it called
        with self._starting:
            self._server.release()

    def _reached(self) -> Database:
        if self._server is None:
            assert self._looking is not None  # noqa: S101 - opened at once
            return self._looking
        self._began_s = time.monotonic()
        try:
            with self._starting:
                return self._started(self._server)
        finally:
            self._began_s = None

    def _started(self, server: EmbeddedServer) -> Database:
        if self._is_closed:
            raise DatabaseUnavailable("nobody looks at the database any more")
        url = server.acquire()
        if self._looking is None or self._looking.url != url:
            self._open(Database(url, None), Database(url, None))
        assert self._looking is not None  # noqa: S101 - just opened
        if not self._is_upgraded and not self._is_closed:
            with self._looking.translate_errors():
                migrate.upgrade(self._looking.engine)
            self._is_upgraded = True
        return self._looking

    def _open(self, database: Database, looking: Database) -> None:
        self._database, self._looking = database, looking
        database.tally = looking.tally = self.tally
        self._sessions = [Sessions(database.engine), Sessions(looking.engine)]


class Sessions:
    """The open sessions of an engine, which can be broken off from another thread.

    A statement on a server that is frozen waits for ever: no time-out of libpq is for that, and the kernel at the other
    end still acknowledges. The end of its socket wakes it. A duplicate of the socket's descriptor is kept, as the
    number of the original may belong to another file by the time it is used.
    """

    def __init__(self, engine: Engine) -> None:
        """Watch an engine from its first session on."""
        self._lock = threading.Lock()
        self._ends: dict[int, socket.socket] = {}
        # Before those listeners of SQLAlchemy that already ask the server something.
        event.listen(engine, "connect", self._opened, insert=True)
        event.listen(engine, "close", self._closed)

    def break_off(self) -> None:
        """End every session; a statement that waits for its answer becomes an error in its thread."""
        with self._lock:
            for end in self._ends.values():
                with suppress(OSError):  # ended by the server already
                    end.shutdown(socket.SHUT_RDWR)

    def _opened(self, session: Any, _record: Any) -> None:
        end = socket.socket(fileno=os.dup(session.fileno()))
        with self._lock:
            self._ends[id(session)] = end

    def _closed(self, session: Any, _record: Any) -> None:
        with self._lock:
            end = self._ends.pop(id(session), None)
        if end is not None:
            end.close()
