"""Execution of range runs from a command, side by side in worker processes and recorded in the Dagster instance.

Which partitions a run has is decided in ranges.py, what a worker does with it is told in runs_worker.py.
"""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final, Literal, NoReturn

from kline_pipeline.config import Settings
from kline_pipeline.datasets import Cell
from kline_pipeline.defs.instance.storage import open_instance, write_dagster_home
from kline_pipeline.defs.outcomes import FailedCell, RunOutcome
from kline_pipeline.defs.ranges import RangeRun, plan_runs
from kline_pipeline.defs.runs_processes import start_worker
from kline_pipeline.defs.runs_worker import Message, Task

__all__ = ["FailedCell", "RangeRun", "RunEvent", "RunOutcome", "execute_runs", "plan_runs"]

_END_S: Final = 10.0
_CANCELED: Final = (
    "The command that ran it was stopped by Ctrl-C or a signal; run it again, it goes on where it stopped."
)


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened in a run.

    Attributes:
        kind: started; fetched, each second while pages come; cell, when a partition got through an asset; waiting,
            when a step will be tried again; finished.
        run_id: Dagster's; empty in `finished` when the run could not be created.
        asset: for `cell`, last part of the asset's key.
        cell: for `cell`, the partition.
        facts: for `fetched`, pages `done` and `planned`; for `cell`, what the asset said about it; for `waiting`, why
            and how long as `text`.
        outcome: for `finished`.
    """

    kind: Literal["started", "fetched", "cell", "waiting", "finished"]
    run: RangeRun
    run_id: str
    asset: str = ""
    cell: Cell | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    outcome: RunOutcome | None = None


def execute_runs(
    settings: Settings,
    runs: Sequence[RangeRun],
    *,
    on_progress: Callable[[RunEvent], None],
    workers: int,
    assets: Sequence[str] = (),
) -> list[RunOutcome]:
    """Execute runs in worker processes and return their outcomes in the order of `runs`.

    An open UI shows the runs live and can re-execute them; neither daemon nor webserver is needed. The terminal stays
    the caller's. A worker that dies costs its run only. Workers end with this process, however it ends.

    Args:
        settings: of this process; the workers find them in the environment.
        runs: of `plan_runs`.
        on_progress: called in this thread with each event.
        workers: most runs at a time.
        assets: last parts of the keys to materialize (raw_batches, candles, ...) with their checks; empty for all.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the workers are gone and their runs are CANCELED.
    """
    settings.export()
    pool = _Pool(settings, runs, tuple(assets), on_progress)
    with _sigterm_as_interrupt():
        try:
            pool.execute(workers)
        except BaseException:
            pool.cancel()
            raise
        pool.end()
    return [pool.outcomes[number] for number in range(len(runs))]


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    task: Task | None = None
    run_id: str = ""


class _Pool:
    """The workers, each with at most one task."""

    def __init__(
        self,
        settings: Settings,
        runs: Sequence[RangeRun],
        assets: tuple[str, ...],
        on_progress: Callable[[RunEvent], None],
    ) -> None:
        self.outcomes: dict[int, RunOutcome] = {}
        self._settings = settings
        self._runs = runs
        self._waiting = deque(Task(number, run, assets) for number, run in enumerate(runs))
        self._on_progress = on_progress
        self._workers: dict[Connection, _Worker] = {}
        self._log_file = write_dagster_home(settings) / "workers.log"

    def execute(self, workers: int) -> None:
        """Hand out tasks until every run has an outcome."""
        for _ in range(min(workers, len(self._waiting))):
            self._start_worker()
        while len(self.outcomes) < len(self._runs):
            for connection in wait(list(self._workers)):
                assert isinstance(connection, Connection)  # noqa: S101 - nothing else was given to wait
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    self._lose(connection)
                else:
                    self._hear(connection, message)

    def end(self) -> None:
        """Let the idle workers end."""
        for connection in self._workers:
            _send(connection, None)
        for connection, worker in self._workers.items():
            worker.process.join(_END_S)
            worker.process.kill()
            worker.process.join()
            connection.close()

    def cancel(self) -> None:
        """Kill the workers and mark their runs as canceled; what they wrote stands the kill."""
        for number in (signal.SIGINT, signal.SIGTERM):
            _ignore(number)
        for connection, worker in self._workers.items():
            worker.process.kill()
            worker.process.join()
            _hear_last_words(connection, worker)
            connection.close()
        run_ids = [worker.run_id for worker in self._workers.values() if worker.run_id]
        if run_ids:
            with open_instance(self._settings) as instance:
                for run in filter(None, map(instance.get_run_by_id, run_ids)):
                    if not run.is_finished:
                        instance.report_run_canceled(run, _CANCELED)

    def _start_worker(self) -> None:
        process, ours = start_worker(self._log_file)
        self._workers[ours] = _Worker(process)
        self._give(ours)

    def _give(self, connection: Connection) -> None:
        worker = self._workers[connection]
        worker.task, worker.run_id = (self._waiting.popleft() if self._waiting else None), ""
        if worker.task is not None:
            _send(connection, worker.task)

    def _hear(self, connection: Connection, message: Message) -> None:
        worker, run = self._workers[connection], self._runs[message.number]
        worker.run_id = message.run_id
        event = RunEvent(message.kind, run, message.run_id, message.asset, message.cell, message.facts, message.outcome)
        if message.outcome is not None:
            self.outcomes[message.number] = message.outcome
            self._give(connection)
        self._on_progress(event)

    def _lose(self, connection: Connection) -> None:
        """A worker ended on its own: its run failed, another worker takes the next one."""
        worker = self._workers.pop(connection)
        worker.process.join(_END_S)
        connection.close()
        if worker.task is not None:
            code = worker.process.exitcode
            error = f"the worker process ended with exit code {code}; its last words are in {self._log_file}"
            self._report_failed(worker.run_id, error)
            outcome = RunOutcome(worker.task.run, worker.run_id, "failed", error=error)
            self.outcomes[worker.task.number] = outcome
            self._on_progress(RunEvent("finished", worker.task.run, worker.run_id, outcome=outcome))
        if self._waiting:
            self._start_worker()

    def _report_failed(self, run_id: str, error: str) -> None:
        if run_id:
            with open_instance(self._settings) as instance:
                run = instance.get_run_by_id(run_id)
                if run is not None and not run.is_finished:
                    instance.report_run_failed(run, error)


def _send(connection: Connection, task: Task | None) -> None:
    with suppress(OSError):  # the worker is dead; the end of its pipe tells the same, and is heeded
        connection.send(task)


def _hear_last_words(connection: Connection, worker: _Worker) -> None:
    """Learn the id of a run that the worker began and nobody has heard of yet."""
    with suppress(EOFError, OSError):
        while connection.poll():
            worker.run_id = connection.recv().run_id


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM inside the block, in the main thread of the process."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _ignore(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
