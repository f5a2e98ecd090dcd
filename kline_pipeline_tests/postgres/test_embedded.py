"""The embedded server is started once, shared, found again after any kill, and stopped by the last process."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from kline_pipeline.database import binaries
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.errors import StorageError
from kline_pipeline_tests.holders import Holder, cluster, home_of, users


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A KLINE_HOME that was used before, its server at rest; as root no other user may enter it."""
    home = tmp_path_factory.mktemp("used") / "home"
    yield home
    EmbeddedServer(home).destroy()


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    """A KLINE_HOME that does not exist yet."""
    yield tmp_path / "home"
    EmbeddedServer(tmp_path / "home").destroy()


def query(server: EmbeddedServer, statement: str) -> object:
    engine = create_engine(server.url.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        value = result.scalar() if result.returns_rows else None
    engine.dispose()
    return value


@pytest.mark.parametrize("user", users())
def test_the_last_of_two_processes_stops_the_server(user: int | None) -> None:
    with home_of(user) as home:
        with Holder(home, user=user) as first, Holder(home, user=user) as second:
            assert first.server_pid() == second.server_pid()
            first.end()
            assert cluster(home).state() == "ready"

        assert cluster(home).state() == "absent"


def test_eight_first_starts_at_once_make_one_server(new_home: Path) -> None:
    with ExitStack() as stack:
        holders = [stack.enter_context(Holder(new_home)) for _ in range(8)]
        servers = {holder.server_pid() for holder in holders}
        assert len(servers) == 1

    assert cluster(new_home).state() == "absent"


def test_eight_ends_at_once_stop_the_server(home: Path) -> None:
    with ExitStack() as stack:
        holders = [stack.enter_context(Holder(home)) for _ in range(8)]
        for holder in holders:
            holder.server_pid()
        for holder in holders:
            assert holder.process.stdin is not None
            holder.process.stdin.close()
        for holder in holders:
            assert holder.process.wait(120) == 0

    assert cluster(home).state() == "absent"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_of_a_killed_process_is_used_again(home: Path, number: signal.Signals) -> None:
    with Holder(home) as killed:
        left = killed.server_pid()
        killed.die(number)
    assert cluster(home).state() == "ready"

    with Holder(home) as following:
        assert following.server_pid() == left

    assert cluster(home).state() == "absent"


def test_a_server_that_was_killed_is_started_again_with_what_was_committed(home: Path) -> None:
    server = EmbeddedServer(home)
    with Holder(home) as holder:
        killed = holder.server_pid()
        query(server, "drop table if exists kept; create table kept as select 42 as value")
        os.kill(killed, signal.SIGKILL)
        holder.die(signal.SIGKILL)

    server.acquire()

    assert query(server, "select value from kept") == 42
    server.release()
    assert cluster(home).state() == "absent"


@pytest.mark.parametrize("dead", [False, True])
def test_a_process_number_that_another_or_a_dead_process_has_is_no_server(home: Path, dead: bool) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    pid_file = cluster(home).data / "postmaster.pid"
    stale = pid_file.read_text().splitlines()[1:]
    server.release()
    with subprocess.Popen(["/bin/sleep", "600"]) as program:
        pid_file.write_text("\n".join([str(program.pid), *stale]) + "\n")
        shutil.chown(pid_file, cluster(home).data.stat().st_uid)
        if dead:  # and not fetched by its parent, which is this process
            program.kill()

        server.acquire()

        assert query(server, "select 1") == 1
        server.release()
        assert dead or program.poll() is None
        program.kill()


def test_a_server_whose_socket_was_cleaned_away_is_started_again(home: Path) -> None:
    server = EmbeddedServer(home)
    with Holder(home) as killed:
        killed.server_pid()
        killed.die(signal.SIGKILL)
    shutil.rmtree(cluster(home).socket)

    server.acquire()

    assert query(server, "select 1") == 1
    server.release()


@pytest.mark.parametrize("runs", [True, False])
def test_a_lost_password_is_renewed_and_the_data_stay(home: Path, runs: bool) -> None:
    server = EmbeddedServer(home)
    with Holder(home) as holder:
        holder.server_pid()
        query(server, "drop table if exists kept; create table kept as select 42 as value")
        if runs:
            holder.die(signal.SIGKILL)
    (home / "postgres.password").unlink()

    server.acquire()

    assert query(server, "select value from kept") == 42
    server.release()


def test_a_home_that_was_deleted_under_its_server_begins_anew(new_home: Path) -> None:
    server = EmbeddedServer(new_home)
    with Holder(new_home) as holder:
        left = holder.server_pid()
        query(server, "create table gone as select 42 as value")
        holder.die(signal.SIGKILL)
    shutil.rmtree(new_home)

    server.acquire()

    assert query(server, "select to_regclass('gone')::text") is None
    server.release()
    if cluster(new_home).folder.is_relative_to(new_home):  # a server whose data were deleted notices within a minute
        os.kill(left, signal.SIGKILL)


def test_a_start_that_was_killed_half_way_begins_anew(new_home: Path) -> None:
    server = EmbeddedServer(new_home)
    server.acquire()
    server.release()
    (new_home / "postgres.password").unlink()
    data = cluster(new_home).data
    (data / "global" / "pg_control").unlink()
    data.rename(data.with_name("data-half-of-before"))

    server.acquire()

    assert query(server, "select 1") == 1
    server.release()


def test_no_user_but_the_owner_gets_in(home: Path) -> None:
    server = EmbeddedServer(home)
    url = server.acquire()
    found = cluster(home)

    assert (home / "postgres.password").stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o077 for path in (found.data, found.socket)} == {0}
    rules = [line.split() for line in (found.data / "pg_hba.conf").read_text().splitlines() if line.strip()]
    assert {rule[-1] for rule in rules if not rule[0].startswith("#")} == {"scram-sha-256"}
    stranger = create_engine(url.set(drivername="postgresql+psycopg", password="guessed"))
    with pytest.raises(Exception, match="password authentication failed"), stranger.connect():
        pass
    server.release()


