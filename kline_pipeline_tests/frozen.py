"""A PostgreSQL of a test's own, which it stops, starts and freezes; the one of the session is shared with others."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database.cluster import Cluster
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import connect


class OwnServer:
    """A PostgreSQL with our tables.

    Attributes:
        url: of its database, with the password.
    """

    def __init__(self, home: Path) -> None:
        self._server = EmbeddedServer(home)
        with connect(Settings(BybitSettings(), KlineSettings(home=home))) as database:
            self.url = database.url.render_as_string(hide_password=False)
            self._server.acquire()

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self._server.folder)

    def stop(self) -> None:
        """Stop it."""
        self._cluster.stop()

    def start(self) -> None:
        """Start it again."""
        self._server.acquire()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let none of its processes go on for the length of the block."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def destroy(self) -> None:
        """Stop it and delete its data."""
        self._server.release()
        self._server.destroy()

    def _signal(self, number: signal.Signals) -> None:
        main = int((self._cluster.data / "postmaster.pid").read_text().split()[0])
        for pid in (main, *_children(main)):
            with suppress(ProcessLookupError):  # a session that has just ended
                os.kill(pid, number)


def _children(main: int) -> list[int]:
    """Return the processes that a process has started and that run, as /proc has them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            # pid (name) state parent ...; the name may hold anything
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == main:
                found.append(int(stat.parent.name))
    return found
