"""The checks of the candles of a dataset; rules are in checks/, the sinks' own in assets.

`consistent` and the rules of a partition have a result per partition; `fresh` and `revisions` have one per dataset.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
import msgspec

from kline_pipeline.checks import consistent, fresh, no_duplicates, no_gaps, revisions, well_formed
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.assets import cell_of
from kline_pipeline.defs.check_metadata import asset_check_result
from kline_pipeline.defs.partition_results import check_results, partitioned_check
from kline_pipeline.defs.run_lines import without_secrets
from kline_pipeline.errors import KlineError
from kline_pipeline.log.redaction import redaction
from kline_pipeline.pipeline import Pipeline

# Runs that commands start leave these out; other backfills of old data have `fresh` as a warning.
DATASET_CHECKS: Final = (fresh.NAME, revisions.NAME)
_WORDS: Final = {
    no_gaps.NAME: "Every open time of the grid that has closed is present",
    no_duplicates.NAME: "There is one candle per open time",
    well_formed.NAME: "Candles are on the grid, with low <= open, close <= high and no negative volume or turnover",
    consistent.NAME: "Every candle opens where the one before closed, and finer candles add up to coarser ones",
    fresh.NAME: "The newest stored candle of every symbol still trading is not too old",
    revisions.NAME: "No closed candle was found to have changed in the last 7 days",
}


def candle_checks(
    dataset: Dataset, candles: dg.AssetsDefinition, declared: Sequence[Dataset]
) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the candles of a dataset; none blocks, as quarantine is what holds a bad partition back.

    Args:
        dataset: whose candles they are.
        candles: its asset.
        declared: all datasets; `consistent` compares those of the same category.
    """

    def judged(name: str) -> dg.AssetChecksDefinition:
        return _partitioned(
            dataset,
            candles,
            name,
            lambda pipeline, cell: pipeline.verdict(dataset, cell).results[name],
            lambda pipeline: pipeline.judge_stored(dataset, name),
        )

    return [
        _partitioned(
            dataset,
            candles,
            no_gaps.NAME,
            lambda pipeline, cell: pipeline.no_gaps(dataset, cell),
            lambda pipeline: pipeline.judge_stored(dataset, no_gaps.NAME),
        ),
        *(judged(name) for name in (no_duplicates.NAME, well_formed.NAME)),
        _partitioned(
            dataset,
            candles,
            consistent.NAME,
            lambda pipeline, cell: pipeline.consistent(dataset, cell, declared=declared),
            lambda pipeline: pipeline.consistent_stored(dataset, declared=declared),
        ),
        _of_dataset(dataset, candles, fresh.NAME, lambda pipeline, now_ms: pipeline.fresh(dataset, now_ms=now_ms)),
        _of_dataset(
            dataset, candles, revisions.NAME, lambda pipeline, now_ms: pipeline.revisions(dataset, now_ms=now_ms)
        ),
    ]


def _partitioned(
    dataset: Dataset,
    candles: dg.AssetsDefinition,
    name: str,
    judge: Callable[[Pipeline, Cell], CheckResult],
    judge_stored: Callable[[Pipeline], CheckResult],
) -> dg.AssetChecksDefinition:
    @partitioned_check(candles, name, _WORDS[name])
    def body(context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Iterator[Any]:
        def one(key: str) -> dg.AssetCheckResult | None:
            cell = cell_of(key)
            return asset_check_result(judge(pipeline, cell)) if cell in derived else None

        try:
            with without_secrets(KlineError):
                derived = frozenset(pipeline.derived(dataset))
                yield from check_results(context, one, lambda: asset_check_result(judge_stored(pipeline)))
        except KlineError as exc:
            raise dg.Failure(redaction().text(str(exc)), allow_retries=False) from redaction().error(exc)

    return body


def _of_dataset(
    dataset: Dataset, candles: dg.AssetsDefinition, name: str, judge: Callable[[Pipeline, int], CheckResult]
) -> dg.AssetChecksDefinition:
    # Without partitions of its own: on multi-partitions any run stores exactly one result (dagster.md 1.3, tested).
    @dg.asset_check(asset=candles, name=name, description=_WORDS[name])
    def body(context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        now_ms = round(datetime.now(tz=UTC).timestamp() * 1000)
        try:
            with without_secrets(KlineError):
                result = judge(pipeline, now_ms)
        except KlineError as exc:
            raise dg.Failure(redaction().text(str(exc)), allow_retries=False) from redaction().error(exc)
        if name == fresh.NAME and not _asked_for_the_newest(context, dataset, now_ms):
            result = msgspec.structs.replace(result, severity="WARN")
        return asset_check_result(result)

    return body


def _asked_for_the_newest(context: dg.AssetCheckExecutionContext, dataset: Dataset, now_ms: int) -> bool:
    """Return whether a run had the open date, or no date at all: a backfill of old data is not red for being old."""
    tags = context.op_execution_context
    key = tags.get_tag("dagster/partition") or tags.get_tag("dagster/asset_partition_range_end")
    return key is None or cell_of(key).date >= dataset.dates(now_ms)[-1]
