"""Advisory locks of ours, by name; what is done under them is told where they are taken."""

import zlib
from datetime import date

from sqlalchemy import Connection, text

from kline_pipeline.market.series import Series

_MIGRATIONS = zlib.crc32(b"kline_pipeline migrations")


def partition_lock(connection: Connection, series: Series, day: date) -> None:
    """Wait for the lock of a partition and hold it to the end of the transaction.

    Who takes several takes them in the order of their dates. Partitions of one series share no row, and so one is
    derived while another one lands.
    """
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _key(f"partition {series} {day}")})


def listings_lock(connection: Connection) -> None:
    """Wait for the lock of writing listings and hold it to the end of the transaction.

    One for all: whoever writes several at once could otherwise wait for one who waits for him.
    """
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _key("listings")})


def migration_lock(connection: Connection) -> None:
    """Wait for the lock of the migrations and hold it to the end of the transaction."""
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATIONS})


def take_alert_lock(connection: Connection) -> bool:
    """Take the lock of sending alerts to the end of the transaction, and return whether it was free."""
    taken = connection.execute(text("select pg_try_advisory_xact_lock(:key)"), {"key": _key("alerts")}).scalar()
    return bool(taken)


def hold_run_lock(connection: Connection, run_id: str) -> bool:
    """Take the lock of a run for the life of the session, and return whether it was free."""
    taken = connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": _key(f"run {run_id}")}).scalar()
    return bool(taken)


def release_run_lock(connection: Connection, run_id: str) -> None:
    """Give the lock of a run back; the end of the session does the same."""
    connection.execute(text("select pg_advisory_unlock(:key)"), {"key": _key(f"run {run_id}")})


def _key(name: str) -> int:
    """Return a signed 64-bit key: two independent 32-bit checksums of the name."""
    data = name.encode()
    key = zlib.crc32(data) << 32 | zlib.crc32(data[::-1] + b"kline_pipeline")
    return key - (1 << 64) if key >= 1 << 63 else key
