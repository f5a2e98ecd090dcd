"""All stages at once over some partitions: while pages still come, what is complete is derived, what is derived lands.

What each stage does is told in fill, derive and land. Dagster runs them one after the other, as steps of their own.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.datasets import Cell
from kline_pipeline.errors import ExchangeError
from kline_pipeline.log.about import AboutThreads
from kline_pipeline.stages.derive import derive_partition
from kline_pipeline.stages.fill import Fill, FillReport, OnReady
from kline_pipeline.stages.land import Landing, land_partition

# What bounds the memory: partitions fetched and not derived yet, after which no page is asked for, and those derived
# and not landed yet. A month of minutes is about 3 MB of rows, and 30 MB of tables.
_FETCHED: Final = 12
_AHEAD: Final = 2
_WRITERS: Final = {"postgres": 2, "parquet": 2}  # threads; while one COPY is read back, the next one runs


@dataclass(frozen=True, slots=True)
class Passed:
    """What became of one partition on the whole way.

    Attributes:
        filled: what was fetched.
        verdict: what the rules say.
        landings: by sink what landing it did; it is there when all of them passed.
    """

    filled: FillReport
    verdict: Verdict
    landings: dict[str, Landing]

    @property
    def landed(self) -> bool:
        """All of it is in every sink."""
        return not self.verdict.quarantined and all(landing.result.passed for landing in self.landings.values())


@dataclass(slots=True)
class Flow:
    """One passage of partitions of one dataset.

    Attributes:
        fill: fetches them.
        now_ms: what had closed where no raw batch says so.
        report: told each partition when it is through, in some thread, one at a time.
    """

    fill: Fill
    now_ms: int
    report: Callable[[Cell, Passed], None] = lambda _cell, _passed: None
    _done: dict[Cell, Passed] = field(default_factory=dict)
    _error: BaseException | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def run(self, cells: Sequence[Cell]) -> dict[Cell, Passed]:
        """Fetch, derive, judge and land partitions, and return what became of each, in the order given.

        Raises:
            ExchangeError: a retryable one after all attempts; what was complete by then has landed.
            CorruptFile: a raw batch is not what was written.
            StorageError: the database or a folder failed; no other partition is begun. It goes before an
                ExchangeError, which is its cause then, as not all that was complete has landed.
        """
        sinks = self.fill.dataset.sinks
        place, room = threading.BoundedSemaphore(_FETCHED), threading.BoundedSemaphore(_AHEAD)
        with ExitStack() as stack:
            writers = {sink: stack.enter_context(AboutThreads(_WRITERS[sink], sink)) for sink in sinks}
            deriver = stack.enter_context(AboutThreads(1, "derive"))

            def begin(cell: Cell, filled: FillReport) -> None:
                if self._error is not None:
                    raise self._error
                place.acquire()
                _when_all_are_done([deriver.submit(self._guarded, partial(derive, cell, filled))], place.release)

            def derive(cell: Cell, filled: FillReport) -> None:
                room.acquire()
                verdict, partition = derive_partition(self.fill.stores, self.fill.dataset, cell, now_ms=self.now_ms)
                landings: dict[str, Landing] = {}

                def land(sink: str) -> None:
                    landing = land_partition(self.fill.stores, sink, verdict, partition)
                    with self._turn:
                        landings[sink] = landing
                        if len(landings) == len(sinks):
                            self._done[cell] = Passed(filled, verdict, landings)
                            self.report(cell, self._done[cell])

                pending = [writers[sink].submit(self._guarded, partial(land, sink)) for sink in sinks]
                _when_all_are_done(pending, room.release)

            unanswered = self._passed(cells, begin, [deriver, *writers.values()])
        if self._error is not None:
            raise self._error from unanswered
        if unanswered is not None:
            raise unanswered
        return {cell: self._done[cell] for cell in cells}

    def _passed(
        self, cells: Sequence[Cell], begin: OnReady, threads: Sequence[ThreadPoolExecutor]
    ) -> ExchangeError | None:
        """Fetch, wait for the threads in their order, and return what the exchange failed with.

        After that what is complete still lands; any other failure, and whoever interrupts this thread, lets nothing
        else be begun.
        """
        unanswered = None
        try:
            try:
                self.fill.run(cells, on_ready=begin)
            except ExchangeError as exc:
                unanswered = exc
            for one in threads:
                one.shutdown()
        except BaseException as exc:  # noqa: BLE001 - raised when what has begun is done
            self._error = self._error or exc
        return unanswered

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step unless one has failed; the first failure is raised where the passage was begun."""
        if self._error is not None:
            return
        try:
            step()
        except BaseException as exc:  # noqa: BLE001 - handed on to the caller's thread
            self._error = self._error or exc


def _when_all_are_done(pending: Sequence[Future[None]], then: Callable[[], object]) -> None:
    left = threading.Semaphore(len(pending) - 1)

    def one_is_done(_future: Future[None]) -> None:
        if not left.acquire(blocking=False):
            then()

    for future in pending:
        future.add_done_callback(one_is_done)
