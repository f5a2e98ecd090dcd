"""The four assets of a dataset and their partitions: date x symbol; each body calls one method of the pipeline.

What a stage does is told in pipeline.py and stages/, how results per partition reach Dagster in partition_results.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Final, cast

import dagster as dg

from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.check_metadata import asset_check_result
from kline_pipeline.defs.marks import pages_teller
from kline_pipeline.defs.partition_results import (
    CellPartitions,
    Landed,
    add_metadata,
    inline_check,
    landing_results,
    partition_keys,
)
from kline_pipeline.defs.ranges import MOST_CANDLES, MOST_CELLS, partition_key
from kline_pipeline.defs.run_lines import step_lines
from kline_pipeline.defs.symbols import partitions_name
from kline_pipeline.errors import KlineError
from kline_pipeline.log.redaction import redaction
from kline_pipeline.market.window import iso
from kline_pipeline.pipeline import Pipeline
from kline_pipeline.stages.fill import FillReport
from kline_pipeline.stages.land import SINK_CHECKS, Landing

PROGRESS_MARK: Final = "PROGRESS"  # begins the log message of each partition and step; the progress bar reads them
WAITING_MARK: Final = "WAITING"  # begins the log message of a step that waits to be tried again
REPAIR_TAG: Final = "kline/repair"  # a run that also reads again what contradicts other series
_RETRIES: Final = 3
_RETRY_WAIT_S: Final = 30.0
_GRAINS: Final = {
    "day": ("0 0 * * *", 1),
    "month": ("0 0 1 * *", 31),
    "year": ("0 0 1 1 *", 366),
}  # the ticks of a grain, and the days of its longest partition
_DAY_MS: Final = 86_400_000
_SINK_WORDS: Final = {
    "postgres": "Candles in the table kline.candles",
    "parquet": "Candles as Parquet snapshots, one file per symbol and date",
}


def partitions_def(dataset: Dataset) -> dg.MultiPartitionsDefinition:
    """Return the partitions of a dataset: every date up to and including the open one, with every symbol."""
    ticks, _ = _GRAINS[dataset.grain]
    dates = dg.TimeWindowPartitionsDefinition(
        start=datetime(dataset.start.year, dataset.start.month, dataset.start.day, tzinfo=UTC),
        fmt="%Y-%m-%d",
        cron_schedule=ticks,
        timezone="UTC",
        end_offset=1,
    )
    return CellPartitions({"date": dates, "symbol": dg.DynamicPartitionsDefinition(name=partitions_name(dataset))})


def asset_key(dataset: Dataset, name: str) -> dg.AssetKey:
    """Return the key of an asset of a dataset: linear/1/candles."""
    return dg.AssetKey([dataset.category, dataset.interval.code, name])


def cell_of(key: str) -> Cell:
    """Return the partition that Dagster names so: 2024-01-01|BTCUSDT."""
    day, symbol = key.split("|")
    return Cell(date.fromisoformat(day), symbol)


def dataset_assets(
    dataset: Dataset, *, declared: Sequence[Dataset] = (), run_partitions: int = MOST_CELLS
) -> list[dg.AssetsDefinition]:
    """Return raw_batches, candles and the sinks that the dataset has, in the order of the flow.

    Args:
        dataset: one of datasets.toml.
        declared: all of them, with which a repair compares it.
        run_partitions: most partitions of one run, KLINE_RUN_PARTITIONS.
    """
    options: dict[str, Any] = {
        "group_name": dataset.name,
        "partitions_def": partitions_def(dataset),
        "backfill_policy": _backfill_policy(dataset, run_partitions),
    }
    found = [_raw_batches(dataset, declared, options), _candles(dataset, options)]
    return found + [_sink(dataset, sink, options) for sink in dataset.sinks]


def _raw_batches(dataset: Dataset, declared: Sequence[Dataset], options: Mapping[str, Any]) -> dg.AssetsDefinition:
    def raw_batches(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
        with _failures(context):
            if context.op_execution_context.has_tag(REPAIR_TAG):
                again = pipeline.distrust_inconsistent(dataset, _cells(context), declared=declared)
                context.log.info("read again, as they contradict others: %s", [partition_key(cell) for cell in again])
            on_pages = pages_teller(context.log.info)
            for cell, report in pipeline.fill(dataset, _cells(context), on_pages=on_pages).items():
                _tell(context, "raw_batches", cell, _fill_facts(report))

    words = "What the exchange answered, verbatim"
    return _asset(dataset, "raw_batches", words, deps=[], options=options, body=raw_batches)


def _candles(dataset: Dataset, options: Mapping[str, Any]) -> dg.AssetsDefinition:
    def candles(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
        def report(cell: Cell, verdict: Verdict) -> None:
            _tell(context, "candles", cell, _verdict_facts(verdict))

        with _failures(context):
            pipeline.derive(dataset, _cells(context), now_ms=_now_ms(), report=report)

    deps = [asset_key(dataset, "raw_batches")]
    words = "Candles derived from the raw batches and judged; quarantined ones are here too, and do not land"
    return _asset(dataset, "candles", words, deps=deps, options=options, body=candles)


def _sink(dataset: Dataset, sink: str, options: Mapping[str, Any]) -> dg.AssetsDefinition:
    name, check = f"candles_{sink}", dg.AssetCheckKey(asset_key(dataset, f"candles_{sink}"), SINK_CHECKS[sink])

    def body(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Iterator[Any]:
        def report(cell: Cell, landing: Landing) -> None:
            _log(context, name, cell, _landing_facts(landing))

        with _failures(context):
            land = pipeline.land_postgres if sink == "postgres" else pipeline.land_parquet
            landings = land(dataset, _cells(context), report=report)
        yield from landing_results(
            context, check, {partition_key(cell): _landed(one) for cell, one in landings.items()}
        )

    spec = inline_check(
        check.asset_key,
        check.name,
        "What the sink holds equals the candles that are to land",
        options["partitions_def"],
    )
    deps = [asset_key(dataset, "candles")]
    return _asset(dataset, name, _SINK_WORDS[sink], deps=deps, options={**options, "check_specs": [spec]}, body=body)


def _asset(
    dataset: Dataset,
    name: str,
    description: str,
    *,
    deps: Sequence[dg.AssetKey],
    options: Mapping[str, Any],
    body: Callable[..., Any],
) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill_policy
        decorate = dg.asset(key=asset_key(dataset, name), description=description, deps=deps, **options)
        return cast("dg.AssetsDefinition", decorate(body))


def _backfill_policy(dataset: Dataset, most: int) -> dg.BackfillPolicy:
    candles = max(1, _GRAINS[dataset.grain][1] * _DAY_MS // dataset.interval.typical_ms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.BackfillPolicy.multi_run(max_partitions_per_run=max(1, min(most, MOST_CANDLES // candles)))


def _cells(context: dg.AssetExecutionContext) -> list[Cell]:
    keys = partition_keys(context)
    if not keys:
        raise dg.Failure("a run needs partitions: choose dates and symbols", allow_retries=False)
    return [cell_of(key) for key in keys]


@contextmanager
def _failures(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Turn our errors into Dagster's: what may pass is retried, which is said, all else fails with its sentence."""
    try:
        with step_lines(context.op_execution_context.run_id, context.asset_key.to_user_string()):
            yield
    except KlineError as exc:
        if exc.retryable:
            wait_s = getattr(exc, "retry_after_s", None) or _RETRY_WAIT_S
            context.log.warning("%s %s (the step is tried again in %.0f s)", WAITING_MARK, exc, wait_s)
            raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=wait_s) from redaction().error(exc)
        raise dg.Failure(redaction().text(str(exc)), allow_retries=False) from redaction().error(exc)


