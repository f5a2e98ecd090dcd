"""Dagster's webserver and daemon as children of `up`: started, watched, and stopped with everything they started."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.home import write_dagster_home
from kline_pipeline.errors import KlineError, UsageError

_START_S: Final = 120.0
_STOP_S: Final = 15.0
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM)
# The name is part of what a run remembers: with another one its runs could not be executed again (dagster.md 8).
_WORKSPACE: Final = """load_from:
  - python_module:
      module_name: kline_pipeline.definitions
      location_name: kline_pipeline
"""


@dataclass(frozen=True, slots=True)
class DagsterChildren:
    """The running children.

    Attributes:
        url: of the UI.
        processes: by name; each leads a process group of its own.
        logs: folder with a log file per child.
    """

    url: str
    processes: dict[str, "subprocess.Popen[bytes]"]
    logs: Path

    def watch(self) -> NoReturn:
        """Return never; what ends it comes as KeyboardInterrupt (see `interruptible`).

        Raises:
            KlineError: a child has ended by itself.
        """
        while True:
            self.check()
            time.sleep(0.5)

    def check(self) -> None:
        """Do nothing while all children run.

        Raises:
            KlineError: one has ended by itself.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise KlineError(f"Dagster's {name} ended by itself: see {self.logs / f'{name}.log'}")


def check_port(port: int) -> None:
    """Do nothing where the port is free.

    Raises:
        UsageError: it is not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise UsageError(f"port {port} cannot be used ({exc.strerror}): give another one with --port") from exc


@contextmanager
def dagster_children(settings: Settings, port: int) -> Iterator[DagsterChildren]:
    """Run the webserver and the daemon for the length of the block, which begins when the UI answers.

    Raises:
        KlineError: one of them does not start.
    """
    folder, url = write_dagster_home(settings), f"http://127.0.0.1:{port}"
    os.environ["DAGSTER_HOME"] = str(folder)
    if settings.ui_url is None:
        os.environ["KLINE_UI_URL"] = url  # an alert links there
    workspace = folder / "workspace.yaml"
    workspace.write_text(_WORKSPACE)
    programs = {
        "webserver": ["dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace)],
        "daemon": ["dagster._daemon", "run", "-w", str(workspace)],
    }
    children = DagsterChildren(url, {}, folder)
    try:
        for name, program in programs.items():
            children.processes[name] = _started(program, folder / f"{name}.log")
        _await_answer(children)
        yield children
    finally:
        # A second Ctrl-C must not leave half of them behind.
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in _ENDINGS]
        _stop(children)
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGINT raise KeyboardInterrupt in the block, also where a shell began us with SIGINT ignored."""
    before = [(number, signal.signal(number, _interrupt)) for number in _ENDINGS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _started(program: list[str], log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "kline_pipeline.cli.dagster_child", str(os.getpid()), *program]
    with log.open("ab") as output:
        # A group of its own: Ctrl-C reaches this command first, which then stops the children and theirs.
        return subprocess.Popen(  # noqa: S603 - Dagster's own programs
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _await_answer(children: DagsterChildren) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        children.check()
        try:
            with urllib.request.urlopen(f"{children.url}/server_info", timeout=2):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.2)
    raise KlineError(f"Dagster's UI does not answer at {children.url}: see {children.logs / 'webserver.log'}")


def _stop(children: DagsterChildren) -> None:
    for process in children.processes.values():
        _signal_group(process, signal.SIGINT)
    until = time.monotonic() + _STOP_S
    for process in children.processes.values():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, until - time.monotonic()))
    for process in children.processes.values():  # also what a child has left behind
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
