"""The simulator as a process beside a command, found by KLINE_HOME/simulated/simulator.json.

Commands that run at the same time share it and the last of them stops it. A command that was killed leaves it behind;
the next one takes it over.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from kline_pipeline.errors import ExchangeUnavailable, StorageError
from kline_pipeline.log.daily import begin_anew

_ANSWER_S: Final = 2.0
_STOP_S: Final = 5.0


@contextmanager
def running_simulator(home: Path) -> Iterator[str]:
    """Give the URL of a simulator that answers while the context lasts.

    Args:
        home: KLINE_HOME/simulated.

    Raises:
        ExchangeUnavailable: it does not start.
        StorageError: the folder cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        users = (home / "simulator.users.lock").open("a")
    except OSError as exc:
        raise StorageError(f"KLINE_HOME {home} cannot be written: {exc.strerror}; set another one") from exc
    with users:
        with _alone(home):
            url = _found(home) or _begun(home)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield url
        finally:
            _leave(home, users)


def stop_simulator(home: Path) -> None:
    """Stop the simulator of a folder, if one runs."""
    if _found(home) is None:
        return
    process_id = int(json.loads(_record(home).read_text())["pid"])
    _record(home).unlink()
    try:
        os.kill(process_id, signal.SIGTERM)
        _await_end(process_id)
    except ProcessLookupError:
        return


def _leave(home: Path, users: IO[str]) -> None:
    with _alone(home):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        stop_simulator(home)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / "simulator.lock").open("a") as turnstile:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        yield


def _record(home: Path) -> Path:
    return home / "simulator.json"


def _found(home: Path) -> str | None:
    try:
        url = str(json.loads(_record(home).read_text())["url"])
        with urllib.request.urlopen(f"{url}/_sim/stats", timeout=_ANSWER_S) as answer:  # noqa: S310 - our own record
            return url if "venue" in json.load(answer) else None
    except (OSError, ValueError, KeyError):
        return None


def _begun(home: Path) -> str:
    log_file = home / "simulator.log"
    begin_anew(log_file)
    with log_file.open("a") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "kline_pipeline.cli", "simulate", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Ctrl-C is for the command, which still needs the exchange to end in order.
            start_new_session=True,
        )
    if child.stdout is None:
        raise ExchangeUnavailable("the simulator has no standard output")
    line = child.stdout.readline()
    child.stdout.close()
    address = next((word for word in line.split() if word.startswith("http://")), None)
    if address is None:
        raise ExchangeUnavailable(f"the simulator did not start: see {log_file}")
    _record(home).write_text(json.dumps({"url": address, "pid": child.pid}))
    return address


def _await_end(process_id: int) -> None:
    until = time.monotonic() + _STOP_S
    while time.monotonic() < until:
        try:
            if os.waitpid(process_id, os.WNOHANG)[0]:
                return
        except ChildProcessError:  # started by another command
            os.kill(process_id, 0)
        time.sleep(0.05)
    os.kill(process_id, signal.SIGKILL)
