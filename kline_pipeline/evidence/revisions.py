"""Closed candles that two raw batches tell differently, kept for ever; which one counts: candles/derive.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from kline_pipeline.database.tables import candle_revisions
from kline_pipeline.database.tables import series as series_table
from kline_pipeline.market.window import to_ms


@dataclass(frozen=True, slots=True)
class Found:
    """A revision as it was kept, with the symbol it is of."""

    symbol: str
    open_time_ms: int
    old: dict[str, str]
    new: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class FoundLately:
    """What was found of a dataset since some time: how many of each kind, and the first of them.

    Attributes:
        changed, vanished: how many.
        first: those that vanished before those that changed, each the latest finding first.
    """

    changed: int
    vanished: int
    first: tuple[Found, ...]


class RevisionLike(Protocol):
    """What a revision tells: the candle, what it was, what it is now, and the batches that say so."""

    @property
    def open_time_ms(self) -> int:
        """UTC milliseconds."""

    @property
    def kind(self) -> str:
        """Changed or vanished."""

    @property
    def old(self) -> dict[str, str]:
        """The six numbers that an older batch told."""

    @property
    def new(self) -> dict[str, str] | None:
        """The six numbers that the newer batch tells, None for a vanished one."""

    @property
    def old_batch(self) -> str:
        """Id of the older batch."""

    @property
    def new_batch(self) -> str:
        """Id of the newer batch."""


def record(connection: Connection, series_id: int, revisions: Iterable[RevisionLike]) -> None:
    """Keep revisions of one series; those known already stay as they were found."""
    rows = [
        {
            "series_id": series_id,
            "open_time": datetime.fromtimestamp(revision.open_time_ms / 1000, tz=UTC),
            "kind": revision.kind,
            "old": revision.old,
            "new": revision.new,
            "old_batch": revision.old_batch,
            "new_batch": revision.new_batch,
        }
        for revision in revisions
    ]
    if rows:
        connection.execute(insert(candle_revisions).on_conflict_do_nothing(), rows)


def found_since(connection: Connection, category: str, interval: str, since_ms: int, *, most: int) -> FoundLately:
    """Return what was found of a dataset at or after a time, in one query.

    Args:
        connection: inside a transaction.
        category, interval: of the dataset.
        since_ms: UTC, by the clock of the database.
        most: how many are told one by one.
    """
    kind = candle_revisions.c.kind
    columns = (candle_revisions.c.open_time, candle_revisions.c.old, candle_revisions.c.new)
    query = (
        select(
            series_table.c.symbol,
            *columns,
            func.count().filter(kind == "changed").over().label("changed"),
            func.count().filter(kind == "vanished").over().label("vanished"),
        )
        .join(series_table, series_table.c.series_id == candle_revisions.c.series_id)
        .where(series_table.c.category == category, series_table.c.interval == interval)
        .where(candle_revisions.c.found_at >= datetime.fromtimestamp(since_ms / 1000, tz=UTC))
        .order_by(kind.desc(), candle_revisions.c.found_at.desc(), series_table.c.symbol, candle_revisions.c.open_time)
        .limit(most)
    )
    rows = connection.execute(query).all()
    if not rows:
        return FoundLately(0, 0, ())
    first = tuple(Found(row.symbol, to_ms(row.open_time), row.old, row.new) for row in rows)
    return FoundLately(rows[0].changed, rows[0].vanished, first)