def _tell(context: dg.AssetExecutionContext, name: str, cell: Cell, facts: Mapping[str, Any]) -> None:
    add_metadata(context, partition_key(cell), facts)
    _log(context, name, cell, facts)


def _log(context: dg.AssetExecutionContext, name: str, cell: Cell, facts: Mapping[str, Any]) -> None:
    context.log.info("%s %s %s %s", PROGRESS_MARK, name, partition_key(cell), json.dumps(facts))


def _fill_facts(report: FillReport) -> dict[str, Any]:
    return _given(
        requests=report.requests,
        rows=report.rows,
        bytes=report.size_bytes,
        held=report.held,
        not_listed=report.not_listed,
        fetch_error=report.fetch_error,
    )


def _verdict_facts(verdict: Verdict) -> dict[str, Any]:
    return _given(
        rows=verdict.rows,
        expected=verdict.expected,
        present=verdict.present,
        missing=verdict.missing,
        first=iso(verdict.first_ms) if verdict.first_ms is not None else None,
        last=iso(verdict.last_ms) if verdict.last_ms is not None else None,
        dropped=verdict.dropped,
        duplicates=verdict.duplicates,
        revisions=verdict.revisions,
        not_listed=verdict.not_listed,
        quarantined=verdict.quarantined,
        reasons="; ".join(verdict.reasons) or None,
    )


def _landing_facts(landing: Landing) -> dict[str, Any]:
    return _given(
        rows=landing.rows,
        written=landing.written,
        bytes=landing.size_bytes,
        stepped_back=landing.stepped_back,
        landed=landing.result.passed,
        reasons=landing.result.sentence or None,
    )


def _landed(landing: Landing) -> Landed:
    return Landed(
        result=asset_check_result(landing.result), good=landing.result.passed, metadata=_landing_facts(landing)
    )


def _given(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _now_ms() -> int:
    return round(datetime.now(tz=UTC).timestamp() * 1000)
