"""What a person let in although it breaks a rule, with the reason; what that means for a rule is told in checks/."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

from kline_pipeline.database.tables import accepted
from kline_pipeline.market.window import Window, to_ms

Keep = Literal["first", "last"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A window in which offenders are let in.

    Attributes:
        window: on boundaries of the interval.
        keep: which of contradicting rows counts, in the order in which they were served; None where there were none.
        reason: of the person.
        offenders_ms: times of what offended when it was decided: nothing else in the window is let in.
        missing_ms: those of them at which no candle was.
        contradicted_ms: those at which several rows contradicted each other.
    """

    window: Window
    keep: Keep | None
    reason: str
    offenders_ms: frozenset[int] = frozenset()
    missing_ms: frozenset[int] = frozenset()
    contradicted_ms: frozenset[int] = frozenset()


def read(connection: Connection, series_id: int, window: Window) -> list[Accepted]:
    """Return what was accepted in a window, the oldest decision first; where two overlap the newer one counts."""
    inside = (accepted.c.window_start < _moment(window.end_ms), accepted.c.window_end > _moment(window.start_ms))
    query = select(accepted).where(accepted.c.series_id == series_id, *inside).order_by(accepted.c.accepted_id)
    return [
        _decision(Window(to_ms(row.window_start), to_ms(row.window_end)), row.keep, row.reason, row.evidence)
        for row in connection.execute(query)
    ]


def record(
    connection: Connection, series_id: int, decision: Accepted, *, evidence: Sequence[dict[str, Any]], now_ms: int
) -> None:
    """Keep a decision with the offenders that it lets in."""
    connection.execute(
        insert(accepted).values(
            series_id=series_id,
            window_start=_moment(decision.window.start_ms),
            window_end=_moment(decision.window.end_ms),
            keep=decision.keep,
            reason=decision.reason,
            accepted_at=_moment(now_ms),
            evidence=list(evidence),
        )
    )


def _decision(window: Window, keep: Keep | None, reason: str, evidence: Sequence[dict[str, Any]]) -> Accepted:
    at = [(to_ms(datetime.fromisoformat(one["open_time"])), one) for one in evidence]
    off_grid = [to_ms(datetime.fromisoformat(text)) for _, one in at for text in one.get("off_grid", ())]
    return Accepted(
        window,
        keep,
        reason,
        frozenset([*(time_ms for time_ms, _ in at), *off_grid]),
        frozenset(time_ms for time_ms, one in at if one.get("missing")),
        frozenset(time_ms for time_ms, one in at if len(one.get("rows", ())) > 1),
    )


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC)
