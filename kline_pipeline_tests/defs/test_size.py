"""A dataset that would make Dagster slow is told, and one that it cannot hold is refused."""

from datetime import date

import pytest

from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.size import size_warning
from kline_pipeline.errors import DatasetsError
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2026-02-27")


def dataset(grain: str) -> Dataset:
    return Dataset("linear", Interval("1"), date(2020, 3, 1) if grain != "year" else date(2020, 1, 1), grain, ())


def test_a_month_grain_of_a_few_symbols_is_pleasant() -> None:
    assert size_warning(dataset("month"), 69, NOW_MS) is None


def test_more_than_five_thousand_partitions_are_told_with_the_grain_that_fits() -> None:
    told = size_warning(dataset("month"), 700, NOW_MS)

    assert told is not None
    assert "50,400 partitions" in told
    assert 'grain = "year" would fit' in told


def test_more_than_dagster_holds_is_refused() -> None:
    with pytest.raises(DatasetsError, match="100,000 at most"):
        size_warning(dataset("day"), 50, NOW_MS)
