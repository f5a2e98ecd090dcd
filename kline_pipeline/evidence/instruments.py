"""What instruments-info said of the instruments of a category, of delisted ones too; their lives are in listings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from kline_pipeline.bybit.instruments import Instrument
from kline_pipeline.database.tables import instruments

CLOSED: Final = "Closed"
_KEY: Final = ("category", "symbol")


@dataclass(frozen=True, slots=True)
class Seen:
    """One instrument as it was last seen.

    Attributes:
        status: PreLaunch, Trading, Delivering or Closed; Closed for one that is no longer listed.
        quote_coin: what it is priced in.
    """

    status: str
    quote_coin: str


def seen(connection: Connection, category: str) -> dict[str, Seen]:
    """Return what is known of the instruments of a category, by symbol; empty before the first was seen."""
    rows = connection.execute(
        select(instruments.c.symbol, instruments.c.status, instruments.c.quote_coin).where(
            instruments.c.category == category
        )
    )
    return {row.symbol: Seen(row.status, row.quote_coin) for row in rows}


def write(connection: Connection, found: Sequence[Instrument], *, seen_at_ms: int) -> None:
    """Put what the exchange said of some instruments in the place of what was known of them."""
    if not found:
        return
    rows = [{**_row(one), "seen_at": _moment(seen_at_ms)} for one in found]
    statement = upsert(instruments)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in _KEY}
    connection.execute(statement.on_conflict_do_update(index_elements=list(_KEY), set_=changed), rows)


def mark_closed(connection: Connection, category: str, symbols: Iterable[str]) -> None:
    """Note that instruments are no longer listed; those never seen are left alone."""
    connection.execute(
        update(instruments)
        .where(instruments.c.category == category, instruments.c.symbol.in_(list(symbols)))
        .values(status=CLOSED)
    )


def _row(instrument: Instrument) -> dict[str, object]:
    return {
        "category": instrument.category,
        "symbol": instrument.symbol,
        "status": instrument.status,
        "base_coin": instrument.base_coin,
        "quote_coin": instrument.quote_coin,
        "tick_size": instrument.tick_size or None,
        "qty_step": instrument.qty_step or None,
        "launch_time": None if instrument.launch_time_ms is None else _moment(instrument.launch_time_ms),
        "delivery_time": None if instrument.delivery_time_ms is None else _moment(instrument.delivery_time_ms),
    }


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC)
