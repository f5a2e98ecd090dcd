"""What a command and its workers tell each other of range runs; nothing of Dagster is loaded for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.defs.ranges import RangeRun

Status = Literal["success", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class FailedCell:
    """A partition that did not get through, at one asset or check.

    Attributes:
        cell: the partition; None where the event names none.
        asset: last part of the asset's key: raw_batches, candles, candles_postgres, candles_parquet.
        check: name of the check that failed; empty where the asset itself was not materialized.
        reason: what the check or the asset said; may be empty.
    """

    cell: Cell | None
    asset: str
    check: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        run_id: Dagster's; empty when the run could not even be created.
        failed: in the order of the events; checks of severity WARN are not among them.
        error: one sentence when the run as a whole failed or was canceled, else empty.
    """

    run: RangeRun
    run_id: str
    status: Status
    failed: tuple[FailedCell, ...] = ()
    error: str = ""

    @property
    def success(self) -> bool:
        """The run succeeded, every partition landed and every check of severity ERROR passed."""
        return self.status == "success" and not self.failed


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a worker does before runs can be planned: symbols, by dataset, that Dagster must know."""

    symbols: tuple[tuple[Dataset, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of a preparation.

    Attributes:
        closed: ids of runs whose process was gone, which are closed now.
        known: all symbols by name of the dataset, in Dagster's order.
        error: one sentence where it failed, else empty.
    """

    closed: tuple[str, ...] = ()
    known: Mapping[str, list[str]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A run for a worker; `number` is its place in the list, `assets` the last parts of the keys, empty for all."""

    number: int
    run: RangeRun
    assets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BreakOff:
    """A worker is to end at once, in the middle of its run; what it has counted it still writes."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """Why a worker ends in the middle, in one sentence."""

    error: str


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker tells: a run has an id, pages came, a partition is through an asset, one waits, a run is over."""

    number: int
    kind: Literal["started", "fetched", "cell", "waiting", "finished"]
    run_id: str
    asset: str = ""
    cell: Cell | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    outcome: RunOutcome | None = None


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened in a run.

    Attributes:
        kind: started; fetched, each second while pages come; cell, when a partition got through an asset; waiting,
            when a step will be tried again; finished.
        run_id: Dagster's; empty in `finished` when the run could not be created.
        asset: for `cell`, last part of the asset's key.
        cell: for `cell`, the partition.
        facts: for `fetched`, pages `done` and `planned`; for `cell`, what the asset said about it; for `waiting`, why
            and how long as `text`.
        outcome: for `finished`.
    """

    kind: Literal["started", "fetched", "cell", "waiting", "finished"]
    run: RangeRun
    run_id: str
    asset: str = ""
    cell: Cell | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    outcome: RunOutcome | None = None
