"""The lives of instruments under one name, as probes found them, with their evidence; probes are in bybit/lives.py."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.lives import Lives, probe_lives
from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import listings_lock
from kline_pipeline.database.tables import listings
from kline_pipeline.errors import BadRequest
from kline_pipeline.evidence import instruments
from kline_pipeline.market.listing import NEVER_MS, Listing
from kline_pipeline.market.window import Window, to_ms

_PROBE_EVERY_MS: Final = 7 * 86_400_000


def read(connection: Connection, category: str, symbol: str) -> Listing | None:
    """Return what the last probe of an instrument found, None when it was never probed."""
    rows = connection.execute(
        select(listings.c.listed_from, listings.c.listed_until, listings.c.probed_at)
        .where(listings.c.category == category, listings.c.symbol == symbol)
        .order_by(listings.c.listed_from)
    ).all()
    if not rows:
        return None
    lives = tuple(
        Window(to_ms(row.listed_from), NEVER_MS if row.listed_until is None else to_ms(row.listed_until))
        for row in rows
    )
    return Listing(lives, max(to_ms(row.probed_at) for row in rows))


def write(connection: Connection, found: Lives) -> Listing:
    """Put what a probe found in the place of what was known, and return it."""
    listings_lock(connection)
    probed_at = _moment(found.probed_at_ms)
    connection.execute(delete(listings).where(listings.c.category == found.category, listings.c.symbol == found.symbol))
    rows = [
        {
            "category": found.category,
            "symbol": found.symbol,
            "listed_from": _moment(life.from_ms),
            "listed_until": None if life.until_ms is None else _moment(life.until_ms),
            "probed_at": probed_at,
            "evidence": found.evidence,
        }
        for life in found.lives
    ]
    if rows:  # one that has no candle yet has no life
        connection.execute(insert(listings), rows)
    if found.instrument is not None:
        instruments.write(connection, [found.instrument], seen_at_ms=found.probed_at_ms)
    return found.listing


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC)


def known_or_probed(
    database: Database,
    client: BybitClient,
    category: str,
    symbol: str,
    *,
    grace_ms: int,
    now_ms: int,
    again: bool = False,
) -> Listing:
    """Return the lives of an instrument; the exchange is asked when they are not known, a week old, or `again`.

    Args:
        database: where listings are kept.
        client: of the exchange.
        category, symbol: the instrument.
        grace_ms: a candle counts as closed this long after its end.
        now_ms: the exchange's time.
        again: ask whatever is known.

    Raises:
        BadRequest: the exchange knows no such instrument, has no candle of it, and nothing was known before.
        ExchangeError: it could not be asked.
        DatabaseUnavailable: what is known could not be read or written.
    """
    with database.translate_errors(), database.engine.begin() as connection:
        known = read(connection, category, symbol)
    if known is not None and not again and now_ms - known.probed_at_ms < _PROBE_EVERY_MS:
        return known
    try:
        found = probe_lives(client, category, symbol, grace_ms=grace_ms)
    except BadRequest:
        # Delisted spot symbols vanish (bybit-v5.md 1.3): what was once proved of an instrument stays true.
        if known is None:
            raise
        return known
    with database.translate_errors(), database.engine.begin() as connection:
        return write(connection, found)


def going_on(connection: Connection, category: str) -> dict[str, bool]:
    """Return for every instrument of a category that was probed whether its last life goes on."""
    rows = connection.execute(
        select(listings.c.symbol, func.bool_or(listings.c.listed_until.is_(None)).label("goes_on"))
        .where(listings.c.category == category)
        .group_by(listings.c.symbol)
    )
    return {row.symbol: row.goes_on for row in rows}
