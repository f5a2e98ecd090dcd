"""The states of partitioned checks that Dagster's pages poll, reckoned in time that grows with the partitions.

Dagster 1.13.27 looks up every partition key in the schedule of its dates and copies a set for each one: with 4,800
partitions and six checks, 93 % of a poll of the page of an asset was that and 7 % SQL. What comes out here is the same.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import product
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

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

from kline_pipeline.defs.instance.known_schema import EventLogOfKnownTables

Partitions: TypeAlias = PartitionsDefinition[Any] | None

_KEPT_S: Final = 60.0
_PLANNED: Final = AssetCheckExecutionRecordStatus.PLANNED
_DONE: Final = {
    AssetCheckExecutionRecordStatus.SUCCEEDED: AssetCheckExecutionResolvedStatus.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED: AssetCheckExecutionResolvedStatus.FAILED,
}


class _Known(NamedTuple):
    """A state as it was when the newest event had this id; not to be used after `until_s` of the monotonic clock."""

    state: AssetCheckState
    partitions: Partitions
    newest: int | None
    until_s: float


class EventLog(EventLogOfKnownTables):
    """Dagster's event log, whose states of checks take linear time and are reckoned once for queries of one moment."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._known: dict[AssetCheckKey, _Known] = {}
        self._turn = Lock()

    def get_asset_check_state(
        self, keys: Sequence[tuple[AssetCheckKey, Partitions]]
    ) -> Mapping[AssetCheckKey, AssetCheckState]:
        """Return the state of each check, of the partitions that exist.

        While no event comes a state is kept for a minute: a partition that was removed counts until then.
        """
        with self._turn:  # a page asks twice at once: the second one waits, and finds what the first one found
            newest, now_s = self.get_maximum_record_id(), time.monotonic()
            wanted = [(key, partitions) for key, partitions in keys if not self._knows(key, partitions, newest, now_s)]
            for key, state in self._states(wanted).items():
                self._known[key] = _Known(state, dict(wanted)[key], newest, now_s + _KEPT_S)
            return {key: self._known[key].state for key, _ in keys}

    def _knows(self, key: AssetCheckKey, partitions: Partitions, newest: int | None, now_s: float) -> bool:
        known = self._known.get(key)
        return known is not None and (known.partitions, known.newest) == (partitions, newest) and now_s < known.until_s

    def _states(self, keys: Sequence[tuple[AssetCheckKey, Partitions]]) -> Mapping[AssetCheckKey, AssetCheckState]:
        if not keys:
            return {}
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
