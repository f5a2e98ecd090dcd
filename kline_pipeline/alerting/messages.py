"""The words of alerts: what, where, since when, how bad, the link into the UI, the command that repairs.

Pure. The news of one tick is grouped: one message per partition, or one for a storm; sending is told in delivery.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from kline_pipeline.alerting.episodes import RUN, Change
from kline_pipeline.evidence.alerts import Alert, Episode, Place

_STORM: Final = 5  # more partitions of a dataset than this are one message
_NAMED: Final = 20
_COMMANDS: Final = 5
_REASON: Final = 300  # characters: a message must fit a chat
T = TypeVar("T")


def compose(changes: Sequence[Change], *, ui_url: str) -> list[Alert]:
    """Return the messages of the news of one tick, in the order in which it happened.

    Args:
        changes: of `episodes.follow`.
        ui_url: of Dagster's UI, without a slash at the end.
    """
    return [
        message
        for turn in _turns(changes)
        for group in _grouped(turn, _belongs_to)
        for message in _messages(group, ui_url)
    ]


def _messages(group: Sequence[Change], ui_url: str) -> Iterator[Alert]:
    partitions = _grouped(group, lambda change: _partition(change.episode))
    if len(partitions) > _STORM:
        yield _storm(sorted(partitions, key=lambda part: _partition(part[0].episode)), ui_url)
    else:
        yield from (_single(part, ui_url) for part in partitions)


def _turns(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Cut where a place changes again, so that a failure is told before its recovery."""
    turn: dict[Place, Change] = {}
    for change in changes:
        if change.episode.place in turn:
            yield list(turn.values())
            turn = {}
        turn[change.episode.place] = change
    yield list(turn.values())


def _single(part: Sequence[Change], ui_url: str) -> Alert:
    episode = _first(part).episode
    names = ", ".join(dict.fromkeys(_short(change.episode) for change in part))
    verb = "recovered" if part[0].kind == "recovered" else "failed"
    return _alert(
        part,
        f"{_where(episode)}: {names} {verb}",
        [*(_line(change) for change in part), *_facts(part, ui_url)],
    )


def _storm(parts: Sequence[Sequence[Change]], ui_url: str) -> Alert:
    flat = [change for part in parts for change in part]
    verb = "recovered" if flat[0].kind == "recovered" else "failed"
    lines = []
    for part in parts[:_NAMED]:
        names = ", ".join(dict.fromkeys(_short(change.episode) for change in part))
        lines.append(f"{_where(part[0].episode)}: {names}")
    if len(parts) > _NAMED:
        lines.append(f"and {len(parts) - _NAMED} more")
    title = f"{_dataset_name(flat[0].episode)}: {len(parts)} partitions {verb}"
    return _alert(flat, title, [*lines, *_facts(flat, ui_url)])


def _facts(changes: Sequence[Change], ui_url: str) -> Iterator[str]:
    first, recovered = _first(changes).episode, changes[0].kind == "recovered"
    yield f"Since: {_moment(min(change.episode.since for change in changes))}"
    if recovered:
        yield f"Until: {_moment(max(change.at for change in changes))}"
    else:
        yield f"Severity: {_severity(changes)}"
    yield f"See: {_link(first, ui_url)}"
    if not recovered:
        commands = _spanned(change.episode.repair for change in changes if change.episode.repair)
        yield from (f"Repair: {command}" for command in commands[:_COMMANDS])
        if len(commands) > _COMMANDS:
            yield f"and {len(commands) - _COMMANDS} commands more like these"


def _alert(changes: Sequence[Change], title: str, lines: Iterable[str]) -> Alert:
    recovered = changes[0].kind == "recovered"
    told = sorted(f"{change.kind} {change.episode.place} {change.at.timestamp():.6f}" for change in changes)
    alert_id = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    severity = "RECOVERED" if recovered else _severity(changes)
    return Alert(alert_id, severity, f"{severity} {title}", "\n".join([*lines, f"Alert: {alert_id}"]))


def _spanned(commands: Iterable[str]) -> list[str]:
    """Join commands over neighbouring ranges of one series into one from the first to the last date."""
    spans: dict[str, tuple[str, str]] = {}
    for command in commands:
        head, _, span = command.partition(" --from ")
        start, _, end = span.partition(" --to ")
        known = spans.get(head, (start, end))
        spans[head] = min(start, known[0]), max(end, known[1])
    return [f"{head} --from {start} --to {end}" if start else head for head, (start, end) in spans.items()]


def _first(changes: Sequence[Change]) -> Change:
    """Return what people are to look at first: the candles, as a sink fails with them."""
    return next((change for change in changes if change.episode.place.asset.endswith("/candles")), changes[0])


def _line(change: Change) -> str:
    name, reason = _short(change.episode), change.reason.removeprefix(f"{change.episode.place.check}: ")
    shown = reason if len(reason) <= _REASON else f"{reason[:_REASON]}..."
    return f"{name}: {shown}" if shown else name


def _short(episode: Episode) -> str:
    """Return a check as people call it: candles no_gaps; a run is just a run."""
    asset, _, check = episode.place
    return "run" if check == RUN else f"{asset.rpartition('/')[2]} {check}"


def _where(episode: Episode) -> str:
    parts = episode.place.asset.split("/")
    if episode.place.check == RUN and episode.place.partition:
        return f"{_dataset_name(episode)} {episode.place.partition}"
    day, bar, symbol = episode.place.partition.partition("|")
    return f"{parts[0]}:{symbol}:{parts[1]} {day}" if bar else _dataset_name(episode)


def _partition(episode: Episode) -> tuple[str, str]:
    """Return symbol and date, by which people look for it."""
    day, _, symbol = episode.place.partition.partition("|")
    return symbol, day


def _belongs_to(change: Change) -> tuple[str, str, bool]:
    """Return what is told together: a run is told by itself."""
    return _dataset_name(change.episode), change.kind, change.episode.place.check == RUN


def _dataset_name(episode: Episode) -> str:
    return "_".join(episode.place.asset.split("/")[:2])


def _link(episode: Episode, ui_url: str) -> str:
    asset, _, check = episode.place
    if check == RUN:
        return f"{ui_url}/runs/{episode.run_id}"
    return f"{ui_url}/assets/{asset}?view=checks&checkDetail={check}"


def _severity(changes: Iterable[Change]) -> str:
    return "ERROR" if any(change.episode.severity == "ERROR" for change in changes) else "WARN"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _grouped(changes: Iterable[Change], key: Callable[[Change], T]) -> list[list[Change]]:
    """Return the groups in the order of their first members."""
    groups: dict[T, list[Change]] = {}
    for change in changes:
        groups.setdefault(key(change), []).append(change)
    return list(groups.values())
