"""Dagster's storages, which remember what is there of their own tables: a table or a column that is there stays there.

Dagster 1.13.27 looks into the catalog of the database at every other event: 6 % of what a run over stored data takes.
"""

from collections.abc import Callable

from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
from sqlalchemy import Connection


class _Found:
    """Answers of yes; one of no is asked for again, as somebody may upgrade the tables meanwhile."""

    def __init__(self) -> None:
        self._found: set[str] = set()

    def is_there(self, name: str, look: Callable[[], bool]) -> bool:
        if name not in self._found and look():
            self._found.add(name)
        return name in self._found


class EventLogOfKnownTables(PostgresEventLogStorage):
    """Dagster's event log."""

    def __init__(self, url: str) -> None:
        self._found = _Found()
        super().__init__(url)

    def has_table(self, table_name: str) -> bool:
        """Say whether a table is there."""
        return self._found.is_there(table_name, lambda: super(EventLogOfKnownTables, self).has_table(table_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        def look() -> bool:
            return super(EventLogOfKnownTables, self)._has_asset_key_col_on_connection(conn, column_name)

        return self._found.is_there(f"asset_keys.{column_name}", look)


class RunsOfKnownTables(PostgresRunStorage):
    """Dagster's runs."""

    def __init__(self, url: str) -> None:
        self._found = _Found()
        super().__init__(url)

    def has_run_stats_index_cols(self) -> bool:
        """Say whether runs have their times in columns."""
        return self._found.is_there("times", super().has_run_stats_index_cols)

    def has_backfill_id_column(self) -> bool:
        """Say whether runs have their backfill in a column."""
        return self._found.is_there("backfill_id", super().has_backfill_id_column)
