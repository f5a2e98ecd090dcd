"""Gaps that the exchange confirmed, and those that its own coarser candle speaks against; how they are judged: stages/.

A row is never deleted: when the candle appears after all the gap is closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from kline_pipeline.database.tables import known_gaps
from kline_pipeline.market.window import Window, to_ms


@dataclass(frozen=True, slots=True)
class KnownGap:
    """A candle that the exchange does not have.

    Attributes:
        open_time_ms: of the candle.
        confirmed_ms: when the exchange said so again, by its clock; None when it contradicts itself, and it is no
            known gap.
        evidence: both answers, and what the coarser candle says; `contradicts` is the sentence that speaks against it.
    """

    open_time_ms: int
    confirmed_ms: int | None
    evidence: dict[str, Any]


def read(connection: Connection, series_id: int, window: Window) -> list[KnownGap]:
    """Return the gaps in a window that are not closed, ascending; those that were not confirmed are among them."""
    inside = (known_gaps.c.open_time >= _moment(window.start_ms), known_gaps.c.open_time < _moment(window.end_ms))
    query = (
        select(known_gaps)
        .where(known_gaps.c.series_id == series_id, known_gaps.c.closed_at.is_(None), *inside)
        .order_by(known_gaps.c.open_time)
    )
    return [
        KnownGap(to_ms(row.open_time), None if row.confirmed_at is None else to_ms(row.confirmed_at), row.evidence)
        for row in connection.execute(query)
    ]


def record(connection: Connection, series_id: int, gaps: Sequence[KnownGap]) -> None:
    """Keep gaps in the place of what was said of the same candles before; a closed one is open again."""
    rows = [
        {
            "series_id": series_id,
            "open_time": _moment(gap.open_time_ms),
            "confirmed_at": None if gap.confirmed_ms is None else _moment(gap.confirmed_ms),
            "evidence": gap.evidence,
            "closed_at": None,
        }
        for gap in gaps
    ]
    if not rows:
        return
    statement = insert(known_gaps)
    changed = {name: statement.excluded[name] for name in ("confirmed_at", "evidence", "closed_at")}
    connection.execute(statement.on_conflict_do_update(index_elements=["series_id", "open_time"], set_=changed), rows)


def close(connection: Connection, series_id: int, open_times_ms: NDArray[np.int64], *, now_ms: int) -> None:
    """Close the gaps whose candles have appeared."""
    moments = [_moment(int(open_time_ms)) for open_time_ms in open_times_ms]
    if moments:
        here = (known_gaps.c.series_id == series_id, known_gaps.c.open_time.in_(moments))
        connection.execute(
            update(known_gaps).where(*here, known_gaps.c.closed_at.is_(None)).values(closed_at=_moment(now_ms))
        )


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC)
