"""What Dagster loads: assets, checks and resources of every dataset of datasets.toml; nothing is opened or asked here.

A datasets.toml that cannot be used is one sentence, in the code location's error as in the commands.
"""

from collections.abc import Iterable

import dagster as dg

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import dataset_assets
from kline_pipeline.defs.automation.alerts import alert_sensors
from kline_pipeline.defs.checks import candle_checks
from kline_pipeline.defs.resources import resources


def definitions_of(declared: Iterable[Dataset]) -> dg.Definitions:
    """Return the definitions of some datasets."""
    declared = tuple(declared)
    chains = [(dataset, dataset_assets(dataset)) for dataset in declared]
    return dg.Definitions(
        assets=[asset for _, chain in chains for asset in chain],
        asset_checks=[check for dataset, (_, candles, *_) in chains for check in candle_checks(dataset, candles)],
        sensors=alert_sensors(declared),
        resources=resources(),
        executor=dg.in_process_executor,
    )


defs = definitions_of(datasets.load(Settings.load().datasets_file))
