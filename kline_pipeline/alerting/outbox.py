"""Nothing is told twice or lost: what was read, what is open and what is to be told are saved at once, then sent.

Runs are read by the caller; a message that was sent and not noted, as its process died, is sent again with its id.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from kline_pipeline.alerting.delivery import Target
from kline_pipeline.alerting.episodes import FinishedRun, follow
from kline_pipeline.alerting.messages import compose
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import take_alert_lock
from kline_pipeline.errors import AlertsNotDelivered
from kline_pipeline.evidence import alerts as kept
from kline_pipeline.log.about import elapsed_ms, now_ns

logger: Final = logging.getLogger(__name__)
SEND_S: Final = 20.0  # a tick of a sensor may take 60 s, reading included
_UI_URL: Final = "http://127.0.0.1:3000"  # of `up` as it is

# Takes the storage id of the last event that was read, None before the first; gives runs in the order of their end
# and the id of the last event that was looked at.
Read = Callable[[int | None], tuple[Sequence[FinishedRun], int | None]]


@dataclass(slots=True)
class Delivered:
    """What became of the messages.

    Attributes:
        sent: that arrived.
        errors: one sentence per target that did not take one.
        waiting: that are still to go out.
    """

    sent: int = 0
    errors: list[str] = field(default_factory=list)
    waiting: int = 0


def track(database: Database, settings: Settings, read: Read, targets: Iterable[Target], *, now_ms: int) -> int:
    """Read runs, follow the episodes and keep what is to be told, all or nothing; return how many messages are new.

    Args:
        database: migrated.
        settings: least severity, the UI's URL, and after how many days a message is forgotten.
        read: gives the runs after a cursor.
        targets: to which the new messages are to go; those of another time go nowhere else later.
        now_ms: UTC milliseconds.

    Raises:
        DatabaseUnavailable: no server answers.
    """
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    with database.translate_errors(), database.engine.begin() as connection:
        runs, cursor = read(kept.read_cursor(connection))
        if cursor is not None:
            kept.save_cursor(connection, cursor)
        before = kept.open_episodes(connection) if runs else {}
        still_open, changes = follow(before, runs, settings.alert_severity)
        kept.save_episodes(connection, before, still_open)
        messages = compose(changes, ui_url=settings.ui_url or _UI_URL)
        if messages:
            kept.forget_before(connection, now - timedelta(days=settings.keep_days))
            kept.add_alerts(connection, messages, [target.digest for target in targets], made_at=now)
        return len(messages)


def deliver(
    database: Database,
    targets: Sequence[Target],
    *,
    seconds: float = SEND_S,
    clock: Callable[[], float] = time.monotonic,
) -> Delivered:
    """Send each target what it has not got, in order, up to its first failure, and note what arrived one by one.

    Where another process sends, this one does not.

    Args:
        database: migrated.
        targets: in the order in which they are served.
        seconds: nothing more is begun after so many; the rest goes out next time.
        clock: seconds, for `seconds`.

    Raises:
        DatabaseUnavailable: no server answers; what was sent and not noted goes out again.
    """
    found, end = Delivered(), clock() + seconds
    with database.translate_errors(), database.engine.begin() as turn:
        if take_alert_lock(turn):
            for target in targets:
                _serve(database, target, found, lambda: clock() < end)
        found.waiting = kept.waiting(turn, [target.digest for target in targets])
    return found


def _tell(alert: kept.Alert, target: Target, error: str | None, began_ns: int) -> None:
    fields = {"alert_id": alert.alert_id, "target": target.shown, "elapsed_ms": elapsed_ms(began_ns)}
    if error is None:
        logger.info("alert delivered", extra=fields)
    else:
        logger.warning("alert not delivered", extra={**fields, "reason": error})


def _serve(database: Database, target: Target, found: Delivered, in_time: Callable[[], bool]) -> None:
    with database.engine.begin() as connection:
        messages = kept.undelivered(connection, target.digest)
    for alert in messages:
        if not in_time():
            return
        error, began_ns = None, now_ns()
        try:
            target.send(alert)
        except AlertsNotDelivered as exc:
            error = str(exc)
        _tell(alert, target, error, began_ns)
        with database.engine.begin() as connection:
            kept.note_attempt(connection, alert.alert_id, target.digest, error=error)
        if error is not None:
            found.errors.append(error)
            return
        found.sent += 1
