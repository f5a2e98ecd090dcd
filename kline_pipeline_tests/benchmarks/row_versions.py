"""What PostgreSQL's statistics say of the table of candles, and when they can be believed.

A backend tells the statistics what it did at most once a second, and the rest when it ends. So the sessions of a
command must be gone before its row versions are read; and a reading counts for something only where one like it has
been seen to show versions that are known to be there.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from sqlalchemy import text

from kline_pipeline.database.engine import Database

_VERSIONS: Final = """
select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables where schemaname = 'kline' and relname = 'candles'
"""
_SESSIONS: Final = "select pid from pg_stat_activity where backend_type = 'client backend'"
_PATIENCE_S: Final = 15.0
_LOOK_S: Final = 0.02


class Versions(NamedTuple):
    """Row versions of kline.candles."""

    inserted: int
    updated: int
    deleted: int

    def since(self, before: "Versions") -> "Versions":
        """Return how many came after `before`."""
        return Versions(*(now - then for now, then in zip(self, before, strict=True)))


def versions_of(database: Database) -> Versions:
    """Return what the statistics have counted so far."""
    with database.engine.begin() as connection:
        connection.execute(text("select pg_stat_clear_snapshot()"))
        return Versions(*connection.execute(text(_VERSIONS)).one())


def sessions_of(database: Database) -> set[int]:
    """Return the backends that clients have now, ours too."""
    with database.engine.begin() as connection:
        return set(connection.execute(text(_SESSIONS)).scalars())


def wait_until_gone(database: Database, *, besides: set[int]) -> None:
    """Return when no client has a session but those.

    Raises:
        SystemExit: one stays.
    """
    if not _within(lambda: not sessions_of(database) - besides):
        raise SystemExit(f"sessions of a command that has ended are still there: {sessions_of(database) - besides}")


def prove_seen(database: Database, before: Versions, *, inserted: int) -> None:
    """Return when the statistics show that exactly so many rows came after `before`, and nothing else.

    Raises:
        SystemExit: they do not, so that no reading of them says anything.
    """
    wanted = Versions(inserted, 0, 0)
    if not _within(lambda: versions_of(database).since(before) == wanted):
        found = versions_of(database).since(before)
        raise SystemExit(f"row versions cannot be read: {inserted} candles were inserted, the statistics say {found}")


def _within(holds: Callable[[], bool]) -> bool:
    late = time.monotonic() + _PATIENCE_S
    while not (held := holds()) and time.monotonic() < late:
        time.sleep(_LOOK_S)
    return held
