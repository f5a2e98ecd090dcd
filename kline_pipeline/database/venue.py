"""Which exchange a database belongs to, recorded at the first write; simulated candles never mix with real ones."""

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from kline_pipeline.database.tables import venue
from kline_pipeline.errors import VenueMismatch


def recorded_venue(connection: Connection) -> str | None:
    """Return the exchange of this database, None before its first write."""
    found: str | None = connection.execute(select(venue.c.name)).scalar_one_or_none()
    return found


def claim_venue(connection: Connection, name: str) -> None:
    """Record the exchange of this database if none is recorded.

    Raises:
        VenueMismatch: it belongs to another one.
    """
    connection.execute(insert(venue).values(id=1, name=name, claimed_at=func.now()).on_conflict_do_nothing())
    owner = connection.execute(select(venue.c.name)).scalar_one()
    if owner != name:
        raise VenueMismatch(
            f"the database holds candles of {owner} and the exchange is {name}; "
            "use another database or KLINE_HOME, or point BYBIT_BASE_URL at the exchange it belongs to"
        )
