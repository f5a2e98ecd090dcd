"""The checks of the candles of a dataset, one result per partition; rules are in checks/, the sinks' own in assets."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from kline_pipeline.checks import no_duplicates, no_gaps, well_formed
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import cell_of
from kline_pipeline.defs.check_metadata import asset_check_result
from kline_pipeline.defs.partition_results import check_results, partitioned_check
from kline_pipeline.errors import KlineError
from kline_pipeline.pipeline import Pipeline

_WORDS: Final = {
    no_gaps.NAME: "Every open time of the grid that has closed is present",
    no_duplicates.NAME: "There is one candle per open time",
    well_formed.NAME: "Candles are on the grid, with low <= open, close <= high and no negative volume or turnover",
}


def candle_checks(dataset: Dataset, candles: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the candles of a dataset; none blocks, as quarantine is what holds a bad partition back."""
    return [_check(dataset, candles, name) for name in _WORDS]


def _check(dataset: Dataset, candles: dg.AssetsDefinition, name: str) -> dg.AssetChecksDefinition:
    @partitioned_check(candles, name, _WORDS[name])
    def body(context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Iterator[Any]:
        def one(key: str) -> dg.AssetCheckResult | None:
            cell = cell_of(key)
            return asset_check_result(pipeline.verdict(dataset, cell).results[name]) if cell in derived else None

        def stored() -> dg.AssetCheckResult:
            return asset_check_result(pipeline.judge_stored(dataset, name))

        try:
            derived = frozenset(pipeline.derived(dataset))
            yield from check_results(context, one, stored)
        except KlineError as exc:
            raise dg.Failure(str(exc), allow_retries=False) from exc

    return body
