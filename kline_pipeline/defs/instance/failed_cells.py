"""Which partitions Dagster shows as failed, whatever is stored of them; a killed run leaves such ones behind."""

from collections.abc import Sequence

from dagster import DagsterInstance
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.assets import asset_key, partitions_def
from kline_pipeline.defs.ranges import partition_key


def failed_cells(instance: DagsterInstance, dataset: Dataset, cells: Sequence[Cell]) -> list[Cell]:
    """Return those of some partitions that are failed in one of the dataset's assets, in the order given."""
    keys = {partition_key(cell): cell for cell in cells}
    failed: set[Cell] = set()
    for name in ("raw_batches", "candles", *(f"candles_{sink}" for sink in dataset.sinks)):
        found = instance.get_status_by_partition(asset_key(dataset, name), list(keys), partitions_def(dataset)) or {}
        failed |= {keys[key] for key, status in found.items() if status == AssetPartitionStatus.FAILED}
    return [cell for cell in cells if cell in failed]
