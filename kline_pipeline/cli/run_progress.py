"""How far range runs are, how fast they go and how long they will take, reckoned from their events; drawn elsewhere."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kline_pipeline.datasets import Cell
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.run_messages import RunEvent

_RATE_OVER_S: Final = 10.0


@dataclass(slots=True)
class _Run:
    run: RangeRun
    stages: int
    through: set[tuple[str, Cell]] = field(default_factory=set)
    pages: int = 0
    fetched: float = 0.0
    fetching: bool = False
    finished: bool = False

    @property
    def partitions(self) -> float:
        """Partitions that are done; one that got through some of its assets counts for a part."""
        if self.finished:
            return len(self.run.cells)
        fetched = self.fetched * len(self.run.cells) if self.fetching else 0.0
        return (len(self.through) + fetched) / self.stages


class RunProgress:
    """What is known of some runs.

    Attributes:
        doing: what was heard last, for people.
        total: partitions of all runs.
    """

    def __init__(self, runs: Sequence[RangeRun], *, clock_s: Callable[[], float], assets: Sequence[str] = ()) -> None:
        self.doing = "starting"
        self.total = sum(len(run.cells) for run in runs)
        self._clock_s = clock_s
        self._assets = assets
        self._began_s = clock_s()
        self._runs: dict[str, _Run] = {}
        self._lost = 0
        self._furthest = 0.0
        self._pages: deque[tuple[float, int]] = deque([(self._began_s, 0)])

    def hear(self, event: RunEvent) -> None:
        """Take an event of a run."""
        if event.run_id:
            self._hear(event)
        else:  # it could not even be created
            self._lost += len(event.run.cells)
        self._furthest = max(self._furthest, self._lost + sum(run.partitions for run in self._runs.values()))

    @property
    def partitions(self) -> float:
        """Partitions done, those of failed runs too; never less than before, even where a step is tried again."""
        return self._furthest

    @property
    def rate(self) -> str:
        """Pages per second of the last ten seconds while any run fetches, else partitions per minute; "" at first."""
        elapsed_s = self._clock_s() - self._began_s
        if any(run.fetching for run in self._runs.values()):
            (first_s, first), (last_s, last) = self._pages[0], self._pages[-1]
            return f"{(last - first) / (last_s - first_s):.1f} pages/s" if last_s > first_s else ""
        if not self._furthest or elapsed_s <= 0:
            return ""
        return f"{self._furthest / elapsed_s * 60:.0f}/min"

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the pace since the beginning; None before anything is done."""
        elapsed_s = self._clock_s() - self._began_s
        if not self._furthest or elapsed_s <= 0:
            return None
        return elapsed_s * (self.total - self._furthest) / self._furthest

    def _hear(self, event: RunEvent) -> None:
        name = event.run.dataset.name
        if event.run_id not in self._runs:
            # Raw batches, candles, and one asset per sink.
            self._runs[event.run_id] = _Run(event.run, len(self._assets) or 2 + len(event.run.dataset.sinks))
            self.doing = f"{name} run {event.run_id[:8]}"
        one = self._runs[event.run_id]
        if event.kind == "fetched":
            self._hear_pages(one, event.facts["done"], event.facts["planned"])
            self.doing = f"{name} fetching"
        elif event.kind == "cell" and event.cell is not None:
            one.fetching = False
            one.through.add((event.asset, event.cell))
            self.doing = f"{event.cell.symbol} {event.cell.date} {event.asset}"
        elif event.kind == "finished":
            one.finished, one.fetching = True, False

    def _hear_pages(self, one: _Run, done: int, planned: int) -> None:
        new = done - one.pages if done >= one.pages else done  # it begins anew where pages are asked again
        one.pages, one.fetched, one.fetching = done, done / planned, True
        now_s = self._clock_s()
        self._pages.append((now_s, self._pages[-1][1] + new))
        while now_s - self._pages[1][0] > _RATE_OVER_S:
            self._pages.popleft()