def test_a_folder_that_another_user_has_put_there_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home = tmp_path / "home"
    server = EmbeddedServer(home)
    home.mkdir()
    server.folder.symlink_to(elsewhere)

    with pytest.raises(StorageError, match="belongs to another user"):
        server.acquire()

    server.release()
    server.folder.unlink()


@pytest.mark.parametrize("name", ["a" * 120, "o'neill, and b"])
def test_a_path_that_no_socket_can_have_puts_the_socket_elsewhere(name: str) -> None:
    with home_of(None) as open_home:
        server = EmbeddedServer(open_home / name)
        server.acquire()

        assert query(server, "select 1") == 1
        assert server.folder == open_home / name / "postgres"
        assert "its socket in /tmp/kline-" in server.describe()
        server.release()
        server.destroy()
        assert not cluster(open_home / name).socket.parent.exists()


def test_a_server_in_use_is_neither_stopped_nor_deleted_and_its_users_are_named(home: Path) -> None:
    server = EmbeddedServer(home)
    with Holder(home) as holder:
        holder.server_pid()

        assert not server.stop()
        with pytest.raises(StorageError, match="is in use"):
            server.destroy()
        if Path("/proc/locks").exists():
            assert server.users() == [holder.process.pid]
        assert cluster(home).state() == "ready"


def test_a_forked_child_does_not_give_up_the_server_of_its_parent(home: Path) -> None:
    program = """
server = EmbeddedServer(home)
server.acquire()
if os.fork() == 0:
    sys.exit(0)
os.wait()
print(int(EmbeddedServer(home).stop()), flush=True)
"""
    with Holder(home, program) as holder:
        assert holder.server_pid() == 0

    assert cluster(home).state() == "absent"


def test_copied_programs_find_their_libraries(tmp_path: Path) -> None:
    install = binaries.find(None, tmp_path).folder.parent

    copy = binaries._copied(install.parent, install, tmp_path)

    for program in ("postgres", "initdb", "pg_ctl", "psql"):
        assert binaries.Programs(copy / "bin", None).run(program, "--version").returncode == 0


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"KLINE_HOME .* cannot be made: Not a directory; set another one"):
        EmbeddedServer(tmp_path / "file" / "home").acquire()


def test_a_folder_that_cannot_be_used_is_said(new_home: Path) -> None:
    server = EmbeddedServer(new_home)
    server.acquire()
    server.release()
    cluster(new_home).data.rename(cluster(new_home).folder / "moved")
    (cluster(new_home).folder / "initial-password").mkdir()

    with pytest.raises(StorageError, match=r"cannot be used: .*initial-password.*; free what it names"):
        server.acquire()

    server.release()


def test_the_programs_are_those_of_the_wheel_in_this_environment() -> None:
    assert binaries.find(None, Path("/")).folder.is_relative_to(sys.prefix)
