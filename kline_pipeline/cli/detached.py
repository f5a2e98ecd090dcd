"""Handing range runs to the daemon of a running `up`, for `backfill --detach`; nobody waits for them here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kline_pipeline.cli.ranged_runs import Plan, runs_of, symbols_of
from kline_pipeline.cli.ui_address import run_link, running_up, ui_url
from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.runs_queue import daemon_answers, enqueue_runs
from kline_pipeline.defs.symbols import known_with
from kline_pipeline.errors import StorageError

_FIRST_HEARTBEAT_S: Final = 60.0  # `up` is there once its UI answers; its daemon may need a while more


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A run in the queue: Dagster's id, and the page of it or the id where no UI is known."""

    run: RangeRun
    run_id: str
    link: str


def require_daemon(settings: Settings) -> None:
    """Do nothing where a daemon is there that will take runs from the queue.

    Raises:
        StorageError: none was heard of on this database in the last 90 s.
    """
    patience_s = _FIRST_HEARTBEAT_S if running_up(settings.home) else 0.0
    with open_instance(settings) as instance:
        if not daemon_answers(instance, patience_s=patience_s):
            raise StorageError(
                "--detach hands the runs to Dagster's daemon, and none works on this database; "
                "start one with: kline-pipeline up, or leave --detach out"
            )


def hand_over(plan: Plan) -> list[HandedOver]:
    """Put the runs of a plan into the queue and return them; what becomes of them the UI and `coverage` show."""
    address = ui_url(plan.settings)
    with open_instance(plan.settings) as instance:
        known = {dataset.name: known_with(instance, dataset, symbols) for dataset, symbols in symbols_of(plan)}
        runs = runs_of(plan, known)
        return [
            HandedOver(run, run_id, run_link(address, run_id))
            for run, run_id in zip(runs, enqueue_runs(instance, runs), strict=True)
        ]


def told(handed: Sequence[HandedOver]) -> list[str]:
    """Return a line per run, for people."""
    return [
        f"run {one.run_id[:8]} of {one.run.dataset.name}, {partitions(one.run)}, is in the queue: {one.link}"
        for one in handed
    ]


def partitions(run: RangeRun) -> str:
    """Return how many partitions a run has, in words."""
    return f"{len(run.cells)} partition{'s' if len(run.cells) > 1 else ''}"


def report(handed: Sequence[HandedOver]) -> dict[str, object]:
    """Return what --json prints."""
    return {
        "runs": [
            {
                "run_id": one.run_id,
                "dataset": one.run.dataset.name,
                "status": "queued",
                "partitions": len(one.run.cells),
                "link": one.link,
            }
            for one in handed
        ]
    }
