"""The states of partitioned checks that Dagster's pages poll, reckoned in time that grows with the partitions.

Dagster 1.13.27 looks up every partition key in the schedule of its dates and copies a set for each one: with 4,800
partitions and six checks, 93 % of a poll of the page of an asset was that and 7 % SQL. What comes out here is the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import product
from typing import Any, Final, TypeAlias

from dagster import AssetCheckKey, MultiPartitionsDefinition, PartitionsDefinition, RunsFilter
from dagster._core.asset_graph_view.serializable_entity_subset import SerializableEntitySubset
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionResolvedStatus,
    AssetCheckPartitionInfo,
)
from dagster._core.storage.asset_check_state import AssetCheckState
from dagster._core.storage.dagster_run import FINISHED_STATUSES, DagsterRunStatus
from dagster_postgres import PostgresEventLogStorage

Partitions: TypeAlias = PartitionsDefinition[Any] | None

_PLANNED: Final = AssetCheckExecutionRecordStatus.PLANNED
_DONE: Final = {
    AssetCheckExecutionRecordStatus.SUCCEEDED: AssetCheckExecutionResolvedStatus.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED: AssetCheckExecutionResolvedStatus.FAILED,
}


class EventLog(PostgresEventLogStorage):
    """Dagster's event log, whose states of checks take linear time."""

    def get_asset_check_state(
        self, keys: Sequence[tuple[AssetCheckKey, Partitions]]
    ) -> Mapping[AssetCheckKey, AssetCheckState]:
        """Return the state of each check as it is now, of the partitions that exist now."""
        found: dict[AssetCheckKey, list[AssetCheckPartitionInfo]] = defaultdict(list)
        for info in self.get_asset_check_partition_info([key for key, _ in keys]):
            found[info.check_key].append(info)
        ended = self._ended(
            {info.latest_planned_run_id for infos in found.values() for info in infos if _planned(info)}
        )
        with partition_loading_context(dynamic_partitions_store=self._instance):
            existing = {partitions: _existing(partitions) for partitions in {partitions for _, partitions in keys}}
        return {key: _state(key, partitions, found[key], existing[partitions], ended) for key, partitions in keys}

    def _ended(self, run_ids: AbstractSet[str]) -> dict[str, DagsterRunStatus]:
        if not run_ids:
            return {}
        wanted = RunsFilter(run_ids=list(run_ids), statuses=FINISHED_STATUSES)
        return {run.run_id: run.status for run in self._instance.get_runs(filters=wanted)}


def _state(
    key: AssetCheckKey,
    partitions: Partitions,
    infos: Sequence[AssetCheckPartitionInfo],
    existing: AbstractSet[str | None],
    ended: Mapping[str, DagsterRunStatus],
) -> AssetCheckState:
    """Return the state that Dagster comes to when it takes up the infos, at most one a partition, one by one."""
    by_status: dict[AssetCheckExecutionResolvedStatus, list[str | None]] = defaultdict(list)
    by_run: dict[str, list[str | None]] = defaultdict(list)
    latest = 0
    for info in infos:
        latest = max(latest, info.latest_check_event_storage_id, info.latest_materialization_storage_id or 0)
        if info.partition_key not in existing:
            continue
        if _planned(info):
            by_status[AssetCheckExecutionResolvedStatus.IN_PROGRESS].append(info.partition_key)
            by_run[info.latest_planned_run_id].append(info.partition_key)
        elif info.is_current:
            by_status[_DONE[info.latest_execution_status]].append(info.partition_key)
    state = AssetCheckState(
        latest_storage_id=latest,
        subsets={status: _subset(key, partitions, by_status[status]) for status in AssetCheckExecutionResolvedStatus},
        in_progress_runs={run_id: _subset(key, partitions, them) for run_id, them in by_run.items()},
    )
    return state.with_updates(key, partitions, [], ended)  # what was planned in a run that has ended


def _planned(info: AssetCheckPartitionInfo) -> bool:
    return info.latest_execution_status == _PLANNED


def _existing(partitions: Partitions) -> AbstractSet[str | None]:
    """Return the keys of all partitions; of two dimensions they are joined here, as Dagster makes an object of each."""
    if partitions is None:
        return {None}
    if not isinstance(partitions, MultiPartitionsDefinition):
        return frozenset(partitions.get_partition_keys())
    dimensions = [dimension.partitions_def.get_partition_keys() for dimension in partitions.partitions_defs]
    return frozenset("|".join(parts) for parts in product(*dimensions))


def _subset(
    key: AssetCheckKey, partitions: Partitions, them: Sequence[str | None]
) -> SerializableEntitySubset[AssetCheckKey]:
    if not them:
        return SerializableEntitySubset.empty(key, partitions)
    if partitions is None:
        return SerializableEntitySubset(key, value=True)
    return SerializableEntitySubset(key, partitions.subset_with_partition_keys([one for one in them if one]))
