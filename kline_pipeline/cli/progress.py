"""The progress bar of range runs, on standard error; what it shows is reckoned in run_progress.py."""

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from kline_pipeline.cli.run_progress import RunProgress
from kline_pipeline.cli.ui_address import run_link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from kline_pipeline.defs.ranges import RangeRun
    from kline_pipeline.defs.run_messages import RunEvent


@contextmanager
def progress_of(
    runs: "Sequence[RangeRun]", ui: str | None, *, assets: "Sequence[str]" = ()
) -> "Iterator[Callable[[RunEvent], None]]":
    """Show a bar while runs are executed, and give the function that takes their events.

    Args:
        runs: all that will be executed.
        ui: address of Dagster's UI, for the link of each run; None where there is none.
        assets: that are materialized; empty for all.
    """
    state = RunProgress(runs, assets=assets, clock_s=time.monotonic)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task(state.doing, total=max(1, state.total), **_fields(state))

        def on_event(event: "RunEvent") -> None:
            state.hear(event)
            if sentence := _sentence(event, ui):
                # A link that is cut at the edge of the terminal is none.
                bar.console.print(sentence, soft_wrap=True, markup=False, highlight=False)
            bar.update(task, completed=state.partitions, description=state.doing, **_fields(state))

        yield on_event
        bar.update(task, description="done")


def _fields(state: RunProgress) -> "dict[str, Any]":
    eta_s = state.eta_s
    left = f"ETA {timedelta(seconds=round(eta_s))}" if eta_s else ""
    return {"count": f"{int(state.partitions)}/{state.total} partitions", "rate": state.rate, "left": left}


def _sentence(event: "RunEvent", ui: str | None) -> str:
    """Return what stays on the terminal of an event, "" for most."""
    name = event.run.dataset.name
    if event.kind == "started":
        partitions = f"{len(event.run.cells)} partition{'s' if len(event.run.cells) > 1 else ''}"
        return f"run {event.run_id[:8]} of {name}, {partitions}: {run_link(ui, event.run_id)}"
    if event.kind == "waiting":
        return f"run {event.run_id[:8]} of {name} waits: {event.facts['text']}"
    if event.outcome is not None and not event.outcome.success:
        return f"run {event.run_id[:8]} of {name} {event.outcome.status}"
    return ""
