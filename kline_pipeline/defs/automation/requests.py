"""Partitions as requests for runs, and which runs are still on; when is told in schedules and asking_again."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from kline_pipeline.alerting.episodes import ends
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.assets import asset_key, cell_of
from kline_pipeline.defs.automation.jobs import repair_job_name, update_job_name
from kline_pipeline.defs.automation.run_scope import partitions_of, symbols_of
from kline_pipeline.defs.ranges import RangeRun, plan_runs, rectangles

SCHEDULE_TAG: Final = "dagster/schedule_name"
SENSOR_TAG: Final = "dagster/sensor_name"
_ON: Final = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
# A run that died before it could take its lock stays "started" for ever (dagster.md 8): it must not hold back
# every tick to come.
_LONGEST: Final = timedelta(days=1)


def runs_on(instance: DagsterInstance, job_name: str | None = None, *, now: datetime) -> list[DagsterRun]:
    """Return the runs of a job, or of all, that are queued or running and not a day old."""
    asked = RunsFilter(job_name=job_name, statuses=_ON, created_after=now - _LONGEST)
    return list(instance.get_runs(asked))


def made_by(instance: DagsterInstance, runs: Iterable[DagsterRun], dataset: Dataset) -> Callable[[Cell], bool]:
    """Return what says of a partition of a dataset whether one of the runs is to make it.

    Args:
        instance: whose runs they are.
        runs: of whatever job, also such as a command or a backfill started.
        dataset: whose partitions are asked for.
    """
    found: list[tuple[date, date, frozenset[str]]] = []
    for run in runs:
        first, last = ends(partitions_of(run))
        if first and _is_of(run, dataset):
            symbols = symbols_of(instance, run, "/".join(_group(dataset)))
            found.append((cell_of(first).date, cell_of(last).date, frozenset(symbols)))
    return lambda cell: any(start <= cell.date <= end and cell.symbol in symbols for start, end, symbols in found)


def cells_to_runs(dataset: Dataset, cells: Iterable[Cell], *, known: Sequence[str], most: int) -> list[RangeRun]:
    """Return the runs that hold exactly these partitions, few rectangles; those of unknown symbols are left out."""
    names = frozenset(known)
    wanted = (cell for cell in cells if cell.symbol in names and cell.date >= dataset.start)
    return [
        run
        for dates, symbols in rectangles(wanted)
        for run in plan_runs(dataset, dates, symbols, known=known, most=most)
    ]


def request(run: RangeRun, *, when: str, job_name: str | None = None) -> dg.RunRequest:
    """Return the request for a run.

    Args:
        run: of a dataset.
        when: makes the run one of its own: a run with the same partitions and `when` is launched once.
        job_name: for a sensor with several jobs.
    """
    first, last = run.cells[0], run.cells[-1]
    key = f"{run.dataset.name} {when} {first.date}|{first.symbol} {last.date}|{last.symbol}"
    return dg.RunRequest(run_key=key, tags=run.range_tags, job_name=job_name)


def _is_of(run: DagsterRun, dataset: Dataset) -> bool:
    # A run of a whole job of ours names no asset.
    jobs = (update_job_name(dataset), repair_job_name(dataset))
    return run.job_name in jobs or any(list(key.path[:2]) == _group(dataset) for key in run.asset_selection or ())


def _group(dataset: Dataset) -> list[str]:
    return list(asset_key(dataset, "candles").path[:2])
