"""What Dagster's storage tells of runs: its size, their seconds, and those of each step and check result.

All of it is SQL on schema `dagster` of the release that is installed; what was run is told in scale.py.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import text

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import connect

_OPEN = """
from kline_pipeline.config import Settings
from kline_pipeline.defs.instance.storage import open_instance
with open_instance(Settings.load()):
    pass
"""
_SIZE = "select sum(pg_total_relation_size(c.oid)) from pg_class c where relnamespace = 'dagster'::regnamespace"
# Indexes and TOAST are in the total of their tables.
_SIZE += " and relkind = 'r'"
_RUNS = """
select count(*) as runs, count(*) filter (where status <> 'SUCCESS') as unsuccessful,
    min(end_time - start_time) as least, percentile_cont(0.5) within group (order by end_time - start_time) as median,
    max(end_time - start_time) as most, sum(end_time - start_time) as total
from dagster.runs
"""
# A sink lands, then checks: its results are timed from the first to the last of them.
_STEPS = """
with step as (
    select run_id, step_key,
        extract(epoch from max(timestamp) filter (where dagster_event_type like 'STEP_%')
            - min(timestamp) filter (where dagster_event_type = 'STEP_START')) as seconds,
        count(*) filter (where dagster_event_type = 'ASSET_CHECK_EVALUATION') as results,
        count(*) filter (where dagster_event_type = 'ASSET_MATERIALIZATION') as materializations,
        extract(epoch from max(timestamp) filter (where dagster_event_type = 'ASSET_CHECK_EVALUATION')
            - min(timestamp) filter (where dagster_event_type = 'ASSET_CHECK_EVALUATION')) as checking
    from dagster.event_logs where step_key is not null group by 1, 2
)
select step_key as step, sum(seconds) as seconds, sum(materializations) as materializations, sum(results) as results,
    1000 * sum(case when materializations = 0 then seconds else checking end) / nullif(sum(results), 0) as ms_a_result
from step group by 1 order by min(case when materializations = 0 then 1 else 0 end), 1
"""
_CHECKS = """
select check_name, execution_status, partition is null as whole, count(*) as results
from dagster.asset_check_executions group by 1, 2, 3 order by 1, 2, 3
"""
_TABLES = """
select relname, pg_total_relation_size(oid) as bytes from pg_class
where relnamespace = 'dagster'::regnamespace and relkind = 'r' order by 2 desc limit 4
"""


class Spent(NamedTuple):
    """What the runs of one KLINE_HOME have cost, each as rows by column name."""

    runs: Sequence[Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]
    checks: Sequence[Mapping[str, Any]]
    tables: Sequence[Mapping[str, Any]]


def empty_size(env: Mapping[str, str]) -> int:
    """Return the bytes of a storage without runs, which is made where there is none, in the KLINE_HOME of `env`."""
    subprocess.run([sys.executable, "-c", _OPEN], env=env, check=True)
    return size(env)


def size(env: Mapping[str, str]) -> int:
    """Return the bytes of all tables of Dagster with their indexes."""
    return int(_asked(env, _SIZE)[0][0]["sum"])


def spent(env: Mapping[str, str]) -> Spent:
    """Return the figures of all runs that are stored."""
    return Spent(*_asked(env, _RUNS, _STEPS, _CHECKS, _TABLES))


def _asked(env: Mapping[str, str], *questions: str) -> list[list[Mapping[str, Any]]]:
    os.environ.update(env)
    with connect(Settings.load()) as database, database.engine.begin() as connection:
        return [[dict(row._mapping) for row in connection.execute(text(one))] for one in questions]
