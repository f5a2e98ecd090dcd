"""The table kline.candles: one partition per transaction, under its advisory lock, with its ledger row.

What the table holds is asked from the table: the checksum of the canonical text of its rows, computed by the server,
or, where the ledger has one, a fingerprint of the versions of its rows that costs a fifth of that. The same: nothing is
written. An empty window: COPY. Else a staging table and a bounded difference. What was written is read back by its
checksum.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyarrow import csv
from sqlalchemy import Connection, text

from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.series_ids import find_series_id, series_id
from kline_pipeline.market.schema import CANDLE_SCHEMA, NUMBER_COLUMNS, empty_candles, lines_of, moments_of
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso
from kline_pipeline.sinks.landing import Held, ToLand, steps_back

_COLUMNS = ", ".join(("series_id", "open_time", *NUMBER_COLUMNS))
_WINDOW = "series_id = :id and open_time >= cast(:start as timestamptz) and open_time < cast(:end as timestamptz)"
_NUMBERS = ", ".join(f"trim_scale({name})" for name in NUMBER_COLUMNS)


def _sha256_of(numbers: str) -> str:
    # date_part and concat_ws, as extract and || take twice as long. What is no whole millisecond shows a fraction.
    line = f"concat_ws(E'\\t', date_part('epoch', open_time) * 1000, {numbers}) || E'\\n'"
    return f"encode(sha256(convert_to(coalesce(string_agg({line}, '' order by open_time), ''), 'UTF8')), 'hex')"


# Whoever changes a row makes a new version of it, with another transaction or place; whoever changes the table, another
# shape of it.
_SHAPE = """
(select md5(string_agg(concat_ws(' ', attnum, attname, atttypid, attmissingval::text), ',' order by attnum))
from pg_attribute where attrelid = 'kline.candles'::regclass and attnum > 0)
"""
_FOUND = f"""
select count(*) as rows,
       (extract(epoch from min(open_time)) * 1000)::bigint as first_ms,
       (extract(epoch from max(open_time)) * 1000)::bigint as last_ms,
       coalesce(sum(hash_record_extended(row(xmin, ctid), 0)), 0)::text || {_SHAPE} as fingerprint
