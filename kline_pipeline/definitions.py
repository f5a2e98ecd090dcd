"""What Dagster loads: assets, checks, automation and resources of every dataset; nothing is opened or asked here.

A datasets.toml that cannot be used is one sentence, in the code location's error as in the commands.
"""

from collections.abc import Iterable

import dagster as dg

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import dataset_assets
from kline_pipeline.defs.automation.alerts import alert_sensors
from kline_pipeline.defs.automation.asking_again import asking_again_sensors
from kline_pipeline.defs.automation.follow import follow_sensors
from kline_pipeline.defs.automation.housekeeping import housekeeping
from kline_pipeline.defs.automation.jobs import dataset_jobs
from kline_pipeline.defs.automation.left_behind import left_behind_sensors
from kline_pipeline.defs.automation.schedules import schedules
from kline_pipeline.defs.checks import candle_checks
from kline_pipeline.defs.ranges import MOST_CELLS
from kline_pipeline.defs.resources import resources


def definitions_of(declared: Iterable[Dataset], *, run_partitions: int = MOST_CELLS) -> dg.Definitions:
    """Return the definitions of some datasets.

    Args:
        declared: the datasets.
        run_partitions: most partitions of one run of a backfill, KLINE_RUN_PARTITIONS.
    """
    found = tuple(declared)
    chains = [(dataset, dataset_assets(dataset, declared=found, run_partitions=run_partitions)) for dataset in found]
    return dg.Definitions(
        assets=[asset for _, chain in chains for asset in chain],
        asset_checks=[
            check for dataset, (_, candles, *_) in chains for check in candle_checks(dataset, candles, found)
        ],
        jobs=[*dataset_jobs(found)],
        schedules=[*schedules(found), housekeeping()],
        sensors=[
            *follow_sensors(found),
            *asking_again_sensors(found),
            *left_behind_sensors(found),
            *alert_sensors(found),
        ],
        resources=resources(),
        executor=dg.in_process_executor,
    )


def _load() -> dg.Definitions:
    settings = Settings.load()
    return definitions_of(datasets.load(settings.datasets_file), run_partitions=settings.run_partitions)


defs = _load()
