"""The worker process that executes range runs one after the other; who gets which run is decided in runs.py.

Two runs in threads of one process deadlock in Dagster's logging (dagster.md 8), so each worker is a process that lives
as long as there are runs. It ends when the command does, and with it the process that workers are forked from: the
kernel kills it on Linux, and everywhere the end of the pipe ends it.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from dagster import AssetKey, DagsterInstance, DagsterRun, EventLogEntry
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.instance.orphans import close_orphans, hold_run_lock, process_tags
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.location import LOCATION_NAME
from kline_pipeline.defs.marks import read_pages
from kline_pipeline.defs.outcomes import parse_partition, read_outcome
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.run_lines import prepare, run_lines
from kline_pipeline.defs.run_messages import BreakOff, LastWords, Message, Preparation, Prepared, RunOutcome, Task
from kline_pipeline.defs.runs_selection import record_selected_run
from kline_pipeline.defs.symbols import known_with
from kline_pipeline.errors import KlineError
from kline_pipeline.evidence.fetch_stats import flush_all
from kline_pipeline.log.redaction import redaction
from kline_pipeline.market.arrow import leave_pandas_alone

logger: Final = logging.getLogger(__name__)
_PROGRESS: Final = "PROGRESS "
_WAITING: Final = "WAITING "
_PR_SET_PDEATHSIG: Final = 1


def work(connection: Connection, log_file: Path) -> None:
    """Do the tasks that come through `connection` until None comes; the body of a worker process.

    Args:
        connection: Preparation, Task or None comes in, Prepared, Message and LastWords go out.
        log_file: gets what is written to standard output and error, which belong to the parent's progress bar.
    """
    _die_with_parent()
    _write_to(log_file)
    leave_pandas_alone()
    tasks: SimpleQueue[Preparation | Task | None] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), name="tasks", daemon=True).start()
    settings, turn = Settings.load(), threading.Lock()
    prepare(settings)

    def send(message: Message) -> None:
        with turn:  # progress may come from threads of a step
            connection.send(message)

    try:
        with open_instance(settings, keep_output=False) as instance, connect(settings, migrate=False) as database:
            job = load_job()
            while (task := tasks.get()) is not None:
                if isinstance(task, Preparation):
                    connection.send(_prepare(task, settings, instance, database))
                    continue
                outcome = _execute(task, job, instance, database, send)
                send(Message(task.number, "finished", outcome.run_id, outcome=outcome))
    except Exception as exc:
        logger.exception("worker broke off")
        with turn:
            connection.send(LastWords(_told(exc)))
        sys.exit(1)


def _prepare(asked: Preparation, settings: Settings, instance: DagsterInstance, database: Database) -> Prepared:
    """Close runs whose process is gone, and let Dagster know every symbol; what fails is told in a sentence."""
    try:
        closed = close_orphans(settings, instance, database)
        known = {dataset.name: known_with(instance, dataset, symbols) for dataset, symbols in asked.symbols}
    except Exception as exc:
        logger.exception("runs could not be prepared")
        return Prepared(error=_told(exc))
    return Prepared(tuple(closed), known)


def load_job() -> ReconstructableJob:
    """Return the job that has every asset of the definitions."""
    pointer = CodePointer.from_module("kline_pipeline.definitions", "defs", str(Path.cwd()))
    return ReconstructableRepository(pointer).get_reconstructable_job("__ASSET_JOB")


def create_run(
    instance: DagsterInstance, job: ReconstructableJob, run: RangeRun, assets: tuple[str, ...] = ()
) -> DagsterRun:
    """Record a run that this process will execute; the UI can re-execute it, the daemon does not retry it."""
    run_id = make_new_run_id()
    tags = {**process_tags(run_id), "dagster/max_retries": "0"}
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return record_run(instance, job, run, assets, run_id=run_id, tags=tags, run_config=quiet)


def record_run(
    instance: DagsterInstance,
    job: ReconstructableJob,
    run: RangeRun,
    assets: tuple[str, ...] = (),
    *,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> DagsterRun:
    """Record a run that is not started, as the UI would, with tags and config besides."""
    definition = job.get_definition()
    location = RegisteredCodeLocationOrigin(LOCATION_NAME)
    keys = {key for key in definition.asset_layer.executable_asset_keys if _belongs(key, run.dataset, assets)}
    return record_selected_run(
        instance,
        definition,
        keys,
        run_id=run_id or make_new_run_id(),
        tags={**definition.run_tags, **run.range_tags, **(tags or {})},
        run_config=run_config,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), definition.name),
        job_code_origin=job.get_python_origin(),
    )


def _execute(
    task: Task,
    job: ReconstructableJob,
    instance: DagsterInstance,
    database: Database,
    send: Callable[[Message], None],
) -> RunOutcome:
    run_id = ""
    try:
        created = create_run(instance, job, task.run, task.assets)
        run_id = created.run_id
        send(Message(task.number, "started", run_id))
        instance.add_event_listener(run_id, lambda entry: _tell_progress(entry, task.number, send))
        with hold_run_lock(database, run_id), run_lines(run_id, job=created.job_name, partitions=len(task.run.cells)):
            for _ in execute_run_iterator(job, created, instance):
                pass
            return _concluded(instance, task, run_id)
    except Exception as exc:
        logger.exception("run broke off", extra={"run_id": run_id})
        error = f"the run broke off: {_told(exc)}"
        left = instance.get_run_by_id(run_id) if run_id else None
        if left is not None and not left.is_finished:
            instance.report_run_failed(left, error)
        return RunOutcome(task.run, run_id, "failed", error=error)


def _concluded(instance: DagsterInstance, task: Task, run_id: str) -> RunOutcome:
    outcome = read_outcome(instance, task.run, run_id)
    level = logging.INFO if outcome.success else logging.ERROR
    fields = {"status": outcome.status, "dataset": task.run.dataset.name, "error": outcome.error}
    logger.log(level, "run through", extra=fields)
    return outcome


def _told(exc: Exception) -> str:
    if isinstance(exc, KlineError):
        return redaction().text(str(exc))
    # Of a statement that failed the first line says why; the statement itself is in the log.
    return redaction().text(f"{type(exc).__name__}: {str(exc).partition(chr(10))[0]}")


def _belongs(key: AssetKey, dataset: Dataset, assets: tuple[str, ...]) -> bool:
    return list(key.path[:-1]) == [dataset.category, dataset.interval.code] and (not assets or key.path[-1] in assets)


def _tell_progress(entry: EventLogEntry, number: int, send: Callable[[Message], None]) -> None:
    """Send on a log line `PROGRESS <asset> <date>|<symbol> <json>`, `WAITING <sentence>`, or one of pages."""
    if (pages := read_pages(entry.user_message)) is not None:
        facts_of_pages = {"done": pages[0], "planned": pages[1]}
        send(Message(number, "fetched", entry.run_id, asset="raw_batches", facts=facts_of_pages))
    if entry.user_message.startswith(_WAITING):
        text = entry.user_message.removeprefix(_WAITING)
        send(Message(number, "waiting", entry.run_id, facts={"text": text}))
    if not entry.user_message.startswith(_PROGRESS):
        return
    _, asset, key, facts = entry.user_message.split(" ", 3)
    send(Message(number, "cell", entry.run_id, asset=asset, cell=parse_partition(key), facts=json.loads(facts)))


def _receive(connection: Connection, tasks: "SimpleQueue[Preparation | Task | None]") -> None:
    """Hand on tasks; when the pipe ends, the parent is gone, and so is every reason to go on."""
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            task = BreakOff()
        if isinstance(task, BreakOff):
            flush_all()
            os._exit(1)
        tasks.put(task)


def _die_with_parent() -> None:
    os.setsid()  # Ctrl-C goes to the whole group of a terminal; the parent alone decides what it means
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _write_to(log_file: Path) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
