"""Results per partition: the only module that touches Dagster's preview and internal interfaces for checks.

Dagster 1.13.27 stores one result without a partition when a check runs over a range, and fails when it runs over no
partition (dagster.md 1.3). Here a check yields the evaluations itself, and a sink whose cells landed in part logs the
good ones and fails exactly the bad ones (dagster.md 8). What is judged, and how, is not known here.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

RELEASE: Final = "1.13.27"  # the release of Dagster whose behaviour was measured and is tested

Target: TypeAlias = AssetCheckEvaluationTargetMaterializationData
CheckBody: TypeAlias = Callable[..., Any]  # a generator of events, which Dagster's types do not know
_SENTENCE_CELLS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What a sink has to say of one partition.

    Attributes:
        result: of the inline check; the partition is materialized when `good`.
        good: it landed, or was there.
        metadata: of the materialization.
    """

    result: dg.AssetCheckResult
    good: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)


class CellPartitions(dg.MultiPartitionsDefinition):
    """Partitions by two dimensions whose jobs can be backfilled over ranges.

    The backfill of a job tags a run over a range with the dimensions of its first partition too, and Dagster then
    takes that one for all of the run: one partition is materialized and the whole range reported as done.
    """

    def get_tags_for_partition_key(self, partition_key: str) -> Mapping[str, str]:
        """Return the tags of a run over one partition: its key, without the dimensions."""
        return {"dagster/partition": partition_key}


def partitioned_check(
    asset: dg.AssetsDefinition, name: str, description: str, **options: Any
) -> Callable[[CheckBody], dg.AssetChecksDefinition]:
    """Return the decorator of a non-blocking check whose results belong to the partitions of the asset.

    The body yields what `check_results` returns. Blocking is not offered: it would stop a range for one partition.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        decorate = dg.asset_check(
            asset=asset, name=name, description=description, partitions_def=asset.partitions_def, **options
        )

    def quietly(body: CheckBody) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return decorate(body)

    return quietly


def inline_check(
    asset_key: dg.AssetKey, name: str, description: str, partitions_def: dg.PartitionsDefinition[Any]
) -> dg.AssetCheckSpec:
    """Return the spec of a check that is part of its asset and has results per partition."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(name, asset=asset_key, description=description, partitions_def=partitions_def)


def partition_keys(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[str]:
    """Return the keys of the partitions of a run, in Dagster's order; empty in a run over no partition."""
    if context.has_partition_key:
        return [context.partition_key]
    return list(context.partition_keys) if context.has_partition_key_range else []


def add_metadata(context: dg.AssetExecutionContext, key: str, metadata: Mapping[str, Any]) -> None:
    """Add metadata to the materialization of one partition of the run.

    Dagster's own `add_asset_metadata` lists all partitions of the run to find the key, with statements to the database:
    30 % of the time that the candles of a run over 240 partitions took.
    """
    step = context.get_step_execution_context()
    step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(  # noqa: SLF001
        asset_key=context.asset_key, partition_key=key, metadata=metadata
    )


def check_results(
    context: dg.AssetCheckExecutionContext,
    one: Callable[[str], dg.AssetCheckResult | None],
    stored: Callable[[], dg.AssetCheckResult],
) -> Iterator[Any]:
    """Yield the events of a check: a result per partition of the run, or one over all that is stored.

    Args:
        context: of the check.
        one: the result of one partition, by its key; None when there is nothing to judge, which is logged.
        stored: the result over all that is stored, asked only in a run over no partition.
    """
    (spec,) = context.check_specs
    keys = partition_keys(context)
    if keys:
        targets = _targets(context.instance, spec.asset_key, keys)
        for key in keys:
            result = one(key)
            if result is None:
                context.log.info("%s has no result for %s: nothing of it has been derived", spec.name, key)
            else:
                yield _evaluation(spec.key, result, key, targets.get(key))
    else:
        context.log.info("%s: a run over no partition has one result, over all that is stored", spec.name)
        yield _evaluation(spec.key, stored(), None, None)
    for name in context.op_execution_context.selected_output_names:
        yield dg.Output(None, output_name=name)


def landing_results(
    context: dg.AssetExecutionContext, check: dg.AssetCheckKey, landed: Mapping[str, Landed]
) -> Iterator[Any]:
    """Yield the events of a sink: every partition its check result, the good ones materialized, the bad ones failed.

    Args:
        context: of the sink.
        check: its inline check.
        landed: per partition key of the run what came of it.

    A run over no partition never comes here: Dagster refuses it before the body of an asset with a partitioned input.

    Raises:
        Failure: some are bad; it names them and is not retried.
    """
    bad = [key for key, one in landed.items() if not one.good]
    if bad:
        for key, one in landed.items():
            if one.good:
                context.log_event(dg.AssetMaterialization(check.asset_key, partition=key, metadata=one.metadata))
    else:
        for key, one in landed.items():
            add_metadata(context, key, one.metadata)
        # First, as the check results point to the materializations that it stores.
        yield dg.MaterializeResult()
    targets = _targets(context.instance, check.asset_key, list(landed))
    for key, one in landed.items():
        yield _evaluation(check, one.result, key, targets.get(key))
    if bad:
        raise dg.Failure(_sentence(bad, landed), allow_retries=False)
    yield from _check_outputs(context, check)


def _check_outputs(context: dg.AssetExecutionContext, check: dg.AssetCheckKey) -> Iterator[Any]:
    specs = context.assets_def.node_check_specs_by_output_name
    for name, spec in specs.items():
        if spec.key == check and name in context.op_execution_context.selected_output_names:
            yield dg.Output(None, output_name=name)


def _evaluation(
    check: dg.AssetCheckKey, result: dg.AssetCheckResult, key: str | None, target: Target | None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
        partition=key,
        target_materialization_data=target,
    )


def _targets(instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Sequence[str]) -> dict[str, Target]:
    """Return the newest materialization of each partition; without it the page shows the check as missing."""
    newest = instance.get_latest_storage_id_by_partition(
        asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(keys)
    )
    if not newest:
        return {}
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=list(newest.values())), limit=len(newest)
    ).records
    return {
        record.partition_key: Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)
        for record in records
        if record.partition_key is not None
    }


def _sentence(bad: Sequence[str], landed: Mapping[str, Landed]) -> str:
    named = "; ".join(f"{key}: {landed[key].result.description or 'not landed'}" for key in bad[:_SENTENCE_CELLS])
    more = f"; and {len(bad) - _SENTENCE_CELLS} more" if len(bad) > _SENTENCE_CELLS else ""
    return f"{len(bad)} of {len(landed)} partitions did not land: {named}{more}"
