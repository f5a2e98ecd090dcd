"""The grain each dataset began with; a dataset that holds data keeps it."""

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from kline_pipeline.database.tables import datasets as datasets_table
from kline_pipeline.datasets import Dataset
from kline_pipeline.errors import DatasetsError


def keep(connection: Connection, dataset: Dataset) -> None:
    """Record the grain of a dataset at its first use.

    Raises:
        DatasetsError: it holds data of another grain.
    """
    key = {"category": dataset.category, "interval": dataset.interval.code}
    connection.execute(insert(datasets_table).values(**key, grain=dataset.grain).on_conflict_do_nothing())
    grain = connection.execute(
        select(datasets_table.c.grain).where(
            datasets_table.c.category == dataset.category, datasets_table.c.interval == dataset.interval.code
        )
    ).scalar_one()
    if grain != dataset.grain:
        raise DatasetsError(
            f"{dataset.name} holds partitions of grain {grain} and the file says {dataset.grain}; "
            f'set grain = "{grain}", '
            "or use another KLINE_HOME and backfill there"
        )
