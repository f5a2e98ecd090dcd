"""The worker processes of range runs: forked from one server process that has Dagster loaded; their work: runs_worker.

Loading Dagster takes a second or two of CPU. The server begins with that when `prepare_workers` is called, while the
command still looks at its arguments, and each worker is a fork of it that has everything at once. Nothing that depends
on the environment may be loaded there: workers get the environment of their parent when they are started.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

# All that kline_pipeline.definitions imports; that module itself reads the settings.
LOADED: Final = (
    "kline_pipeline.defs.runs_worker",
    "kline_pipeline.defs.assets",
    "kline_pipeline.defs.checks",
    "kline_pipeline.defs.resources",
    *(
        f"kline_pipeline.defs.automation.{name}"
        for name in ("alerts", "asking_again", "follow", "housekeeping", "jobs", "left_behind", "schedules")
    ),
    *("httpcore", "numpy.ma", "psycopg2", "upath"),  # which httpx, numpy and Dagster load when they first need them
)


def prepare_workers() -> None:
    """Start the server process where it does not run yet; returns at once, while it loads."""
    with ctrl_c_held_back():
        forkserver.set_forkserver_preload(["kline_pipeline.defs.runs_loaded"])
        forkserver.ensure_running()


def start_worker(log_file: Path) -> tuple[BaseProcess, Connection]:
    """Start a worker, and return it with our end of its pipe.

    Args:
        log_file: gets what the worker writes to standard output and error.
    """
    prepare_workers()
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(theirs, log_file, dict(os.environ), str(Path.cwd())), daemon=True)
    with ctrl_c_held_back():
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Hold SIGINT back until the end of the block; a process started inside never hears it.

    A worker leaves the group of the terminal as its first act; until then Ctrl-C would break it off with a traceback
    over the progress bar.
    """
    resource_tracker.ensure_running()  # started by the first process, it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(connection: Connection, log_file: Path, environment: Mapping[str, str], folder: str) -> None:
    from kline_pipeline.defs.runs_worker import work  # noqa: PLC0415 - heavy, and loaded where this runs

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    time.tzset()
    work(connection, log_file)
