"""Execution of range runs from a command, side by side in worker processes and recorded in the Dagster instance.

Which partitions a run has is decided in ranges.py, what a worker does with it is told in runs_worker.py.
"""

import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, Literal, Self

from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.endings import endings_handled, interrupt_or_exit
from kline_pipeline.defs.instance.home import write_dagster_home
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.run_messages import (
    BreakOff,
    LastWords,
    Message,
    Preparation,
    Prepared,
    RunEvent,
    RunOutcome,
    Task,
)
from kline_pipeline.defs.runs_processes import start_worker
from kline_pipeline.errors import StorageError
from kline_pipeline.log.daily import begin_anew

_END_S: Final = 10.0
_BREAK_OFF_S: Final = 2.0  # for counts on their way to a database that may hang
_CANCELED: Final = (
    "The command that ran it was stopped by Ctrl-C or a signal; run it again, it goes on where it stopped."
)


def execute_runs(
    settings: Settings,
    runs: Sequence[RangeRun],
    *,
    on_progress: Callable[[RunEvent], None],
    workers: int,
    assets: Sequence[str] = (),
) -> list[RunOutcome]:
    """Execute runs whose symbols Dagster knows; see `RunWorkers.execute`."""
    with RunWorkers(settings) as pool:
        return pool.execute(runs, on_progress=on_progress, workers=workers, assets=assets)


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    task: Task | None = None
    run_id: str = ""
    words: str = ""


class RunWorkers:
    """Worker processes for the range runs of one command, each with at most one run; a context manager.

    This process itself need not load Dagster, which takes a second of CPU.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare; no process is started.

        Args:
            settings: of this process; the workers find them in the environment.
        """
        settings.export()
        self._settings = settings
        self._runs: Sequence[RangeRun] = ()
        self._outcomes: dict[int, RunOutcome] = {}
        self._waiting: deque[Task] = deque()
        self._on_progress: Callable[[RunEvent], None] = lambda _: None
        self._workers: dict[Connection, _Worker] = {}
        self._log_file = write_dagster_home(settings) / "workers.log"
        begin_anew(self._log_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()
        elif self._workers:
            self._cancel()

    def prepare(self, symbols: Sequence[tuple[Dataset, tuple[str, ...]]]) -> Prepared:
        """Close runs whose process is gone, let Dagster know the symbols, and return what is known then.

        Raises:
            StorageError: the database failed, or the worker ended.
        """
        connection = self._start_worker()
        _send(connection, Preparation(tuple(symbols)))
        try:
            found = connection.recv()
        except (EOFError, OSError):
            raise StorageError(self._last_words(self._workers.pop(connection), connection)) from None
        assert isinstance(found, Prepared | LastWords)  # noqa: S101 - nothing else was asked for
        if isinstance(found, LastWords) or found.error:
            raise StorageError(found.error)
        return found

    def execute(
        self,
        runs: Sequence[RangeRun],
        *,
        on_progress: Callable[[RunEvent], None],
        workers: int,
        assets: Sequence[str] = (),
    ) -> list[RunOutcome]:
        """Execute runs and return their outcomes in the order of `runs`.

        An open UI shows the runs live and can re-execute them; neither daemon nor webserver is needed. The terminal
        stays the caller's. A worker that dies costs its run only. Workers end with this process, however it ends.

        Args:
            runs: of `plan_runs`.
            on_progress: called in this thread with each event.
            workers: most runs at a time.
            assets: last parts of the keys to materialize (raw_batches, candles, ...) with their checks; empty for all.

        Raises:
            KeyboardInterrupt: Ctrl-C came; at the end of the block the runs are CANCELED.
            SystemExit: SIGTERM came; the same, and the code is the shell's of it.
        """
        self._runs, self._on_progress = runs, on_progress
        self._waiting = deque(Task(number, run, tuple(assets)) for number, run in enumerate(runs))
        with endings_handled(interrupt_or_exit):
            try:
                for connection in list(self._workers):
                    self._give(connection)
                for _ in range(min(workers - len(self._workers), len(self._waiting))):
                    self._give(self._start_worker())
                self._hear_all()
            except BaseException:
                self._cancel()
                raise
        return [self._outcomes[number] for number in range(len(runs))]

    def _hear_all(self) -> None:
        while len(self._outcomes) < len(self._runs):
            for connection in wait(list(self._workers)):
                assert isinstance(connection, Connection)  # noqa: S101 - nothing else was given to wait
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    self._lose(connection)
                    continue
                if isinstance(message, LastWords):
                    self._workers[connection].words = message.error
                else:
                    self._hear(connection, message)

    def _end(self) -> None:
        """Let the idle workers end."""
        for connection in self._workers:
            _send(connection, None)
        for connection, worker in self._workers.items():
            worker.process.join(_END_S)
            worker.process.kill()
            worker.process.join()
            connection.close()
        self._workers.clear()

    def _cancel(self) -> None:
        """End the workers in the middle and mark their runs as canceled; what they wrote stands the end."""
        with endings_handled(signal.SIG_IGN):  # whoever is impatient would leave runs behind
            for connection in self._workers:
                _send(connection, BreakOff())
            for connection, worker in self._workers.items():
                worker.process.join(_BREAK_OFF_S)
                worker.process.kill()
                worker.process.join()
                _hear_last_words(connection, worker)
                connection.close()
            run_ids = [worker.run_id for worker in self._workers.values() if worker.run_id]
            self._workers.clear()
            self._report(run_ids, "report_run_canceled", _CANCELED)

    def _start_worker(self) -> Connection:
        process, ours = start_worker(self._log_file)
        self._workers[ours] = _Worker(process)
        return ours

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
            self._outcomes[message.number] = message.outcome
            self._give(connection)
        self._on_progress(event)

    def _lose(self, connection: Connection) -> None:
        """A worker ended on its own: its run failed, another worker takes the next one."""
        worker = self._workers.pop(connection)
        error = self._last_words(worker, connection)
        if worker.task is not None:
            self._report([worker.run_id] if worker.run_id else [], "report_run_failed", error)
            outcome = RunOutcome(worker.task.run, worker.run_id, "failed", error=error)
            self._outcomes[worker.task.number] = outcome
            self._on_progress(RunEvent("finished", worker.task.run, worker.run_id, outcome=outcome))
        if self._waiting:
            self._give(self._start_worker())

    def _last_words(self, worker: _Worker, connection: Connection) -> str:
        worker.process.join(_END_S)
        connection.close()
        code = worker.process.exitcode
        told = worker.words or f"the worker process ended with exit code {code}"
        return f"{told}; its last words are in {self._log_file}"

    def _report(
        self, run_ids: Sequence[str], how: Literal["report_run_failed", "report_run_canceled"], why: str
    ) -> None:
        """Say in Dagster's storage how runs ended that nobody else can tell of."""
        if not run_ids:
            return
        from kline_pipeline.defs.instance.storage import open_instance  # noqa: PLC0415 - loads Dagster, rarely needed

        with open_instance(self._settings) as instance:
            for run in filter(None, map(instance.get_run_by_id, run_ids)):
                if not run.is_finished:
                    getattr(instance, how)(run, why)


def _send(connection: Connection, task: Preparation | Task | BreakOff | None) -> None:
    with suppress(OSError):  # the worker is dead; the end of its pipe tells the same, and is heeded
        connection.send(task)


def _hear_last_words(connection: Connection, worker: _Worker) -> None:
    """Learn the id of a run that the worker began and nobody has heard of yet."""
    with suppress(EOFError, OSError):
        while connection.poll():
            message = connection.recv()
            if isinstance(message, Message):
                worker.run_id = message.run_id
