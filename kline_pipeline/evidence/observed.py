"""Gauges of what is stored, read from PostgreSQL when they are asked for; never kept in a process.

Each is one query over small tables: candles themselves are never counted here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.evidence.freshness import newest_candles
from kline_pipeline.metrics import (
    CONNECTIONS,
    EXPECTED,
    FRESHNESS,
    GAPS,
    KNOWN_GAPS,
    MOST_SERIES,
    PARTITIONS,
    POOL,
    PRESENT,
    REVISIONS,
    SERIES,
    STATES,
    UNDELIVERED,
    Labels,
    Reading,
)

_LEDGER = text(f"""
select category, interval, sum(expected)::bigint as expected, sum(present)::bigint as present,
       sum(missing)::bigint as missing, sum(known_missing)::bigint as known,
       {", ".join(f"count(*) filter (where state = '{state}') as {state}" for state in STATES)}
from kline.coverage join kline.series using (series_id) group by category, interval
""")  # noqa: S608 - no text of anybody's
_SERIES = text("select category, interval, count(*) as number from kline.series group by category, interval")
_REVISIONS = text("select kind, count(*) as number from kline.candle_revisions group by kind")
_CONNECTIONS = text("""
select case when application_name in ('kline_pipeline', 'dagster') then application_name else 'other' end as holder,
       count(*) as number
from pg_stat_activity where datname = current_database() group by 1
""")
_UNDELIVERED = text("select count(distinct alert_id) from kline.alert_deliveries where delivered_at is null")


def readings(connection: Connection, declared: Sequence[Dataset], *, now_ms: int) -> list[Reading]:
    """Return what the database says of candles, revisions, alerts and connections.

    Args:
        connection: inside a transaction.
        declared: the datasets of datasets.toml, for freshness.
        now_ms: UTC.
    """
    return [
        *_ledger(connection),
        *_freshness(connection, declared, now_ms),
        *_revisions(connection),
        Reading(UNDELIVERED, connection.execute(_UNDELIVERED).scalar_one()),
        *_connections(connection),
    ]


def pool_readings(database: Database) -> list[Reading]:
    """Return how many connections the pool of this process has lent, and how many lie there."""
    pool = database.engine.pool
    lent, idle = (int(getattr(pool, name)()) for name in ("checkedout", "checkedin"))
    return [Reading(POOL, lent, (("state", "in_use"),)), Reading(POOL, idle, (("state", "idle"),))]


def _ledger(connection: Connection) -> list[Reading]:
    found: list[Reading] = []
    for row in connection.execute(_LEDGER):
        labels = _of_dataset(row)
        sums = {EXPECTED: row.expected, PRESENT: row.present, GAPS: row.missing, KNOWN_GAPS: row.known}
        found += [Reading(metric, number, labels) for metric, number in sums.items()]
        found += [Reading(PARTITIONS, getattr(row, state), (*labels, ("state", state))) for state in STATES]
    return found + [Reading(SERIES, row.number, _of_dataset(row)) for row in connection.execute(_SERIES)]


def _of_dataset(row: Any) -> Labels:
    return ("category", row.category), ("interval", row.interval)


def _freshness(connection: Connection, declared: Sequence[Dataset], now_ms: int) -> list[Reading]:
    """Return the lag of the stalest series first, of at most MOST_SERIES."""
    lags: list[tuple[float, str]] = []
    for dataset in declared:
        newest = newest_candles(connection, dataset.category, dataset.interval.code, exclude=dataset.exclude)
        stored = {symbol: open_ms for symbol, open_ms in newest.items() if open_ms is not None}
        ends = dataset.interval.close_times(np.array(list(stored.values()), dtype=np.int64))
        lags += [
            ((now_ms - int(end_ms)) / 1000, str(dataset.series(symbol)))
            for symbol, end_ms in zip(stored, ends, strict=True)
        ]
    stalest = sorted(lags, key=lambda one: (-one[0], one[1]))[:MOST_SERIES]
    return [Reading(FRESHNESS, lag_s, (("series", series),)) for lag_s, series in stalest]


def _revisions(connection: Connection) -> list[Reading]:
    counts = {"changed": 0, "vanished": 0} | {row.kind: row.number for row in connection.execute(_REVISIONS)}
    return [Reading(REVISIONS, number, (("kind", kind),)) for kind, number in counts.items()]


def _connections(connection: Connection) -> list[Reading]:
    counts = {"kline_pipeline": 0, "dagster": 0, "other": 0}
    counts |= {row.holder: row.number for row in connection.execute(_CONNECTIONS)}
    return [Reading(CONNECTIONS, number, (("application", holder),)) for holder, number in counts.items()]
