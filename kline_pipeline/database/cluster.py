"""The data folder of one embedded server: made, started, stopped; who may do so when is told in embedded.py.

A server listens on a Unix socket only and asks every user for a password. As root the folder is root's, so that nobody
else can put files of their own in the place of ours; in it only data, socket and log belong to the server's user.
"""

import os
import re
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final, Literal

import psycopg

from kline_pipeline.database.binaries import Programs, find, server_user
from kline_pipeline.database.private_files import digest, private_folder, write_private
from kline_pipeline.errors import StorageError

DATABASE: Final = "kline"
OWNER: Final = "kline"
State = Literal["absent", "starting", "ready", "stopping", "unreachable"]
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT: Final = 107
_PLAIN: Final = re.compile(r"[\w/.+=@ -]*")  # drivers split the path of a socket at commas
_BREAKS_PROGRAMS: Final = re.compile(r"[\"$`\\\n]")  # pg_ctl puts paths between double quotes of a shell
_STATUS_LINE: Final = 7  # of postmaster.pid, counted from 0
_START_S: Final = 300  # after a kill the server may have gigabytes of log to replay
_LEFTOVERS_S: Final = 10.0
_SETTINGS: Final = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Cluster:
    """The data folder below `folder`, with its socket and log.

    Attributes:
        folder: of everything but the password.
        data: the data folder; it exists only when it is complete.
        socket: folder of the socket; in /tmp where a path in `folder` would be longer than a socket's may be, or odd.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        inside = folder / "socket"
        fits = len(os.fsencode(inside / _SOCKET_NAME)) <= _SOCKET_PATH_LIMIT and _PLAIN.fullmatch(str(inside))
        # Not the folder of TMPDIR: every process must find the same.
        self.socket = inside if fits else Path("/tmp") / f"kline-{digest(folder)}" / "socket"  # noqa: S108
        self._log = folder / "server.log"
        self._user = server_user()

    @property
    def _programs(self) -> Programs:
        return find(self._user, self.folder)

    def state(self) -> State:
        """Return what the server is doing by its postmaster.pid; unreachable: it runs, and its socket is gone."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = abs(int(lines[0]))  # negative in single-user mode
        except (OSError, ValueError, IndexError):
            return "absent"
        if not self._is_ours(_command(pid)):
            return "absent"
        status = lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else "starting"
        if status == "ready":
            return "ready" if (self.socket / _SOCKET_NAME).exists() else "unreachable"
        return "stopping" if status == "stopping" else "starting"

    def make(self, password: str) -> None:
        """Make the data folder; what a make that was killed has left is thrown away.

        Raises:
            StorageError: initdb failed, or the path breaks the programs.
        """
        if _BREAKS_PROGRAMS.search(str(self.data)):
            raise StorageError(f'PostgreSQL takes no ", $, ` or \\ in the path {self.folder}; set another KLINE_HOME')
        for left in self.folder.glob("data-half-*"):
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own: the initdb of a process that was killed goes on writing.
        half = self.folder / f"data-half-{secrets.token_hex(4)}"
        secret = self.folder / "initial-password"
        programs = self._programs
        half.mkdir(mode=0o700)
        programs.own(half)
        write_private(secret, password)
        programs.own(secret)
        options = ("--username", OWNER, "--pwfile", str(secret), "--auth", "scram-sha-256", "--locale=C")
        settings = [f"--set={name}={value}" for name, value in _SETTINGS.items()]
        made = programs.run("initdb", "-D", str(half), "--encoding=UTF8", *options, *settings)
        secret.unlink()
        if made.returncode != 0:
            raise StorageError(f"the database in {self.folder} could not be made: {_said(made)}")
        half.rename(self.data)

    def change_password(self, password: str) -> None:
        """Give the owner another password; the server must not run.

        Raises:
            StorageError: the server's single-user mode failed.
        """
        self._forget_dead_server()
        statement = f"alter role {OWNER} password '{password}';\n"
        changed = self._programs.run("postgres", "--single", "-D", str(self.data), "postgres", said=statement)
        if changed.returncode != 0:
            raise StorageError(f"the database in {self.folder} got no new password: {_said(changed)}")

    def start(self, password: str) -> None:
        """Start the server and have our database in it.

        Raises:
            StorageError: it does not start; the message has the last line of its log.
        """
        private_folder(self.socket.parent, for_others=self._user is not None)
        with suppress(FileExistsError):
            self.socket.mkdir(mode=0o700)
        self._log.touch(mode=0o600)
        programs = self._programs
        for path in (self.socket, self._log):
            programs.own(path)
        self._forget_dead_server()
        options = f"-c unix_socket_directories='{self.socket}' -c unix_socket_permissions=0700"
        arguments = ("-D", str(self.data), "-l", str(self._log), "-o", options, "-w", "-t", str(_START_S))
        until_s = time.monotonic() + _LEFTOVERS_S
        while (started := programs.run("pg_ctl", "start", *arguments)).returncode != 0:
            # The sessions of a postmaster that was killed end by themselves; until then their memory blocks the next.
            said = self._complaint() or _said(started)
            if self.state() != "absent":  # begun by the pg_ctl of a process that was killed
                self.await_ready()
                break
            if "still in use" not in said or time.monotonic() > until_s:
                raise StorageError(f"the database in {self.folder} did not start: {said} (log: {self._log})")
            time.sleep(0.1)
        self._make_database(password)

    def await_ready(self) -> None:
        """Return when a server that is starting has started, or has given up."""
        until_s = time.monotonic() + _START_S
        while self.state() == "starting" and time.monotonic() < until_s:
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server, sessions or not; nothing happens where none runs."""
        if self.state() != "absent":
            self._programs.run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "60")

    def delete(self) -> None:
        """Delete everything; the server must not run."""
        for folder in (self.socket, self.folder):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            self.socket.parent.rmdir()

    def _is_ours(self, command: list[str]) -> bool:
        """Return whether a command is the server of this folder; in doubt it is, as two would ruin the data."""
        if not command or not Path(command[0]).name.startswith("postgres") or "-D" not in command[:-1]:
            return False
        named = Path(command[command.index("-D") + 1])
        return not named.exists() or named.samefile(self.data)

    def _forget_dead_server(self) -> None:
        """Remove the lock files of a server that is gone while a process has its number.

        That is another program (after a restart of a container) or a dead process that nobody has fetched; PostgreSQL
        would take both for a server. Sessions of a dead server that still live are found by their shared memory.
        """
        if self.state() != "absent":
            return
        for path in (self.data / "postmaster.pid", self.socket / f"{_SOCKET_NAME}.lock"):
            with suppress(OSError, ValueError, IndexError):
                if _exists(abs(int(path.read_text().splitlines()[0]))):
                    path.unlink()

    def _make_database(self, password: str) -> None:
        """Create our database where it is not there yet."""
        try:
            with psycopg.connect(
                host=str(self.socket), user=OWNER, password=password, dbname="postgres", autocommit=True
            ) as session:
                if not session.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
                    session.execute(f"create database {DATABASE}")
        except psycopg.Error as exc:
            raise StorageError(f"the server in {self.folder} refused to make its database: {exc}") from exc

    def _complaint(self) -> str:
        """Return the reason that the log gives for the end of the last start."""
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        reasons = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
        return (reasons or lines or [""])[-1]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command(pid: int) -> list[str]:
    """Return the words of a running process; empty where it is gone or dead."""
    if Path("/proc/self/cmdline").exists():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            return []
        return words.rstrip("\0").split("\0") if words else []
    found = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True)  # noqa: S603
    return found.stdout.split()


def _said(done: CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"it ended with {done.returncode}"
