"""Recording a run of chosen assets without the checks of their dataset as a whole; executing it is done elsewhere.

`create_run_for_job` of Dagster 1.13.27 takes no selection of checks: what it does is done here with one.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dagster import AssetCheckKey, AssetKey, DagsterInstance, DagsterRun, JobDefinition
from dagster._core.execution.api import create_execution_plan
from dagster._core.origin import JobPythonOrigin
from dagster._core.remote_origin import RemoteJobOrigin
from dagster._core.snap import snapshot_from_execution_plan

from kline_pipeline.defs.checks import DATASET_CHECKS

RELEASE: Final = "1.13.27"  # the release of Dagster whose behaviour was measured and is tested


def checks_of(definition: JobDefinition, assets: AbstractSet[AssetKey]) -> set[AssetCheckKey]:
    """Return the checks of some assets, without those that look at a whole dataset."""
    known = definition.asset_layer.asset_graph.asset_check_keys
    return {check for check in known if check.asset_key in assets and check.name not in DATASET_CHECKS}


def record_selected_run(
    instance: DagsterInstance,
    definition: JobDefinition,
    assets: AbstractSet[AssetKey],
    *,
    run_id: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, object] | None,
    remote_job_origin: RemoteJobOrigin,
    job_code_origin: JobPythonOrigin,
) -> DagsterRun:
    """Record a run of some assets with their checks by partition, not started."""
    checks = checks_of(definition, assets)
    subset = definition.get_subset(asset_selection=assets, asset_check_selection=checks)
    plan = create_execution_plan(subset, run_config=run_config, instance_ref=_reference(instance), tags=tags)
    return instance.create_run(
        job_name=subset.name,
        run_id=run_id,
        run_config=run_config,
        status=None,
        tags=tags,
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=plan.step_keys_to_execute,
        execution_plan_snapshot=snapshot_from_execution_plan(plan, subset.get_job_snapshot_id()),
        job_snapshot=subset.get_job_snapshot(),
        parent_job_snapshot=subset.get_parent_job_snapshot(),
        asset_selection=assets,
        asset_check_selection=checks,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=remote_job_origin,
        job_code_origin=job_code_origin,
        asset_graph=subset.asset_layer.asset_graph,
    )


def _reference(instance: DagsterInstance) -> Any:
    return instance.get_ref() if instance.is_persistent else None
