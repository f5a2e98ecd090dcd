"""The surrogate key of a series in our tables; what the tables hold is told beside each of them."""

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from kline_pipeline.database.tables import series as series_table
from kline_pipeline.market.series import Series


def series_id(connection: Connection, series: Series) -> int:
    """Return the key of a series, made if it has none."""
    found = find_series_id(connection, series)
    if found is not None:
        return found
    row = {"category": series.category, "symbol": series.symbol, "interval": series.interval.code}
    connection.execute(insert(series_table).values(row).on_conflict_do_nothing())
    made = find_series_id(connection, series)
    if made is None:
        msg = f"series {series} vanished while it was being added"
        raise LookupError(msg)
    return made


def find_series_id(connection: Connection, series: Series) -> int | None:
    """Return the key of a series, None when it has none."""
    return connection.execute(
        select(series_table.c.series_id).where(
            series_table.c.category == series.category,
            series_table.c.symbol == series.symbol,
            series_table.c.interval == series.interval.code,
        )
    ).scalar()
