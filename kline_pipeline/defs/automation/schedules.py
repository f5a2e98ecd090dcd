"""The schedules that keep datasets up to date: daily, and often where the dataset asks for it; runs are in requests.

A tick asks for the newest dates of every symbol in few runs, one per KLINE_RUN_PARTITIONS partitions. The daily one
also takes what was left unfinished. A tick while runs of the one before are on is skipped and says so.
"""

import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import dagster as dg
from dagster import DagsterInstance, RunsFilter

from kline_pipeline.config import Settings
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.automation.jobs import update_job, update_job_name
from kline_pipeline.defs.automation.requests import SCHEDULE_TAG, cells_to_runs, request, runs_on
from kline_pipeline.defs.ranges import RangeRun, plan_runs
from kline_pipeline.defs.run_lines import tick_lines
from kline_pipeline.defs.symbols import known_symbols, sync_symbols
from kline_pipeline.market.window import to_ms
from kline_pipeline.opening import opened

# After midnight UTC, when the last candle of the day has closed for sure; spread, so that datasets do not come at once.
_FIRST_MINUTE: Final = 5
_LAST_MINUTE: Final = 45
_MINUTE_MS: Final = 60_000


def schedules(declared: Sequence[Dataset]) -> list[dg.ScheduleDefinition]:
    """Return the schedules of all datasets, running unless they are switched off in the UI."""
    daily = [_daily(dataset) for dataset in declared if dataset.schedule.daily]
    return daily + [_frequent(dataset) for dataset in declared if dataset.schedule.every_minutes]


def daily_cron(dataset: Dataset) -> str:
    """Return when the daily schedule of a dataset comes, always the same for its name: 0:05 to 0:45 UTC."""
    minute = _FIRST_MINUTE + zlib.crc32(dataset.name.encode()) % (_LAST_MINUTE - _FIRST_MINUTE + 1)
    return f"{minute} 0 * * *"


def _daily(dataset: Dataset) -> dg.ScheduleDefinition:
    name = f"daily_{dataset.name}"

    def runs(known: Sequence[str], at_ms: int, settings: Settings) -> list[RangeRun]:
        newest = dataset.dates(at_ms)[-2:]
        planned = plan_runs(dataset, newest, known, known=known, most=settings.run_partitions)
        with opened(settings) as work:
            left = work.pipeline.unfinished(dataset, now_ms=at_ms)
        return planned + cells_to_runs(dataset, _older(left, newest), known=known, most=settings.run_partitions)

    words = "The open date and the one before it of every symbol, and dates that were left unfinished"
    return _schedule(dataset, name, daily_cron(dataset), words, runs, held_by={name})


def _frequent(dataset: Dataset) -> dg.ScheduleDefinition:
    every = dataset.schedule.every_minutes
    name = f"frequent_{dataset.name}"

    def runs(known: Sequence[str], at_ms: int, settings: Settings) -> list[RangeRun]:
        # The date before the open one too, until its last candle was taken.
        # Twice the step, for a tick that came while another's run was on.
        back_ms = 2 * every * _MINUTE_MS + round(settings.bybit.close_grace_s * 1000)
        newest = [day for day in dataset.dates(at_ms)[-2:] if dataset.window(day).end_ms > at_ms - back_ms]
        return plan_runs(dataset, newest, known, known=known, most=settings.run_partitions)

    # A minute after the full one, when the candle that has just closed counts as closed.
    cron = {1: "* * * * *", 60: "1 * * * *"}.get(every, f"1-59/{every} * * * *")
    words = f"Every {every} minutes: the candles of the open date that have closed since"
    return _schedule(dataset, name, cron, words, runs, held_by={name, f"daily_{dataset.name}"}, once_per_candle=True)


def _schedule(
    dataset: Dataset,
    name: str,
    cron: str,
    description: str,
    runs: Callable[[Sequence[str], int, Settings], list[RangeRun]],
    *,
    held_by: set[str],
    once_per_candle: bool = False,
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        cron_schedule=cron,
        job=update_job(dataset),
        description=description,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> Any:
        with tick_lines(name) as settings:
            return ask(context, settings)

    def ask(context: dg.ScheduleEvaluationContext, settings: Settings) -> Any:
        at = context.scheduled_execution_time
        on = [run for run in runs_on(context.instance, update_job_name(dataset), now=at) if _by(run) in held_by]
        if on:
            return dg.SkipReason(f"{len(on)} runs of {', '.join(sorted({_by(run) for run in on}))} are not done yet")
        grace_ms = round(settings.bybit.close_grace_s * 1000)
        closed_ms = dataset.interval.closed_end(to_ms(at), grace_ms) + grace_ms
        if once_per_candle and _came_since(context.instance, update_job_name(dataset), name, closed_ms):
            return dg.SkipReason(f"no candle of {dataset.name} has closed since the last run")
        sync_symbols(context.instance, dataset)
        known = known_symbols(context.instance, dataset)
        if not known:
            return dg.SkipReason(f"{dataset.name} has no symbol yet; add one with `kline-pipeline series add`")
        return [request(run, when=_when(at)) for run in runs(known, to_ms(at), settings)]

    return tick


def _older(cells: Sequence[Cell], newest: Sequence[date]) -> list[Cell]:
    return [cell for cell in cells if cell.date not in newest]


def _came_since(instance: DagsterInstance, job_name: str, schedule_name: str, time_ms: int) -> bool:
    """Return whether a schedule has launched a run since; whether that went well is the daily one's business."""
    since = datetime.fromtimestamp(time_ms / 1000, tz=UTC)
    asked = RunsFilter(job_name=job_name, tags={SCHEDULE_TAG: schedule_name}, created_after=since)
    return bool(instance.get_run_ids(asked, limit=1))


def _by(run: dg.DagsterRun) -> str:
    return run.tags.get(SCHEDULE_TAG, "")


def _when(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%MZ")
