"""The newest candle that may land of every symbol of a dataset that is still traded; what is late is judged elsewhere.

The ledger is asked and not the sinks: in a run that brings a dataset up to date they land after the check.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from kline_pipeline.database.tables import coverage, instruments, listings
from kline_pipeline.database.tables import series as series_table
from kline_pipeline.market.window import to_ms

_TRADING = "Trading"


def newest_candles(
    connection: Connection, category: str, interval: str, *, exclude: Sequence[str]
) -> dict[str, int | None]:
    """Return the open time of the newest candle that may land (UTC ms) by symbol, None where there is none.

    Args:
        connection: inside a transaction.
        category, interval: of the dataset.
        exclude: symbols that are no longer followed.

    A symbol is there when a partition of it was derived, its listing goes on, and the exchange calls it trading.
    """
    listed = exists().where(
        listings.c.category == category, listings.c.symbol == series_table.c.symbol, listings.c.listed_until.is_(None)
    )
    trading = or_(instruments.c.status.is_(None), instruments.c.status == _TRADING)
    derived = exists().where(coverage.c.series_id == series_table.c.series_id, coverage.c.generation.is_not(None))
    same = and_(instruments.c.category == category, instruments.c.symbol == series_table.c.symbol)
    query = (
        select(series_table.c.symbol, _newest().label("newest"))
        .outerjoin(instruments, same)
        .where(series_table.c.category == category, series_table.c.interval == interval)
        .where(series_table.c.symbol.not_in(exclude), listed, trading, derived)
    )
    return {row.symbol: None if row.newest is None else to_ms(row.newest) for row in connection.execute(query)}


def _newest() -> ColumnElement[object]:
    return (
        select(func.max(coverage.c.last_open_time))
        .where(coverage.c.series_id == series_table.c.series_id)
        .scalar_subquery()
    )
