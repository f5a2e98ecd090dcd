"""The symbols of a dataset as Dagster's dynamic partitions; datasets.toml is read elsewhere."""

from collections.abc import Sequence

from dagster import DagsterInstance

from kline_pipeline.datasets import Dataset


def partitions_name(dataset: Dataset) -> str:
    """Return the name of the dynamic partitions of a dataset: symbols_linear_1."""
    return f"symbols_{dataset.name}"


def known_symbols(instance: DagsterInstance, dataset: Dataset) -> list[str]:
    """Return the symbols of a dataset in Dagster's order, that in which they were added; empty before the first one."""
    return list(instance.get_dynamic_partitions(partitions_name(dataset)))


def sync_symbols(instance: DagsterInstance, dataset: Dataset) -> list[str]:
    """Add the symbols of datasets.toml that Dagster does not know yet, and return those; none is ever taken away."""
    known = set(known_symbols(instance, dataset))
    new = [symbol for symbol in dataset.symbols if symbol not in known]
    if new:
        instance.add_dynamic_partitions(partitions_name(dataset), new)
    return new


def add_symbol(instance: DagsterInstance, dataset: Dataset, symbol: str) -> bool:
    """Add a symbol at the end and return True; False where it is known already."""
    if instance.has_dynamic_partition(partitions_name(dataset), symbol):
        return False
    instance.add_dynamic_partitions(partitions_name(dataset), [symbol])
    return True


def known_with(instance: DagsterInstance, dataset: Dataset, symbols: Sequence[str]) -> list[str]:
    """Return the symbols of a dataset in Dagster's order, those of datasets.toml and these among them."""
    sync_symbols(instance, dataset)
    for symbol in symbols:
        add_symbol(instance, dataset, symbol)
    return known_symbols(instance, dataset)


def remove_symbol(instance: DagsterInstance, dataset: Dataset, symbol: str) -> bool:
    """Take a symbol away and return True; False where it was not known. What is stored of it stays."""
    if not instance.has_dynamic_partition(partitions_name(dataset), symbol):
        return False
    instance.delete_dynamic_partition(partitions_name(dataset), symbol)
    return True
