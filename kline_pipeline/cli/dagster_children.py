"""The children of `up`: Dagster's webserver and daemon, and the ops service; started, watched, stopped with theirs."""

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from kline_pipeline.config import Settings
from kline_pipeline.defs.endings import endings_handled
from kline_pipeline.defs.instance.home import write_dagster_home
from kline_pipeline.errors import KlineError, UsageError
from kline_pipeline.log.daily import begin_anew

_START_S: Final = 120.0
_STOP_S: Final = 15.0
_TITLES: Final = {"webserver": "Dagster's UI", "daemon": "Dagster's daemon", "ops": "the ops service"}
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
        ops_url: of the ops service, None where it is left out.
        processes: by name; each leads a process group of its own.
        logs: folder with a log file per child.
    """

    url: str
    ops_url: str | None
    processes: dict[str, "subprocess.Popen[bytes]"]
    logs: Path

    def watch(self) -> NoReturn:
        """Return never; what ends it comes as KeyboardInterrupt (see `endings_handled` around it).

        Raises:
            KlineError: a child has ended by itself.
        """
        day = datetime.now(UTC).date()
        while True:
            self.check()
            if (today := datetime.now(UTC).date()) != day:
                day = today
                for name in self.processes:
                    begin_anew(self.logs / f"{name}.log")
            time.sleep(0.5)

    def check(self) -> None:
        """Do nothing while all children run.

        Raises:
            KlineError: one has ended by itself.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise KlineError(f"{_TITLES[name]} ended by itself: see {self.logs / f'{name}.log'}")


def check_port(port: int, option: str = "--port") -> None:
    """Do nothing where the port is free.

    Args:
        port: of 127.0.0.1.
        option: by which another one is given.

    Raises:
        UsageError: it is not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise UsageError(f"port {port} cannot be used ({exc.strerror}): give another one with {option}") from exc


@contextmanager
def dagster_children(settings: Settings, port: int, ops_port: int = 0) -> Iterator[DagsterChildren]:
    """Run the webserver, the daemon and the ops service for the length of the block, which begins when both answer.

    Args:
        settings: of the KLINE_HOME.
        port: of the UI on 127.0.0.1.
        ops_port: of the ops service there; 0 leaves it out.

    Raises:
        KlineError: one of them does not start.
    """
    folder, url = write_dagster_home(settings), f"http://127.0.0.1:{port}"
    os.environ["DAGSTER_HOME"] = str(folder)
    if settings.ui_url is None:
        os.environ["KLINE_UI_URL"] = url  # an alert links there
    workspace = folder / "workspace.yaml"
    workspace.write_text(_WORKSPACE)
    form = ["--log-format", "colored" if settings.log_format == "console" else "json"]
    programs = {
        "webserver": ["dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace), *form],
        "daemon": ["dagster._daemon", "run", "-w", str(workspace), *form],
    }
    if ops_port:
        programs["ops"] = ["kline_pipeline.cli", "serve", "--port", str(ops_port)]
    children = DagsterChildren(url, f"http://127.0.0.1:{ops_port}" if ops_port else None, {}, folder)
    try:
        for name, program in programs.items():
            children.processes[name] = _started(program, folder / f"{name}.log")
        _await_answer(children)
        yield children
    finally:
        # A second Ctrl-C must not leave half of them behind.
        with endings_handled(signal.SIG_IGN):
            _stop(children)


def _started(program: list[str], log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "kline_pipeline.cli.dagster_child", str(os.getpid()), *program]
    begin_anew(log)
    with log.open("ab") as output:
        # A group of its own: Ctrl-C reaches this command first, which then stops the children and theirs.
        return subprocess.Popen(  # noqa: S603 - Dagster's programs and ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # A file of the folder in which somebody stands, such as gql.py, is not to be taken for a library.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )


def _await_answer(children: DagsterChildren) -> None:
    _await_page(children, "webserver", f"{children.url}/server_info")
    if children.ops_url is not None:
        _await_page(children, "ops", f"{children.ops_url}/health/live")


def _await_page(children: DagsterChildren, name: str, page: str) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        children.check()
        try:
            with urllib.request.urlopen(page, timeout=2):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.2)
    raise KlineError(f"{_TITLES[name]} does not answer at {page}: see {children.logs / f'{name}.log'}")


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
