"""Commands as processes of their own, as a terminal runs them: started, awaited by what they say, stopped."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# On two busy cores Dagster's first answer takes some ten seconds.
_START_S = 120.0
_STOP_S = 60.0


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a command that lives in `home`: nothing else of ours is set but `variables`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KLINE_", "BYBIT_", "DAGSTER_"))}
    return {**clean, "KLINE_HOME": str(home), **variables}


def command(*arguments: str) -> list[str]:
    """Return the command line of kline-pipeline under the Python of the tests."""
    return [sys.executable, "-m", "kline_pipeline.cli", *arguments]


def run(env: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, without a terminal."""
    return subprocess.run(
        command(*arguments), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@contextmanager
def running(env: Mapping[str, str], *arguments: str, says: str, ends_by: signal.Signals) -> Iterator[str]:
    """Run a command for the length of the block, from the line that contains `says`, which is given.

    Raises:
        AssertionError: it ended before it said so, or does not end by the signal.
    """
    process = subprocess.Popen(
        command(*arguments),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    guard = threading.Timer(_START_S, process.kill)
    guard.start()
    told: list[str] = []
    line = ""
    for line in process.stdout:
        told.append(line)
        if says in line:
            break
    guard.cancel()
    rest = threading.Thread(target=process.stdout.read)  # a full pipe would stop the command
    rest.start()
    try:
        assert says in line, f"{arguments} ended: {''.join(told)}"
        yield line.strip()
        assert process.poll() is None, f"{arguments} ended by itself"
    finally:
        process.send_signal(ends_by)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            rest.join()
            process.stdout.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
