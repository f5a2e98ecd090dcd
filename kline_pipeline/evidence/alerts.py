"""What alerts remember: how far runs are read, which episodes are open, what was told, and what reached whom.

When an episode opens is told in alerting/episodes, the words in alerting/messages. A target is known by a digest:
its URL is a secret and never stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from kline_pipeline.database.tables import alert_cursor, alert_deliveries, alert_episodes, alerts

Severity = Literal["ERROR", "WARN"]
_CHANGING: Final = ("since", "run_id", "severity", "repair", "run_assets", "run_left")


class Place(NamedTuple):
    """Where something fails.

    Attributes:
        asset: the key of the asset, such as linear/60/candles; of a run its dataset or job.
        partition: Dagster's name, such as 2024-01-01|BTCUSDT; empty for a check over all, and for a run.
        check: the name of the check; `run` for a run.
    """

    asset: str
    partition: str
    check: str


@dataclass(frozen=True, slots=True)
class Episode:
    """A failure that goes on.

    Attributes:
        since: of the first failure, UTC.
        run_id: the run that failed first.
        severity: the latest.
        repair: the command that mends it; empty where there is none.
        run_assets: of a run, what must be made for it to be over.
        run_left: of a run, the partitions in which no run has made them since; one empty text for a run over none.
    """

    place: Place
    since: datetime
    run_id: str
    severity: Severity
    repair: str
    run_assets: tuple[str, ...] = ()
    run_left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A message.

    Attributes:
        alert_id: the same however often it is sent.
        severity: ERROR, WARN or RECOVERED.
    """

    alert_id: str
    severity: str
    title: str
    body: str


def read_cursor(connection: Connection) -> int | None:
    """Return the storage id of the last event that was read, None before the first; no one else reads it meanwhile.

    The row is locked to the end of the transaction.
    """
    connection.execute(upsert(alert_cursor).values(id=1).on_conflict_do_nothing())
    found: int | None = connection.execute(select(alert_cursor.c.storage_id).with_for_update()).scalar_one()
    return found


def save_cursor(connection: Connection, storage_id: int) -> None:
    """Keep the storage id of the last event that was read."""
    connection.execute(update(alert_cursor).values(storage_id=storage_id))


def open_episodes(connection: Connection) -> dict[Place, Episode]:
    """Return the open episodes by their place."""
    found = {}
    for row in connection.execute(select(alert_episodes)):
        place = Place(row.asset, row.partition, row.check_name)
        of_run = tuple(row.run_assets), tuple(row.run_left)
        found[place] = Episode(place, row.since, row.run_id, row.severity, row.repair, *of_run)
    return found


def save_episodes(connection: Connection, before: Mapping[Place, Episode], now: Mapping[Place, Episode]) -> None:
    """Write what has changed from the episodes that were open to those that are."""
    for place in before.keys() - now.keys():
        connection.execute(
            delete(alert_episodes).where(
                alert_episodes.c.asset == place.asset,
                alert_episodes.c.partition == place.partition,
                alert_episodes.c.check_name == place.check,
            )
        )
    changed = [_values(one) for place, one in now.items() if before.get(place) != one]
    if changed:
        statement = upsert(alert_episodes)
        statement = statement.on_conflict_do_update(
            index_elements=["asset", "partition", "check_name"],
            set_={name: statement.excluded[name] for name in _CHANGING},
        )
        connection.execute(statement, changed)


def add_alerts(connection: Connection, new: Sequence[Alert], targets: Sequence[str], *, made_at: datetime) -> None:
    """Keep messages in their order, and that each is to go to these targets; to none means it goes nowhere, ever.

    Args:
        new: those known by their id already are left as they are.
        targets: digests.
        made_at: UTC.
    """
    for alert in new:
        row = {
            "alert_id": alert.alert_id,
            "made_at": made_at,
            "severity": alert.severity,
            "title": alert.title,
            "body": alert.body,
        }
        added = connection.execute(
            upsert(alerts).values(row).on_conflict_do_nothing(index_elements=["alert_id"]).returning(alerts.c.sequence)
        ).scalar()
        if added is not None and targets:
            connection.execute(
                insert(alert_deliveries), [{"alert_id": alert.alert_id, "target": target} for target in targets]
            )


def forget_before(connection: Connection, moment: datetime) -> None:
    """Delete the messages made before a moment, delivered or not."""
    connection.execute(delete(alerts).where(alerts.c.made_at < moment))


def undelivered(connection: Connection, target: str) -> list[Alert]:
    """Return the messages that a target is still to get, in their order."""
    rows = connection.execute(
        select(alerts)
        .join(alert_deliveries, alert_deliveries.c.alert_id == alerts.c.alert_id)
        .where(alert_deliveries.c.target == target, alert_deliveries.c.delivered_at.is_(None))
        .order_by(alerts.c.sequence)
    )
    return [Alert(row.alert_id, row.severity, row.title, row.body) for row in rows]


def note_attempt(connection: Connection, alert_id: str, target: str, *, error: str | None) -> None:
    """Note that a message was sent to a target; None says that it arrived."""
    connection.execute(
        update(alert_deliveries)
        .where(alert_deliveries.c.alert_id == alert_id, alert_deliveries.c.target == target)
        .values(
            attempts=alert_deliveries.c.attempts + 1,
            last_error=error,
            delivered_at=func.now() if error is None else None,
        )
    )


def waiting(connection: Connection, targets: Iterable[str]) -> int:
    """Return how many messages are still to go to these targets."""
    return connection.execute(
        select(func.count()).where(
            alert_deliveries.c.target.in_(list(targets)), alert_deliveries.c.delivered_at.is_(None)
        )
    ).scalar_one()


def _values(episode: Episode) -> dict[str, object]:
    return {
        "asset": episode.place.asset,
        "partition": episode.place.partition,
        "check_name": episode.place.check,
        "since": episode.since,
        "run_id": episode.run_id,
        "severity": episode.severity,
        "repair": episode.repair,
        "run_assets": list(episode.run_assets),
        "run_left": list(episode.run_left),
    }
