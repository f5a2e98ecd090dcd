"""The jobs of a dataset: what schedules run, and what a person runs to repair; what a run does is told in assets.

Both materialize the same assets with all their checks, and both fetch only what is missing or offends a rule, as
`fill` does; the repair also reads again what contradicts other series.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import dagster as dg

from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import REPAIR_TAG, asset_key


def update_job_name(dataset: Dataset) -> str:
    """Return the name of the job that the schedules of a dataset run: update_linear_1."""
    return f"update_{dataset.name}"


def repair_job_name(dataset: Dataset) -> str:
    """Return the name of the job that repairs partitions of a dataset: repair_linear_1."""
    return f"repair_{dataset.name}"


def dataset_jobs(declared: Sequence[Dataset]) -> list[Any]:
    """Return the jobs of all datasets; each takes one partition or a range of them, as tags or in the launchpad."""
    return [job for dataset in declared for job in (update_job(dataset), repair_job(dataset))]


@cache  # a schedule and the definitions must name one and the same object
def update_job(dataset: Dataset) -> Any:
    """Return the job that the schedules of a dataset run, always the same one."""
    words = "What the schedules run: the newest dates of every symbol, and dates that were left unfinished"
    return _job(dataset, update_job_name(dataset), words, {})


@cache
def repair_job(dataset: Dataset) -> Any:
    """Return the job that repairs partitions of a dataset, always the same one."""
    words = "Fetches what is missing of the chosen partitions or offends a rule, judges them again and lands them"
    return _job(dataset, repair_job_name(dataset), words, {REPAIR_TAG: "yes"})


def _job(dataset: Dataset, name: str, description: str, tags: dict[str, str]) -> Any:
    names = ("raw_batches", "candles", *(f"candles_{sink}" for sink in dataset.sinks))
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*(asset_key(dataset, one) for one in names)),
        description=description,
        tags=tags,
    )
