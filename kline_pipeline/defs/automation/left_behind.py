"""The sensor that closes runs whose process is gone, with a reason; how that is told: defs/instance/orphans.

A tick does not wait: what only seems to be gone is remembered in the cursor, and looked at again by a later tick.
"""

import json
import time
from collections.abc import Sequence
from typing import Final

import dagster as dg

from kline_pipeline.database.engine import connect
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.instance.orphans import BETWEEN_LOOKS_S, close_runs, look_for_orphans
from kline_pipeline.defs.run_lines import tick_lines

_EVERY_S: Final = 30


def left_behind_sensors(declared: Sequence[Dataset]) -> list[dg.SensorDefinition]:
    """Return the one sensor for all runs, whatever is declared; running unless it is switched off in the UI."""
    del declared

    @dg.sensor(
        name="left_behind",
        minimum_interval_seconds=_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes runs whose process is gone, which Dagster would show as started for ever",
    )
    def left_behind(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now_s = time.time()
        first_looks: dict[str, float] = json.loads(context.cursor or "{}")
        with tick_lines("left_behind") as settings, connect(settings) as database:
            dead, suspected = look_for_orphans(context.instance, database, now_s=now_s)
            again = [one for one in suspected if now_s - first_looks.get(one, now_s) >= BETWEEN_LOOKS_S]
            closed = close_runs(context.instance, database, [*dead, *again])
        looks = {one: first_looks.get(one, now_s) for one in suspected if one not in closed}
        told = f"closed {', '.join(run_id[:8] for run_id in closed)}" if closed else "every run that is on lives"
        if looks:
            told = f"{told}; {len(looks)} to be looked at again"
        return dg.SensorResult(skip_reason=told, cursor=json.dumps(looks))

    return [left_behind]
