"""What processes counted, kept in PostgreSQL so that counters stand kills and restarts; what is counted: metrics.

A living process has a row of its own, which each flush replaces by what it has counted since it began: to flush twice
counts nothing twice. Its last flush adds the row to the one of all that have ended; the row of one that was killed is
added by whoever ends a day later. A total never falls: it is a sum of rows that only grow, read in one statement.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from kline_pipeline.database.engine import Database
from kline_pipeline.metrics import Tally

EVERY_S: Final = 2.0
_LEAVE_S: Final = 5.0  # a frozen server never answers
_ENDED: Final = "ended"
_PLACES: Final = 6  # of seconds: sums of decimals do not depend on their order, as those of floats do

_FIRST: Final = text(
    "insert into kline.fetch_stats (source, flushed_at, counts) values (:source, now(), cast(:counts as jsonb)) "
    "on conflict (source) do update set flushed_at = excluded.flushed_at, counts = excluded.counts"
)
_AGAIN: Final = text(
    "update kline.fetch_stats set flushed_at = now(), counts = cast(:counts as jsonb) where source = :source"
)
# Everybody who ends adds to one row: its lock is taken first, so that two never wait for each other.
_LOCK: Final = text(
    "insert into kline.fetch_stats (source, flushed_at, counts) values (:ended, now(), '{}') "
    "on conflict (source) do update set flushed_at = now()"
)
_FOLD: Final = text("""
with gone as (
    delete from kline.fetch_stats
    where source = :source or (source <> :ended and flushed_at < now() - interval '1 day')
    returning counts
), parts as (
    select counts from gone union all select counts from kline.fetch_stats where source = :ended
)
update kline.fetch_stats
set counts = coalesce((select jsonb_object_agg(key, total) from (
    select key, sum(value::numeric) as total from parts, jsonb_each_text(counts) group by key
) sums), '{}')
where source = :ended
""")
_TOTALS: Final = text(
    "select key, sum(value::numeric) as total from kline.fetch_stats, jsonb_each_text(counts) group by key"
)


_KEPT: Final[dict["Counted", Database]] = {}  # by the blocks of `kept` of this process


class Counted:
    """The row of one process; a tally has one at a time, or all would be counted twice.

    Attributes:
        source: names the process; another one after its row was taken for that of a dead one.
    """

    def __init__(self, tally: Tally) -> None:
        """Begin; nothing is written.

        Args:
            tally: what the process counts.
        """
        self.source = uuid4().hex
        self._tally = tally
        self._turn = Lock()
        self._before: Mapping[str, float] = {}  # counted under another source
        self._written: dict[str, float] | None = None

    def flush(self, database: Database) -> None:
        """Write what has been counted since the beginning; nothing happens where that has not changed.

        Args:
            database: migrated.

        Raises:
            SQLAlchemyError: the database does not take it; the next flush writes all of it.
        """
        with self._turn:
            values = self._tally.values()
            if values and values != self._written:
                self._write(database, values, last=False)

    def end(self, database: Database) -> None:
        """Flush for the last time, and add the row to that of all that have ended, in one transaction.

        Args:
            database: migrated.

        Raises:
            SQLAlchemyError: the database does not take it; what was flushed before is kept.
        """
        with self._turn:
            with self._tally.handed_over() as values:
                if values:
                    self._write(database, values, last=True)
            self.source, self._before, self._written = uuid4().hex, {}, None

    def _write(self, database: Database, values: dict[str, float], *, last: bool) -> None:
        source, before = self.source, self._before
        with database.engine.begin() as connection:
            if self._written is None:
                connection.execute(_FIRST, _row(source, values, before))
            elif not connection.execute(_AGAIN, _row(source, values, before)).rowcount:
                # Silent for a day, as a suspended machine is: what was written is among the ended ones now. The new
                # name follows from the old one, so that to write it twice counts it once.
                source, before = f"{source}+", self._written
                connection.execute(_FIRST, _row(source, values, before))
            if last:
                connection.execute(_LOCK, {"ended": _ENDED})
                connection.execute(_FOLD, {"ended": _ENDED, "source": source})
        self.source, self._before, self._written = source, before, values


def _row(source: str, values: Mapping[str, float], before: Mapping[str, float]) -> dict[str, str]:
    since = {key: round(value - before.get(key, 0.0), _PLACES) for key, value in values.items()}
    return {"source": source, "counts": json.dumps({key: value for key, value in since.items() if value})}


@contextmanager
def kept(database: Database, *, every_s: float = EVERY_S) -> Iterator[Counted]:
    """Keep what the tally of a database counts for the length of the block, flushed in a thread and at the end.

    Metrics are never a reason to fail or to wait: a flush that fails is tried again, one that hangs is left behind.

    Args:
        database: migrated.
        every_s: between two flushes; what a killed process loses at most.
    """
    counted, done = Counted(database.tally), Event()

    def keep() -> None:
        while not done.wait(every_s):
            with suppress(SQLAlchemyError):
                counted.flush(database)
        with suppress(SQLAlchemyError):
            counted.end(database)

    thread = Thread(target=keep, name="fetch stats", daemon=True)
    thread.start()
    _KEPT[counted] = database
    try:
        yield counted
    finally:
        del _KEPT[counted]
        done.set()
        thread.join(_LEAVE_S)


def flush_all() -> None:
    """Flush what all blocks of `kept` count, for a process that ends without leaving them; nothing is raised."""
    for counted, database in list(_KEPT.items()):
        with suppress(SQLAlchemyError):
            counted.flush(database)


def totals(connection: Connection) -> dict[str, float]:
    """Return what all processes have counted, by key (see metrics.Tally), as far as they have flushed it."""
    return {row.key: float(row.total) for row in connection.execute(_TOTALS)}


def take_in(connection: Connection, source: str, counts: Mapping[str, float]) -> None:
    """Keep what a process that had no database has counted; to take it in twice within a day counts it once.

    Args:
        connection: inside a transaction.
        source: names the process.
        counts: all of it, by key.
    """
    connection.execute(_FIRST, _row(source, counts, {}))