"""  # noqa: S608 - no text of anybody's
_PLAIN, _TRIMMED = _sha256_of(", ".join(NUMBER_COLUMNS)), _sha256_of(_NUMBERS)
_FROM = f"from kline.candles where {_WINDOW}"
# The key gives the rows in order. Of a table that nobody has analyzed yet a bitmap seems cheaper, and its rows are
# sorted then, on disk: a fifth of the time.
_BY_KEY = "set local enable_bitmapscan = off"
# What has no time of its own, 'infinity', is a stray too.
_STRAYS = f"""
select count(*) as rows,
       floor(extract(epoch from min(open_time) filter (where isfinite(open_time))) * 1000)::bigint as first_ms
{_FROM} or series_id = :id and open_time = cast(:end as timestamptz) and not isfinite(open_time)
"""  # noqa: S608
_STAGE = "create temporary table staged_candles (like kline.candles) on commit drop"
_DIFFERS = " or ".join(f"c.{name} is distinct from s.{name}" for name in NUMBER_COLUMNS)
_WINDOW_OF_C = _WINDOW.replace("series_id", "c.series_id").replace("open_time", "c.open_time")
_DELETE = f"""
delete from kline.candles c where {_WINDOW_OF_C}
and not exists (select from staged_candles s where s.open_time = c.open_time)
"""  # noqa: S608
_UPDATE = f"""
update kline.candles c set {", ".join(f"{name} = s.{name}" for name in NUMBER_COLUMNS)}
from staged_candles s where {_WINDOW_OF_C} and c.open_time = s.open_time and ({_DIFFERS})
"""  # noqa: S608
_INSERT = f"""
insert into kline.candles ({_COLUMNS}) select {_COLUMNS} from staged_candles s
where not exists (select from kline.candles c where {_WINDOW_OF_C} and c.open_time = s.open_time)
"""  # noqa: S608

_READ = f"""
copy (select (extract(epoch from open_time) * 1000)::bigint, {_NUMBERS}
from kline.candles where series_id = %s and open_time >= %s::timestamptz and open_time < %s::timestamptz
order by open_time) to stdout
"""  # noqa: S608


def land(database: Database, partition: ToLand) -> Held:
    """Make the table hold exactly these candles in the window of the partition, and return what it then holds.

    Raises:
        DatabaseUnavailable: the server went away; nothing of this partition was written.
        CorruptFile: the candles are not those judged; nothing was written.
    """
    with database.translate_errors(), database.engine.begin() as connection:
        partition_lock(connection, partition.series, partition.date)
        key = series_id(connection, partition.series)
        known = coverage.row(connection, key, partition.date)
        before = _before(connection, key, partition, known)
        if known is not None and steps_back(known.postgres_generation, partition.generation):
            return replace(before, stepped_back=True)
        after = before
        if before.sha256 != partition.sha256:
            partition.prove()
            written = _write(connection, key, partition, window_is_empty=not before.rows)
            after = replace(_held(connection, key, partition), written=written)
        coverage.note_landing(
            connection,
            key,
            partition.date,
            sink="postgres",
            generation=str(partition.generation),
            sha256=after.sha256,
            fingerprint=after.fingerprint,
            sinks=partition.sinks,
        )
    return after


def held(database: Database, partition: ToLand) -> Held:
    """Return what the table holds in the window of the partition, without writing."""
    with database.translate_errors(), database.engine.begin() as connection:
        key = series_id(connection, partition.series)
        return _held(connection, key, partition)


def read(database: Database, series: Series, window: Window) -> pa.Table:
    """Return the candles of a series in a window: CANDLE_SCHEMA, ascending and unique; empty where there is none.

    Raises:
        DatabaseUnavailable: the server went away.
    """
    with database.translate_errors(), database.engine.begin() as connection:
        key = find_series_id(connection, series)
        if key is None:
            return empty_candles()
        driver = connection.connection.driver_connection
        if driver is None:
            msg = "the pool gave a connection without a driver"
            raise LookupError(msg)
        bounds = (key, iso(window.start_ms), iso(window.end_ms))
        with driver.cursor() as cursor, cursor.copy(_READ, bounds) as copy:
            content = b"".join(bytes(part) for part in copy)
    names = CANDLE_SCHEMA.names
    return (
        csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=CANDLE_SCHEMA, strings_can_be_null=False),
        ).cast(CANDLE_SCHEMA)
        if content
        else empty_candles()
    )


def strays(database: Database, series: Series, windows: Sequence[Window]) -> tuple[int, int | None]:
    """Return how many rows the table has of a series outside of some windows, and the first of their open times.

    Rows at infinity count, and have no open time.

    Args:
        database: migrated.
        series: whose rows.
        windows: disjoint and ascending, in any number.

    Raises:
        DatabaseUnavailable: the server went away.
    """
    starts = ["-infinity", *(iso(window.end_ms) for window in windows)]
    ends = [*(iso(window.start_ms) for window in windows), "infinity"]
    with database.translate_errors(), database.engine.begin() as connection:
        key = find_series_id(connection, series)
        between = [{"id": key, "start": start, "end": end} for start, end in zip(starts, ends, strict=True)]
        found = [connection.execute(text(_STRAYS), bounds).one() for bounds in between] if key is not None else []
    times = [row.first_ms for row in found if row.first_ms is not None]
    return sum(row.rows for row in found), min(times, default=None)


def _before(connection: Connection, key: int, partition: ToLand, known: Any | None) -> Held:
    """Return what the table holds; where it is what was read back last time, the checksum is that of then."""
    if known is not None and known.postgres_sha256 == partition.sha256 and known.postgres_fingerprint is not None:
        row = connection.execute(text(_FOUND + _FROM), _bounds(key, partition.window)).one()
        if row.fingerprint == known.postgres_fingerprint:
            return Held(**row._mapping, sha256=partition.sha256)  # noqa: SLF001 - SQLAlchemy's documented way
    return _held(connection, key, partition)


def _held(connection: Connection, key: int, partition: ToLand) -> Held:
    """Return what the table holds in the window of a partition, of whatever scale its numbers are.

    Numbers that we wrote have the scale of their canonical text, so that their plain text is the canonical one: to trim
    each is worth its time only where the checksum is another than it should be.
    """
    bounds = _bounds(key, partition.window)
    connection.execute(text(_BY_KEY))
    row = connection.execute(text(f"{_FOUND}, {_PLAIN} as sha256 {_FROM}"), bounds).one()
    found = Held(**row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's columns
    if not found.rows or found.sha256 == partition.sha256:
        return found
    return replace(found, sha256=connection.execute(text(f"select {_TRIMMED} {_FROM}"), bounds).scalar_one())


def _write(connection: Connection, key: int, partition: ToLand, *, window_is_empty: bool) -> int:
    if window_is_empty:
        return _copy(connection, "kline.candles", key, partition.candles)
    connection.execute(text(_STAGE))
    _copy(connection, "staged_candles", key, partition.candles)
    connection.execute(text("analyze staged_candles"))
    bounds = _bounds(key, partition.window)
    return sum(connection.execute(text(statement), bounds).rowcount for statement in (_DELETE, _UPDATE, _INSERT))


def _copy(connection: Connection, table: str, key: int, candles: pa.Table) -> int:
    driver = connection.connection.driver_connection
    if driver is None:
        msg = "the pool gave a connection without a driver"
        raise LookupError(msg)
    with driver.cursor() as cursor, cursor.copy(f"copy {table} ({_COLUMNS}) from stdin") as copy:
        # Canonical numbers have nothing to escape.
        for lines in lines_of(candles, pa.scalar(str(key)), moments_of(candles)):
            copy.write(lines)
    return len(candles)


def _bounds(key: int, window: Window) -> dict[str, object]:
    return {"id": key, "start": iso(window.start_ms), "end": iso(window.end_ms)}
