"""The job and the daily schedule that keep Dagster's memory small; what is deleted is told in instance/pruning."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import dagster as dg

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import connect
from kline_pipeline.defs.instance.orphans import close_orphans
from kline_pipeline.defs.instance.pruning import Pruned, prune
from kline_pipeline.defs.run_lines import prepare, run_lines, step_lines

logger: Final = logging.getLogger(__name__)
NAME: Final = "housekeeping"
_CRON: Final = "30 3 * * *"  # UTC, when the daily runs are long over
_MB: Final = 1_000_000


def housekeeping() -> dg.ScheduleDefinition:
    """Return the daily schedule with its job; both are there once, whatever the datasets."""
    return dg.ScheduleDefinition(
        name=NAME,
        job=_job(),
        cron_schedule=_CRON,
        execution_timezone="UTC",
        description="Deletes runs, ticks and events of Dagster that no page of a partition shows any more",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _job() -> dg.JobDefinition:
    @dg.op(name="prune", out=dg.Out(dg.Nothing), description="Close runs whose process is gone, delete what is old")
    def prune_op(context: dg.OpExecutionContext) -> None:
        settings = Settings.load()
        prepare(settings)
        with run_lines(context.run_id, job=NAME), step_lines(context.run_id, NAME):
            with connect(settings) as database:
                closed = close_orphans(settings, context.instance, database)
                pruned = prune(database, now_ms=round(time.time() * 1000), keep_days=settings.keep_days)
            for run_id in pruned.run_ids:
                context.instance.compute_log_manager.delete_logs(prefix=[run_id])
            logger.info("Dagster's storage pruned", extra=dict(_facts(pruned, closed=len(closed))))
        context.log.info(_sentence(pruned, closed=len(closed)))
        context.add_output_metadata(_facts(pruned, closed=len(closed)))

    @dg.job(
        name=NAME,
        executor_def=dg.in_process_executor,
        description="Keeps Dagster's storage small: every page of a partition shows the same before and after",
    )
    def job() -> None:
        prune_op()

    return job


def _sentence(pruned: Pruned, *, closed: int) -> str:
    rows = ", ".join(f"{count} of {table}" for table, count in pruned.rows.items()) or "none"
    return (
        f"rows deleted: {rows}; {pruned.freed_bytes / _MB:.1f} MB of events freed, Dagster's tables take "
        f"{pruned.bytes_after / _MB:.1f} MB; {closed} runs closed whose process was gone"
    )


def _facts(pruned: Pruned, *, closed: int) -> Mapping[str, Any]:
    return {
        **{f"rows {table}": count for table, count in pruned.rows.items()},
        "runs closed": closed,
        "freed MB": pruned.freed_bytes / _MB,
        "MB before": pruned.bytes_before / _MB,
        "MB after": pruned.bytes_after / _MB,
    }
