"""What a run was over: its assets and checks, its partitions, and which of them it left unmade.

Whether that is news is told in alerting/; which runs are looked at, in finished_runs.
"""

from collections.abc import Sequence
from typing import Final

from dagster import AssetCheckKey, AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun

from kline_pipeline.alerting.episodes import ends
from kline_pipeline.datasets import Dataset, undeclared
from kline_pipeline.defs.symbols import known_symbols
from kline_pipeline.errors import KlineError
from kline_pipeline.market.interval import Interval

_PLANNED: Final = {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


def selection_of(instance: DagsterInstance, run: DagsterRun) -> tuple[set[AssetKey], set[AssetCheckKey]]:
    """Return what a run was to make; one of a whole job names nothing, and says it in its first events."""
    if run.asset_selection or run.asset_check_selection:
        return set(run.asset_selection or ()), set(run.asset_check_selection or ())
    entries = instance.all_logs(run.run_id, of_type=_PLANNED)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    assets = {event.asset_key for event in events if event.event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
    checks = {
        event.asset_check_planned_data.asset_check_key
        for event in events
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    }
    return {key for key in assets if key is not None}, checks


def partitions_of(run: DagsterRun) -> str:
    """Return the keys of a run's first and last partition with `...` between; one key, or empty, where it has fewer."""
    first = run.tags.get("dagster/asset_partition_range_start") or run.tags.get("dagster/partition", "")
    last = run.tags.get("dagster/asset_partition_range_end", "")
    return f"{first}...{last}" if last else first


def symbols_of(instance: DagsterInstance, run: DagsterRun, subject: str) -> tuple[str, ...]:
    """Return the symbols of a run's partitions: all from that of the first to that of the last, in Dagster's order.

    Empty where one of the two is known no more, as nobody can say then which lay between.
    """
    one, other = (key.partition("|")[2] for key in ends(partitions_of(run)))
    dataset = dataset_named(subject)
    if one == other:
        return (one,)
    known = known_symbols(instance, dataset) if dataset is not None else []
    return tuple(known[known.index(one) : known.index(other) + 1]) if {one, other} <= set(known) else ()


def left_by(instance: DagsterInstance, run: DagsterRun, assets: set[AssetKey]) -> tuple[str, ...]:
    """Return the partitions in which a run did not make all of its assets; all of them where it made everything.

    Args:
        instance: whose run it is.
        run: one that did not succeed.
        assets: those that it was to make.
    """
    entries = instance.all_logs(run.run_id, of_type={*_PLANNED, DagsterEventType.ASSET_MATERIALIZATION})
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    planned: dict[str, None] = {}
    made: dict[str, set[AssetKey | None]] = {}
    for event in events:
        if event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            made.setdefault(event.partition or "", set()).add(event.asset_key)
        else:
            planned |= dict.fromkeys(_planned(event))
    unmade = tuple(key for key in planned if not assets or not assets <= made.get(key, set()))
    return unmade or tuple(planned) or ends(partitions_of(run))


def _planned(event: DagsterEvent) -> Sequence[str]:
    check = event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    subset = event.asset_check_planned_data.partitions_subset if check else event.partitions_subset
    if subset is not None:
        return sorted(subset.get_partition_keys())
    return [event.partition] if event.partition else []


def dataset_named(subject: str) -> Dataset | None:
    """Return the dataset that a run is of; None for a job."""
    return dataset_of(AssetKey([*subject.split("/"), "candles"]))


def dataset_of(key: AssetKey) -> Dataset | None:
    """Return the dataset of an asset of ours, as far as its key says; None for another key."""
    category, interval = (*key.path, "", "")[:2]
    try:
        return undeclared(category, Interval(interval)) if len(key.path) == 3 else None  # noqa: PLR2004 - and a name
    except (KlineError, KeyError):
        return None
