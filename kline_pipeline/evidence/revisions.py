"""Closed candles that two raw batches tell differently, kept for ever; which one counts: candles/derive.py."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from kline_pipeline.database.tables import candle_revisions


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
