"""The coverage ledger: per partition what is expected, present and landed, and per UTC day for the heat map.

A row is written when a partition is derived and completed when each sink has landed it; rows are read by commands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from kline_pipeline.database.tables import coverage, coverage_days
from kline_pipeline.database.tables import series as series_table
from kline_pipeline.market.window import Window

_FINISHED: Final = and_(coverage.c.read_whole, coverage.c.state.in_(("landed", "not_listed")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What a derivation of one partition says.

    Attributes:
        state: pending, quarantined or not_listed.
        window: of the partition.
        expected, present, missing: candles; expected is present, missing and known_missing together.
        first_ms, last_ms: open times of the candles, None when there are none.
        sha256: of the candles that are to land.
        generation: of the raw batches, as text.
        reasons: why it is quarantined.
        known_missing: candles that are missing and let in: known gaps and accepted ones.
        read_whole: everything was read after its last candle had closed.
        closes_ms: end of its last candle, None for the end of the window.
        ask_again_ms: when what offends is to be asked for again, None where nothing waits.
    """

    state: str
    window: Window
    expected: int
    present: int
    missing: int
    first_ms: int | None
    last_ms: int | None
    sha256: str
    generation: str
    reasons: Sequence[str]
    known_missing: int = 0
    read_whole: bool = False
    closes_ms: int | None = None
    ask_again_ms: int | None = None


def row(connection: Connection, series_id: int, day: date) -> Any | None:
    """Return the ledger row of a partition, None when there is none."""
    return connection.execute(
        select(coverage).where(coverage.c.series_id == series_id, coverage.c.date == day)
    ).one_or_none()


def rows(connection: Connection, category: str, interval: str, symbol: str | None = None) -> Sequence[Any]:
    """Return the ledger rows of a dataset, or of one of its symbols, by symbol and date, with the symbol's name."""
    query = (
        select(series_table.c.symbol, coverage)
        .join(series_table, series_table.c.series_id == coverage.c.series_id)
        .where(series_table.c.category == category, series_table.c.interval == interval)
        .order_by(series_table.c.symbol, coverage.c.date)
    )
    if symbol is not None:
        query = query.where(series_table.c.symbol == symbol)
    return connection.execute(query).all()


def due(connection: Connection, category: str, interval: str, *, now_ms: int) -> list[tuple[date, str]]:
    """Return date and symbol of the partitions that are to be asked for again by now, by symbol and date."""
    return _chosen(connection, category, interval, coverage.c.ask_again_at <= _moment(now_ms))


def unfinished(connection: Connection, category: str, interval: str, *, closed_ms: int) -> list[tuple[date, str]]:
    """Return date and symbol of the partitions that ended by `closed_ms` and are not finished, by symbol and date.

    Those that wait to be asked for again are left to `due`.
    """
    ended = func.coalesce(coverage.c.closes_at, coverage.c.window_end) <= _moment(closed_ms)
    return _chosen(connection, category, interval, ended, not_(_FINISHED), coverage.c.ask_again_at.is_(None))


def finished(connection: Connection, category: str, interval: str) -> list[tuple[date, str]]:
    """Return date and symbol of the partitions that are finished, by symbol and date."""
    return _chosen(connection, category, interval, _FINISHED)


def distrust(connection: Connection, series_id: int, day: date, *, now_ms: int) -> None:
    """Let nothing count as read that was read before now, so that the partition is read once more whole."""
    _update(connection, series_id, day, {"read_after": _moment(now_ms), "read_whole": False})


def raise_prune_epoch(connection: Connection, series_id: int, day: date) -> None:
    """Make every generation derived from now on higher than those before; a partition without a row has none."""
    here = (coverage.c.series_id == series_id, coverage.c.date == day)
    connection.execute(update(coverage).where(*here).values(prune_epoch=coverage.c.prune_epoch + 1))


def days(connection: Connection, category: str, interval: str, symbol: str) -> Sequence[Any]:
    """Return day, expected and present of a series below D, ascending; empty where nothing was derived."""
    return connection.execute(
        select(coverage_days.c.day, coverage_days.c.expected, coverage_days.c.present)
        .join(series_table, series_table.c.series_id == coverage_days.c.series_id)
        .where(
            series_table.c.category == category,
            series_table.c.interval == interval,
            series_table.c.symbol == symbol,
        )
        .order_by(coverage_days.c.day)
    ).all()


def record(connection: Connection, series_id: int, day: date, derived: Derived, known: Any | None) -> None:
    """Write what a derivation says; `known` is the row that stands there, read under the lock of the partition.

    A partition that had landed with the very same candles stays landed.
    """
    landed = (
        known is not None and known.state == "landed" and known.sha256 == derived.sha256 and derived.state == "pending"
    )
    values = {
        "state": "landed" if landed else derived.state,
        "window_start": _moment(derived.window.start_ms),
        "window_end": _moment(derived.window.end_ms),
        "expected": derived.expected,
        "present": derived.present,
        "missing": derived.missing,
        "first_open_time": None if derived.first_ms is None else _moment(derived.first_ms),
        "last_open_time": None if derived.last_ms is None else _moment(derived.last_ms),
        "sha256": derived.sha256,
        "generation": derived.generation,
        "reasons": list(derived.reasons),
        "known_missing": derived.known_missing,
        "read_whole": derived.read_whole,
        "closes_at": None if derived.closes_ms is None else _moment(derived.closes_ms),
        "ask_again_at": None if derived.ask_again_ms is None else _moment(derived.ask_again_ms),
    }
    _upsert(connection, series_id, day, values)


