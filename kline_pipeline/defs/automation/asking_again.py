"""The sensor that asks the exchange again: for gaps that are due, and for what no daily schedule would finish.

What is due or unfinished is the ledger's word. A partition is asked for once per wait, whatever became of the run:
the cursor remembers which were asked for, and the key of a run keeps a tick that was cut short from doing it twice.
One that a run is about to make, whoever started it, is left to that run.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from kline_pipeline.config import Settings
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.automation.jobs import repair_job, repair_job_name
from kline_pipeline.defs.automation.requests import cells_to_runs, made_by, request, runs_on
from kline_pipeline.defs.ranges import partition_key
from kline_pipeline.defs.run_lines import tick_lines
from kline_pipeline.defs.symbols import known_symbols
from kline_pipeline.opening import opened
from kline_pipeline.pipeline import Pipeline

_EVERY_S: Final = 120
# Even where gaps are to be confirmed at once: a run takes a while.
_SHORTEST_WAIT_S: Final = 600
_DAY_S: Final = 86_400


def asking_again_sensors(declared: Sequence[Dataset]) -> list[dg.SensorDefinition]:
    """Return the one sensor for all datasets, running unless it is switched off in the UI; none without datasets."""
    if not declared:
        return []

    @dg.sensor(
        name="asking_again",
        jobs=[repair_job(dataset) for dataset in declared],
        minimum_interval_seconds=_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs for gaps that the exchange is to be asked about again, and for what no schedule would finish",
    )
    def asking_again(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = datetime.now(tz=UTC)
        now_s = int(now.timestamp())
        asked: dict[str, int] = json.loads(context.cursor or "{}")
        requests: list[dg.RunRequest] = []
        # Before the ledger is read: one that ends in between has made its partitions, or the next tick sees to them.
        on = runs_on(context.instance, now=now)
        with tick_lines("asking_again") as settings, opened(settings) as work:
            for dataset in declared:
                waits = _waits(work.pipeline, dataset, settings, now_s)
                in_hand = made_by(context.instance, on, dataset)
                cells = {
                    cell: wait_s
                    for cell, wait_s in waits.items()
                    if _may_be(dataset, cell, asked, now_s) and not in_hand(cell)
                }
                known = known_symbols(context.instance, dataset)
                runs = cells_to_runs(dataset, cells, known=known, most=settings.run_partitions)
                for run in runs:
                    requests.append(
                        request(run, when=_bucket(run.cells, cells, now_s), job_name=repair_job_name(dataset))
                    )
                    asked |= {_name(dataset, cell): now_s + cells[cell] for cell in run.cells}
        left = {name: until_s for name, until_s in asked.items() if until_s > now_s}
        told = None if requests else "nothing is due"
        return dg.SensorResult(run_requests=requests, skip_reason=told, cursor=json.dumps(left))

    return [asking_again]


def _waits(pipeline: Pipeline, dataset: Dataset, settings: Settings, now_s: int) -> dict[Cell, int]:
    """Return the partitions to ask for, each with the seconds for which it is not asked for again."""
    found: dict[Cell, int] = {}
    if not dataset.schedule.daily:
        found = dict.fromkeys(pipeline.unfinished(dataset, now_ms=now_s * 1000), _DAY_S)
    wait_s = max(_SHORTEST_WAIT_S, settings.gap_confirm_after_s)
    return found | dict.fromkeys(pipeline.due(dataset, now_ms=now_s * 1000), wait_s)


def _may_be(dataset: Dataset, cell: Cell, asked: Mapping[str, int], now_s: int) -> bool:
    return asked.get(_name(dataset, cell), 0) <= now_s


def _bucket(cells: Sequence[Cell], waits: Mapping[Cell, int], now_s: int) -> str:
    return f"again {now_s // min(waits[cell] for cell in cells)}"


def _name(dataset: Dataset, cell: Cell) -> str:
    return f"{dataset.name} {partition_key(cell)}"
