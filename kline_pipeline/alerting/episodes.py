"""Which failures are news: an episode lasts from the first failure of a check, or run, to its recovery.

Pure: runs come from defs/automation/finished_runs, open episodes from evidence/alerts, words from messages.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from kline_pipeline.evidence.alerts import Episode, Place, Severity

RUN: Final = "run"  # the name of the check of an episode that is a run's
Kind = Literal["failed", "recovered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a check said in a run.

    Attributes:
        passed, severity: as the check says; the severity counts only where it did not pass.
        reason: its sentence; may be empty.
        repair: the command that mends it; empty where there is none.
        at: when, UTC.
    """

    place: Place
    passed: bool
    severity: Severity
    reason: str
    repair: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """A run that ended.

    Attributes:
        status: canceled is nobody's failure: somebody wanted it.
        at: when it ended, UTC.
        subject: the dataset, such as linear/60, or the job; what its failure is told of.
        partitions: that it was over, first and last key with `...` between; empty for a run over none.
        symbols: of those partitions; one empty text for a run over none, none at all where nobody knows them any more.
        left: the keys of those that it did not make; all of them where it made them and broke off afterwards.
        assets: keys of the assets and checks that it was to make; empty for a job without.
        evaluations: in the order of the events.
        crashes: per step that broke off its asset or name, and why.
        error: what the run as a whole said; empty where it did not fail.
        repair: the command that goes on where it stopped.
    """

    run_id: str
    status: Literal["success", "failed", "canceled"]
    at: datetime
    subject: str
    partitions: str = ""
    symbols: tuple[str, ...] = ("",)
    left: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    crashes: tuple[tuple[str, str], ...] = ()
    error: str = ""
    repair: str = ""

    def made(self, key: str) -> bool:
        """Return whether it made all of its assets in a partition; of a run over none the key is empty."""
        (first, _, _), (last, _, _) = (end.partition("|") for end in ends(self.partitions))
        day, _, symbol = key.partition("|")
        return first <= day <= last and symbol in self.symbols and key not in self.left


@dataclass(frozen=True, slots=True)
class Change:
    """News: an episode begins, or ends.

    Attributes:
        episode: as it began.
        reason: why it failed; of a recovery what is still to be said, such as a warning that stays.
        at: when it failed or recovered, UTC.
    """

    kind: Kind
    episode: Episode
    reason: str
    at: datetime


def follow(
    open_episodes: Mapping[Place, Episode], runs: Iterable[FinishedRun], least: Severity
) -> tuple[dict[Place, Episode], list[Change]]:
    """Return the episodes that are open after these runs, and what is news, in the order in which it happened.

    Args:
        open_episodes: those open before.
        runs: in the order in which they ended.
        least: the severity that opens an episode; what passes or is below it closes one.
    """
    still_open = dict(open_episodes)
    changes: list[Change] = []
    for run in runs:
        for evaluation in run.evaluations:
            changes += _judged(still_open, run, evaluation, least)
        changes += _ended(still_open, run, least)
    return still_open, changes


def _judged(
    still_open: dict[Place, Episode], run: FinishedRun, evaluation: Evaluation, least: Severity
) -> Iterator[Change]:
    before = still_open.get(evaluation.place)
    if not _alarming(evaluation, least):
        # A result of a whole dataset is only a warning in a run that did not ask for what it lacks: no news of it.
        if before is not None and (evaluation.passed or evaluation.place.partition):
            del still_open[evaluation.place]
            yield Change("recovered", before, evaluation.reason, evaluation.at)
        return
    now = Episode(evaluation.place, evaluation.at, run.run_id, evaluation.severity, evaluation.repair)
    still_open[evaluation.place] = now if before is None else replace(before, severity=now.severity, repair=now.repair)
    if before is None:
        yield Change("failed", now, evaluation.reason, evaluation.at)


def _ended(still_open: dict[Place, Episode], run: FinishedRun, least: Severity) -> Iterator[Change]:
    place = Place(run.subject, run.partitions, RUN)
    before = still_open.get(place)
    reason = _broken(run, least)
    if reason:
        now = Episode(place, run.at, run.run_id, "ERROR", run.repair, run.assets, run.left)
        # A later failure tells better what must be made again before all is well.
        still_open[place] = now if before is None else replace(now, since=before.since, run_id=before.run_id)
        if before is None:
            yield Change("failed", now, reason, run.at)
    for one in [one for one in still_open.values() if one.place.check == RUN]:
        # Partitions that several runs make, one after the other, are as good as those of one run.
        left = _still_left(one, run)
        if left:
            still_open[one.place] = replace(one, run_left=left)
        elif left is not None:
            del still_open[one.place]
            yield Change("recovered", one, "", run.at)


def _still_left(failed: Episode, run: FinishedRun) -> tuple[str, ...] | None:
    """Return what no run has made since one failed; None where this run changes nothing of it."""
    if failed.place.asset != run.subject or not set(failed.run_assets) <= set(run.assets):
        return None
    left = tuple(key for key in failed.run_left if not run.made(key))
    return None if left == failed.run_left and left else left


def ends(partitions: str) -> tuple[str, str]:
    """Return the keys of the first and the last partition of a run; empty texts for none."""
    first, _, last = partitions.partition("...")
    return first, last or first


def _broken(run: FinishedRun, least: Severity) -> str:
    """Return why a run failed, empty where it did not, or where its failing checks have said all there is.

    A sink fails its step for partitions that did not land; its check has named them.
    """
    if run.status != "failed":
        return ""
    said = {one.place.asset for one in run.evaluations if _alarming(one, least)}
    silent = [f"{name}: {reason}" for name, reason in run.crashes if name not in said]
    if silent or not run.crashes:
        return "; ".join(silent) or run.error or "the run failed and did not say why"
    return ""


def _alarming(evaluation: Evaluation, least: Severity) -> bool:
    return not evaluation.passed and (evaluation.severity == "ERROR" or least == "WARN")
