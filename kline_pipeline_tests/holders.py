"""Other processes that use the embedded server of a KLINE_HOME, told when to end; what for is told in the tests."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from kline_pipeline.database.binaries import find, may_enter
from kline_pipeline.database.cluster import Cluster
from kline_pipeline.database.embedded import EmbeddedServer

NOBODY: Final = 65534
# The Python of the tests may be where another user cannot go: it is loaded before it becomes that user.
_BEGIN: Final = """
import encodings.idna, os, sys
from pathlib import Path
import psycopg
from kline_pipeline.database.embedded import EmbeddedServer
home = Path(sys.argv[1])
if len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
"""
_DESTROY: Final = "EmbeddedServer(home).destroy()"
# Holds the server until its input ends; its only line is the process number of the server.
_PROGRAM: Final = """
server = EmbeddedServer(home)
server.acquire()
print((server.folder / "data" / "postmaster.pid").read_text().split()[0], flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that holds the embedded server of a KLINE_HOME; a context manager that ends it by itself.

    Attributes:
        process: it.
    """

    def __init__(self, home: Path, program: str = _PROGRAM, *, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-c", _BEGIN + program, str(home), *([] if user is None else [str(user)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def server_pid(self) -> int:
        """Return the process number of the server, once the process holds it."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """Have the process end by itself, and wait for it."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait(timeout=120)

    def die(self, number: int) -> None:
        """Kill the process with a signal, and wait for it."""
        self.process.send_signal(number)
        self.end()


def cluster(home: Path) -> Cluster:
    """Return the data folder of the server of a KLINE_HOME."""
    return Cluster(EmbeddedServer(home).folder)


def users() -> list[int | None]:
    """Return the users that a test can play: ourselves, and as root `nobody` where that can run the programs."""
    others = os.geteuid() == 0 and may_enter(find(None, Path("/")).folder)
    return [None, NOBODY] if others else [None]


@contextmanager
def home_of(user: int | None) -> Iterator[Path]:
    """Give a KLINE_HOME that this user owns and others may enter; its server is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kline-test-", dir="/tmp"))
    folder.chmod(0o755)
    if user is not None:
        os.chown(folder, user, user)
    yield folder / "home"
    with Holder(folder / "home", _DESTROY, user=user) as destroyer:
        destroyer.end()
    shutil.rmtree(folder)
