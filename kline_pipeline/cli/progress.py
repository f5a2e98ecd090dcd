"""The progress bar of range runs, on standard error: a step is one asset of one partition."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kline_pipeline.defs.ranges import RangeRun
    from kline_pipeline.defs.runs import RunEvent


@contextmanager
def progress_of(runs: "Sequence[RangeRun]") -> "Iterator[Callable[[RunEvent], None]]":
    """Show a bar while runs are executed, and give the function that takes their events."""
    # Raw batches, candles, and one asset per sink.
    steps = sum(len(run.cells) * (2 + len(run.dataset.sinks)) for run in runs)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=steps)

        def on_event(event: "RunEvent") -> None:
            if event.kind == "cell" and event.cell is not None:
                name = f"{event.run.dataset.name} {event.cell.symbol} {event.cell.date} {event.asset}"
                bar.update(task, advance=1, description=name)
            elif event.kind == "waiting":
                bar.console.print(f"run {event.run_id[:8]} of {event.run.dataset.name} waits: {event.facts['text']}")
            elif event.kind == "started":
                bar.update(task, description=f"{event.run.dataset.name} run {event.run_id[:8]}")
            elif event.outcome is not None and not event.outcome.success:
                bar.console.print(f"run {event.run_id[:8]} of {event.run.dataset.name} {event.outcome.status}")

        yield on_event
        bar.update(task, description="done")
