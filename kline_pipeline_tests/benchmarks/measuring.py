"""Measures a named work: run through the core or through `backfill` in a new KLINE_HOME, then its floors beside it."""

import json
import sys
from collections.abc import Callable
from typing import Final

from kline_pipeline_tests.benchmarks.processes import told_by
from kline_pipeline_tests.benchmarks.row_versions import Versions, prove_seen, versions_of
from kline_pipeline_tests.benchmarks.works import Work
from kline_pipeline_tests.benchmarks.world import Cost, World, world


def by_core(here: World, work: Work) -> Cost:
    """Run a work with the core pipeline in a process of its own."""
    words = [sys.executable, "-m", "kline_pipeline_tests.benchmarks.core", work.start, work.end, *work.keys]
    return here.program(words)


def by_backfill(here: World, work: Work) -> Cost:
    """Run a work through Dagster, as a user does."""
    return here.command("backfill", *work.keys, "--from", work.start, "--to", work.end, "--json")


WAYS: Final[dict[str, Callable[[World, Work], Cost]]] = {"core": by_core, "backfill": by_backfill}


def measure(work: Work, way: str, *, again: bool = False) -> list[dict[str, float]]:
    """Run a work, and again on what is stored then if asked to; return the figures of each run, as `figures` has them.

    Raises:
        SystemExit: a run failed or was not complete, or the statistics of row versions do not show what it inserted.
    """
    found: list[tuple[Cost, Versions, int]] = []
    with world(*work.options) as here:
        for number in range(1 + again):
            before, refused = versions_of(here.database), here.refused()
            cost = WAYS[way](here, work)
            check(here, work, cost)
            if not number:
                prove_seen(here.database, before, inserted=work.candles)
            found.append((cost, versions_of(here.database).since(before), here.refused() - refused))
        refused = here.refused()
        floors = told_by("work_floors", work.name, env=here.env)
        refused = here.refused() - refused
    floors["computed_s"] = work.floor_s
    return [figures(work, cost, versions, floors, one + refused) for cost, versions, one in found]


def figures(work: Work, cost: Cost, versions: Versions, floors: dict[str, float], refused: int) -> dict[str, float]:
    """Return a run as numbers by name; those of the floors begin with floor_, `refused` are 403 answers."""
    ran = cost.ran
    return {
        "candles": work.candles,
        "wall_s": ran.wall_s,
        "own_cpu_s": cost.own_cpu_s,
        "own_cpu_s_per_million": cost.own_cpu_s / work.candles * 1e6,
        "command_cpu_s": ran.command_cpu_s,
        "workers_cpu_s": ran.workers_cpu_s,
        "postgres_cpu_s": cost.postgres_cpu_s,
        "exchange_cpu_s": cost.exchange_cpu_s,
        "other_cpu_s": cost.other_cpu_s,
        "peak_mb": ran.peak_mb,
        **{f"rows_{name}": count for name, count in versions._asdict().items()},
        "refused": refused,
        **{f"floor_{name}": value for name, value in floors.items()},
    }


def check(here: World, work: Work, cost: Cost) -> None:
    """Return if the work that ran last succeeded and brought every candle.

    Raises:
        SystemExit: it did not; with what it wrote.
    """
    told = here.output()
    if cost.ran.code != 0:
        raise SystemExit(f"{work.name} failed with exit code {cost.ran.code}:\n{told}")
    report = json.loads(told.splitlines()[-1])
    landed = report["candles"] if "candles" in report else report["totals"]["present"]
    if landed != work.candles:
        raise SystemExit(f"{work.name}: {landed} candles landed, {work.candles} were asked for")
