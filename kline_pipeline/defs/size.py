"""How many partitions a dataset may have before Dagster gets slow: by cells, not by rows (dagster.md 1.3)."""

from dataclasses import replace
from typing import Final

from kline_pipeline.datasets import GRAINS, Dataset, floor_date
from kline_pipeline.errors import DatasetsError

PLEASANT_CELLS: Final = 5_000
# Dagster's own limit for one asset (dagster.md 1.1).
MOST_CELLS: Final = 100_000


def size_warning(dataset: Dataset, symbols: int, now_ms: int) -> str | None:
    """Return what to say about the size of a dataset with so many symbols, None where there is nothing to say.

    Raises:
        DatasetsError: it has more partitions than Dagster can hold.
    """
    cells = symbols * len(dataset.dates(now_ms))
    if cells <= PLEASANT_CELLS:
        return None
    fitting = [
        grain
        for grain in GRAINS
        if symbols * len(replace(dataset, grain=grain, start=floor_date(dataset.start, grain)).dates(now_ms))
        <= PLEASANT_CELLS
    ]
    advice = f'grain = "{fitting[0]}" would fit' if fitting else "fewer symbols or a later start would fit"
    told = f"{dataset.name} has {cells:,} partitions ({symbols} symbols)"
    if cells > MOST_CELLS:
        raise DatasetsError(f"{told} and Dagster holds {MOST_CELLS:,} at most; {advice} for a dataset without data")
    return f"{told}; above {PLEASANT_CELLS:,} Dagster's pages get slow: {advice} for a dataset without data"