def note_fetch_error(
    connection: Connection, series_id: int, day: date, window: Window, fetch_error: str | None, *, ask_again_ms: int
) -> None:
    """Keep why the exchange refused a partition for good, and when to ask again; None says that it answered."""
    known = row(connection, series_id, day)
    if known is None and fetch_error is None:
        return
    values: dict[str, Any] = {"fetch_error": fetch_error}
    if fetch_error is not None:
        values["ask_again_at"] = _moment(ask_again_ms)
    if known is None:
        values |= _nothing_yet(window)
        _upsert(connection, series_id, day, values)
    elif fetch_error is not None or known.fetch_error is not None:
        _update(connection, series_id, day, values)


def note_filled(connection: Connection, series_id: int, day: date, window: Window, *, now_ms: int) -> None:
    """Keep the exchange's time at which a partition was filled of which no raw batch tells it."""
    values: dict[str, Any] = {"filled_at": _moment(now_ms)}
    if row(connection, series_id, day) is not None:
        _update(connection, series_id, day, values)
        return
    _upsert(connection, series_id, day, {**values, **_nothing_yet(window)})


def note_landing(
    connection: Connection,
    series_id: int,
    day: date,
    *,
    sink: str,
    generation: str,
    sha256: str,
    fingerprint: str,
    sinks: Sequence[str],
) -> None:
    """Note that a sink holds these candles; the partition has landed when each of `sinks` holds what was derived."""
    known = row(connection, series_id, day)
    if known is None:
        msg = f"no ledger row for series {series_id}, {day}: derive before landing"
        raise LookupError(msg)
    values = {
        f"{sink}_generation": generation,
        f"{sink}_sha256": sha256,
        f"{sink}_fingerprint": fingerprint,
    }
    held = {**known._mapping, **values}  # noqa: SLF001 - SQLAlchemy's documented way to a row's columns
    complete = all(held[f"{name}_sha256"] == known.sha256 for name in sinks)
    if known.state in ("pending", "landed"):
        values["state"] = "landed" if complete else "pending"
    if any(known._mapping[name] != value for name, value in values.items()):  # noqa: SLF001
        _update(connection, series_id, day, values)


def record_days(
    connection: Connection,
    series_id: int,
    window: Window,
    expected_ms: NDArray[np.int64],
    present_ms: NDArray[np.int64],
) -> None:
    """Write expected and present candles per UTC day of a window, in the place of what was there."""
    span = (coverage_days.c.day >= _moment(window.start_ms).date(), coverage_days.c.day < _moment(window.end_ms).date())
    connection.execute(delete(coverage_days).where(coverage_days.c.series_id == series_id, *span))
    all_days, counts = np.unique(expected_ms // 86_400_000, return_counts=True)
    have = dict(zip(*np.unique(present_ms // 86_400_000, return_counts=True), strict=True))
    values = [
        {
            "series_id": series_id,
            "day": datetime.fromtimestamp(int(day) * 86_400, tz=UTC).date(),
            "expected": int(count),
            "present": int(have.get(day, 0)),
        }
        for day, count in zip(all_days, counts, strict=True)
    ]
    if values:
        connection.execute(insert(coverage_days), values)


def _nothing_yet(window: Window) -> dict[str, Any]:
    """Return what a row holds of a partition that was never derived."""
    return {
        "state": "pending",
        "window_start": _moment(window.start_ms),
        "window_end": _moment(window.end_ms),
        "expected": 0,
        "present": 0,
        "missing": 0,
    }


def _chosen(
    connection: Connection, category: str, interval: str, *conditions: ColumnElement[bool]
) -> list[tuple[date, str]]:
    query = (
        select(coverage.c.date, series_table.c.symbol)
        .join(series_table, series_table.c.series_id == coverage.c.series_id)
        .where(series_table.c.category == category, series_table.c.interval == interval, *conditions)
        .order_by(series_table.c.symbol, coverage.c.date)
    )
    return [(row.date, row.symbol) for row in connection.execute(query)]


def _update(connection: Connection, series_id: int, day: date, values: Mapping[str, Any]) -> None:
    here = (coverage.c.series_id == series_id, coverage.c.date == day)
    connection.execute(update(coverage).where(*here).values(**values, updated_at=func.now()))


def _upsert(connection: Connection, series_id: int, day: date, values: Mapping[str, Any]) -> None:
    columns = {**values, "updated_at": func.now()}
    statement = upsert(coverage).values(series_id=series_id, date=day, **columns)
    connection.execute(statement.on_conflict_do_update(index_elements=["series_id", "date"], set_=columns))


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC)
