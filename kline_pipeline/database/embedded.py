"""The embedded PostgreSQL of one KLINE_HOME, shared by every process of ours: found, started and stopped here.

Each process holds a shared lock on KLINE_HOME/postgres.lock while it lives; the one that gets it exclusively at its exit
stops the server. Whoever starts or stops does so under KLINE_HOME/postgres.start.lock. After a kill -9 the server is
still there, and the next process finds it: postmaster.pid is the truth. It listens on a Unix socket only, with a password
that only the owner of KLINE_HOME can read.
"""

import atexit
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from kline_pipeline.database.binaries import Programs, find, may_enter, server_user
from kline_pipeline.errors import StorageError

_SOCKET_NAME: Final = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT: Final = 107
_DATABASE: Final = "kline"
_OWNER: Final = "kline"
_SETTINGS: Final = """
listen_addresses = ''
shared_buffers = 256MB
max_wal_size = 4GB
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
"""


class EmbeddedServer:
    """The embedded server of one KLINE_HOME, as one process sees it.

    Attributes:
        home: of the server.
        folder: where its data, socket and log are; elsewhere than in `home` where its user cannot enter that.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._user = server_user()
        inside = self._user is None or may_enter(home)
        self.folder = home / "postgres" if inside else _outside(home)
        self._data = self.folder / "data"
        self._socket = _socket_folder(self.folder)
        self._lock: int | None = None
        self._guard = threading.Lock()

    def describe(self) -> str:
        """Return where the server is, for people."""
        return f"embedded PostgreSQL in {self.folder}"

    @property
    def url(self) -> URL:
        """URL of our database, with the password.

        Raises:
            StorageError: the server was never started.
        """
        try:
            password = (self.home / "postgres.password").read_text().strip()
        except OSError as exc:
            raise StorageError(f"the password of the {self.describe()} cannot be read: {exc.strerror}") from exc
        return URL.create("postgresql", _OWNER, password, database=_DATABASE, query={"host": str(self._socket)})

    def acquire(self) -> URL:
        """Hold the server for the life of this process, started if it does not run, and return its URL.

        Raises:
            StorageError: it cannot be started; the message has the last line of its log.
        """
        self._make_home()
        with self._guard, self._starting():
            if self._lock is None:
                self._lock = os.open(self.home / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_SH)
                atexit.register(self.release)
            programs = find(self._user, self.folder)
            if not self._runs(programs):
                self._prepare(programs)
                self._start(programs)
        return self.url

    def release(self) -> None:
        """Give the server up; the last process to do so stops it."""
        with self._guard:
            if self._lock is None:
                return
            atexit.unregister(self.release)
            with self._starting():
                self._stop_if_last(self._lock)
            os.close(self._lock)
            self._lock = None

    def stop(self) -> bool:
        """Stop the server if no process uses it, and return whether it is stopped now."""
        if not (self.home / "postgres.lock").exists():
            return True
        lock = os.open(self.home / "postgres.lock", os.O_RDWR)
        try:
            with self._starting():
                return self._stop_if_last(lock)
        finally:
            os.close(lock)

    def destroy(self) -> None:
        """Stop the server and delete its data.

        Raises:
            StorageError: a process still uses it.
        """
        if not self.stop():
            raise StorageError(f"the {self.describe()} is in use; stop what runs on {self.home} first")
        for folder in (self.folder, self._socket):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("postgres.password", "postgres.lock", "postgres.start.lock"):
            (self.home / name).unlink(missing_ok=True)

    def _make_home(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageError(f"KLINE_HOME {self.home} cannot be made: {exc.strerror}; set another one") from exc

    @contextmanager
    def _starting(self) -> Iterator[None]:
        try:
            lock = os.open(self.home / "postgres.start.lock", os.O_RDWR | os.O_CREAT, 0o600)
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
        programs = find(self._user, self.folder)
        if self._runs(programs):
            programs.run("pg_ctl", "stop", "-D", str(self._data), "-m", "fast", "-w", "-t", "60")
        return not self._runs(programs)

    def _runs(self, programs: Programs) -> bool:
        if not (self._data / "postmaster.pid").exists():
            return False
        return programs.run("pg_ctl", "status", "-D", str(self._data)).returncode == 0

    def _prepare(self, programs: Programs) -> None:
        """Make the cluster where there is none; a first start that was killed half-way begins anew."""
        for folder in (self.folder, self._socket):
            _private_folder(folder)
            programs.own(folder)
        if (self._data / "PG_VERSION").exists() and (self.home / "postgres.password").exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)
        password = secrets.token_urlsafe(24)
        secret = self.folder / "initial-password"
        _write_private(secret, password)
        programs.own(secret)
        options = ("--username", _OWNER, "--pwfile", str(secret), "--auth", "scram-sha-256")
        made = programs.run("initdb", "-D", str(self._data), "--encoding=UTF8", "--locale=C", *options)
        secret.unlink()
        if made.returncode != 0:
            raise StorageError(f"the {self.describe()} could not be made: {_last_line(made.stderr)}")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        _write_private(self.home / "postgres.password", password)

    def _start(self, programs: Programs) -> None:
        log = self.folder / "server.log"
        socket = f"-c unix_socket_directories='{self._socket}' -c unix_socket_permissions=0700"
        arguments = ("-D", str(self._data), "-l", str(log), "-o", socket, "-w", "-t", "300")
        started = programs.run("pg_ctl", "start", *arguments, log=log)
        if started.returncode != 0:
            said = _last_line(log.read_text(errors="replace")) if log.exists() else "no log was written"
            raise StorageError(f"the {self.describe()} did not start: {said} (log: {log})")
        self._make_database(programs)

    def _make_database(self, programs: Programs) -> None:
        """Create our database at the first start, through psql as the server's user with the password file."""
        url = self.url.set(database="postgres")
        pass_file = self.folder / "pass-file"
        _write_private(pass_file, f"*:*:*:{_OWNER}:{url.password}\n")
        programs.own(pass_file)
        connection = f"host={self._socket} user={_OWNER} dbname=postgres passfile={pass_file}"
        found = programs.run("psql", "-XAtc", f"select 1 from pg_database where datname = '{_DATABASE}'", connection)
        made = found
        if found.returncode == 0 and not found.stdout.strip():
            made = programs.run("psql", "-XAtqc", f"create database {_DATABASE}", connection)
        pass_file.unlink()
        if made.returncode != 0:
            raise StorageError(f"the {self.describe()} refused to make its database: {_last_line(made.stderr)}")


def _outside(home: Path) -> Path:
    """Return the folder of a server whose user cannot enter KLINE_HOME: one per KLINE_HOME, below /var/tmp."""
    return Path("/var/tmp") / f"kline-pipeline-{_digest(home)}"  # noqa: S108 - made with mode 0700 and checked


def _socket_folder(folder: Path) -> Path:
    inside = folder / "socket"
    if len(os.fsencode(inside / _SOCKET_NAME)) <= _SOCKET_PATH_LIMIT:
        return inside
    return Path(tempfile.gettempdir()) / f"kline-{_digest(folder)}"


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _private_folder(folder: Path) -> None:
    """Make a folder that only its owner enters; refuse one that somebody else has put there.

    Raises:
        StorageError: it cannot be made, or is another user's.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or status.st_uid not in {os.geteuid(), server_user()}:
            raise StorageError(f"{folder} belongs to another user; remove it or set another KLINE_HOME")
        folder.chmod(0o700)
    except OSError as exc:
        raise StorageError(f"{folder} cannot be made: {exc.strerror}; set another KLINE_HOME") from exc


def _write_private(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
