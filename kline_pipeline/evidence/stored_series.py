"""Which series of one instrument are stored; how much of each is there is told by coverage."""

from sqlalchemy import Connection, select

from kline_pipeline.database.tables import coverage
from kline_pipeline.database.tables import series as series_table


def stored_intervals(connection: Connection, category: str, symbol: str) -> frozenset[str]:
    """Return the codes of the intervals of which at least one partition was derived; empty where none was."""
    derived = select(coverage.c.date).where(
        coverage.c.series_id == series_table.c.series_id, coverage.c.generation.is_not(None)
    )
    query = select(series_table.c.interval).where(
        series_table.c.category == category, series_table.c.symbol == symbol, derived.exists()
    )
    return frozenset(connection.execute(query).scalars())
