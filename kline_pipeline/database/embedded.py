"""The embedded PostgreSQL of one KLINE_HOME, shared by every process of ours; how it is run is told in cluster.py.

Each process holds a shared lock on KLINE_HOME/postgres.lock while it lives; the one that gets it exclusively at its
exit stops the server. Whoever starts or stops does so under KLINE_HOME/postgres.start.lock. After a kill -9 the server
is still there, and the next process finds it: postmaster.pid is the truth. The password is in KLINE_HOME, where only
the owner can read it.
"""

import atexit
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import SubprocessError
from typing import Final

from sqlalchemy import URL

from kline_pipeline.database.binaries import may_enter, server_user
from kline_pipeline.database.cluster import DATABASE, OWNER, Cluster
from kline_pipeline.database.private_files import digest, private_folder, write_private
from kline_pipeline.errors import StorageError

_LOCK: Final = "postgres.lock"
_START_LOCK: Final = "postgres.start.lock"
_PASSWORD: Final = "postgres.password"  # noqa: S105 - the name of a file


class EmbeddedServer:
    """The embedded server of one KLINE_HOME, as one process sees it.

    Attributes:
        home: of the server.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self._lock: int | None = None
        self._owner = 0
        self._guard = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where its data, socket and log are: in `home`, or below /var/tmp where its user cannot enter that."""
        inside = self.home / "postgres"
        if server_user() is None or (inside / "data").exists() or may_enter(self.home):
            return inside
        return Path("/var/tmp") / f"kline-pipeline-{digest(self.home)}"  # noqa: S108 - checked to be ours

    @property
    def exists(self) -> bool:
        """It was started once."""
        return (self.home / _LOCK).exists()

    def describe(self) -> str:
        """Return where the server is, for people."""
        cluster = self._cluster
        elsewhere = "" if cluster.socket.is_relative_to(cluster.folder) else f", its socket in {cluster.socket}"
        return f"embedded PostgreSQL in {cluster.folder}{elsewhere}"

    @property
    def url(self) -> URL:
        """URL of our database, with the password.

        Raises:
            StorageError: the server was never started.
        """
        host = {"host": str(self._cluster.socket)}
        return URL.create("postgresql", OWNER, self._password(), database=DATABASE, query=host)

    def acquire(self) -> URL:
        """Hold the server for the life of this process, started if it does not run, and return its URL.

        Raises:
            StorageError: it cannot be started; the message has the last line of its log.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageError(f"KLINE_HOME {self.home} cannot be made: {exc.strerror}; set another one") from exc
        with self._guard, self._starting(), ExitStack() as on_failure:
            is_new = not self.exists
            if self._lock is None:
                on_failure.callback(os.close, self._hold())
                on_failure.callback(self._forget)
            try:
                self._run(self._cluster, is_new=is_new)
            except (OSError, SubprocessError) as exc:
                advice = "free what it names, or set KLINE_DATABASE_URL to a server of your own"
                raise StorageError(f"the {self.describe()} cannot be used: {exc}; {advice}") from exc
            on_failure.pop_all()
        return self.url

    def release(self) -> None:
        """Give the server up; the last process to do so stops it."""
        with self._guard:
            if self._lock is None:
                return
            # A forked child shares the lock of its parent and must not give it up.
            if self._owner == os.getpid():
                with self._starting():
                    self._stop_if_last(self._lock)
            os.close(self._lock)
            self._forget()

    def leave(self) -> None:
        """Give the server up as a kill would, without stopping it and without waiting; the next process finds it.

        For one that does not answer: to stop it would take a minute. A thread may be in `acquire` meanwhile.
        """
        lock, owner = self._lock, self._owner
        self._forget()
        if lock is not None and owner == os.getpid():
            os.close(lock)

    def stop(self) -> bool:
        """Stop the server if no process uses it, and return whether it is stopped now."""
        if not self.exists:
            return True
        lock = os.open(self.home / _LOCK, os.O_RDWR)
        try:
            with self._starting():
                return self._stop_if_last(lock)
        finally:
            os.close(lock)

    def users(self) -> list[int]:
        """Return the ids of the processes that use the server; empty where none does or the system does not tell."""
        try:
            inode = (self.home / _LOCK).stat().st_ino
            locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        except OSError:
            return []
        # 1: FLOCK  ADVISORY  READ 1271 fe:00:1581105 0 EOF; a waiting lock has an arrow in the second field.
        held = [words for words in locks if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode)]
        return sorted({int(words[4]) for words in held})

    def destroy(self) -> None:
        """Stop the server and delete its data.

        Raises:
            StorageError: a process still uses it.
        """
        if not self.stop():
            raise StorageError(f"the {self.describe()} is in use; stop what runs on {self.home} first")
        self._cluster.delete()
        for name in (_PASSWORD, _LOCK, _START_LOCK):
            (self.home / name).unlink(missing_ok=True)

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self.folder)

    def _password(self) -> str:
        try:
            return (self.home / _PASSWORD).read_text().strip()
        except OSError as exc:
            raise StorageError(f"the password of the {self.describe()} cannot be read: {exc.strerror}") from exc

    def _hold(self) -> int:
        self._lock = os.open(self.home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        self._owner = os.getpid()
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        atexit.register(self.release)
        return self._lock

    def _forget(self) -> None:
        self._lock = None
        atexit.unregister(self.release)

    @contextmanager
    def _starting(self) -> Iterator[None]:
        try:
            lock = os.open(self.home / _START_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # KLINE_HOME was deleted: nobody can start or stop anything there
            yield
            return
        except OSError as exc:
            raise StorageError(f"KLINE_HOME {self.home} cannot be written: {exc.strerror}; set another one") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _stop_if_last(self, lock: int) -> bool:
        fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        cluster = self._cluster
        cluster.stop()
        return cluster.state() == "absent"

    def _run(self, cluster: Cluster, *, is_new: bool) -> None:
        """Have the server running and its password known.

        Args:
            cluster: of this KLINE_HOME.
            is_new: nobody has used this KLINE_HOME yet; a data folder elsewhere is of one that was deleted.
        """
        private_folder(cluster.folder, for_others=server_user() is not None)
        cluster.await_ready()
        knows = (self.home / _PASSWORD).exists()
        if cluster.state() == "ready" and knows:
            return
        cluster.stop()
        if is_new and not cluster.folder.is_relative_to(self.home):
            cluster.delete()
            private_folder(cluster.folder, for_others=True)
        if not cluster.data.exists():
            self._renew_password(cluster.make)
        elif not knows:
            self._renew_password(cluster.change_password)
        cluster.start(self._password())

    def _renew_password(self, tell: Callable[[str], None]) -> None:
        """Choose a password, tell it to the server and keep it; a kill in between leaves none to the next start."""
        (self.home / _PASSWORD).unlink(missing_ok=True)
        password = secrets.token_urlsafe(24)
        tell(password)
        write_private(self.home / _PASSWORD, password)
