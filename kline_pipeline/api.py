"""The notebook facade: candles as pandas frames, straight from the exchange or as they have landed.

    from kline_pipeline import api

Settings are those of the environment and of `.env`, as for the commands. A series is category:symbol:interval, such as
linear:BTCUSDT:60, or a Series. Times are UTC: a plain date as `end` is the last day included, as after --to; a
date-time is an exclusive end. A frame has category, symbol, interval (categories), open_time (UTC) and open, high, low,
close, volume, turnover: float64, or exact decimals with `exact=True`. It is complete, or there is an exception.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as pa

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import connect
from kline_pipeline.direct.candles import Fetch, closed_window
from kline_pipeline.direct.latest import latest
from kline_pipeline.errors import IncompleteWindow, KlineError, UsageError
from kline_pipeline.evidence import coverage as ledger
from kline_pipeline.market.schema import NUMBER_COLUMNS, floats, snapshot_table
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import end_of, start_of
from kline_pipeline.market.window import Window
from kline_pipeline.opening import direct
from kline_pipeline.stages.stored import Gap
from kline_pipeline.stored_partitions import StoredPartitions

__all__ = [
    "KlineError",
    "Series",
    "Window",
    "coverage",
    "fetch_candles",
    "find_gaps",
    "latest_candles",
    "load_candles",
]

Time = str | date


def fetch_candles(
    series: str | Series | Sequence[str | Series],
    start: Time,
    end: Time,
    *,
    exact: bool = False,
    refetch: bool = False,
) -> pd.DataFrame:
    """Return the closed candles of a range straight from the exchange, by series and time; no database is used.

    Args:
        series: one, or several, which are fetched side by side.
        start: first open time.
        end: last day (a date), or exclusive end (a date-time).
        exact: decimals instead of float64.
        refetch: ask for everything, past the cache.

    Raises:
        IncompleteWindow: candles are missing; `missing_ms` names them all.
        NotListed: a series was not listed in the range; the subclass says how.
        UsageError: a series or a time is none, or lies in the future.
        ExchangeError: no usable answer after all attempts.
    """
    wanted = [_series(one) for one in ([series] if isinstance(series, str | Series) else series)]
    if not wanted:
        raise UsageError("no series was given: name one, such as linear:BTCUSDT:60")
    with direct(Settings.load(), refetch=refetch) as source:
        now_ms = source.client.server_time_ms()
        start_ms, end_ms = _start(start, now_ms), _end(end, now_ms)
        windows = {
            one: [closed_window(one, start_ms, end_ms, server_time_ms=now_ms, grace_ms=source.grace_ms)]
            for one in wanted
        }
        fetch = Fetch(source, windows, server_time_ms=now_ms)
        found = [_table(one, candles) for one, candles in fetch.tables()]
    return _frame(found, exact=exact)


def latest_candles(
    series: str | Series, count: int, *, end: Time | None = None, exact: bool = False, refetch: bool = False
) -> pd.DataFrame:
    """Return the last `count` (1 to 100,000) closed candles, oldest first, straight from the exchange: exactly so many.

    Args:
        series: whose.
        count: how many.
        end: closed by then; None for now.
        exact: decimals instead of float64.
        refetch: ask for everything, past the cache.

    Raises:
        TooFewCandles: fewer exist; `exist` says how many.
        IncompleteWindow: some of them are missing; `missing_ms` names them all.
        UsageError: the series, the count or the time is none.
        ExchangeError: no usable answer after all attempts.
    """
    one = _series(series)
    with direct(Settings.load(), refetch=refetch) as source:
        now_ms = source.client.server_time_ms()
        end_ms = None if end is None else _end(end, now_ms)
        candles = latest(source, one, count, end_ms=end_ms, server_time_ms=now_ms)
    return _frame([_table(one, candles)], exact=exact)


def load_candles(series: str | Series, start: Time, end: Time, *, exact: bool = False) -> pd.DataFrame:
    """Return the candles of a range as they have landed; the exchange is not asked.

    Known gaps and accepted ones are left out and raise nothing; `find_gaps` names them.

    Args:
        series: whose.
        start: first open time.
        end: last day (a date), or exclusive end (a date-time).
        exact: decimals instead of float64.

    Raises:
        IncompleteWindow: not all of them have landed; `missing_ms` names those that have not.
        UsageError: a series or a time is none, or belongs to no dataset.
        StorageError: the database or a folder failed, or a snapshot is not what was landed.
    """
    one = _series(series)
    window, candles, gaps = _stored(one, start, end)
    if lacks := [gap for gap in gaps if not gap.let_in]:
        raise _incomplete(one, window, lacks)
    return _frame([candles], exact=exact)


def find_gaps(series: str | Series, start: Time, end: Time) -> pd.DataFrame:
    """Return what of a range has not landed although it was listed and has closed; no row means complete.

    Known gaps and accepted ones are among it, and `why` says so.

    Args:
        series: whose.
        start: first open time.
        end: last day (a date), or exclusive end (a date-time).

    Returns:
        start and end (UTC, exclusive), candles, why; ascending.

    Raises:
        UsageError: a series or a time is none, or belongs to no dataset.
        StorageError: the database or a folder failed, or a snapshot is not what was landed.
    """
    _, _, lacks = _stored(_series(series), start, end)
    rows = [(gap.window.start_ms, gap.window.end_ms, gap.candles, gap.why) for gap in lacks]
    frame = pd.DataFrame(rows, columns=["start", "end", "candles", "why"])
    return frame.assign(**{name: pd.to_datetime(frame[name], unit="ms", utc=True) for name in ("start", "end")})


def coverage(*series: str | Series) -> pd.DataFrame:
    """Return the ledger: a row per partition of some series, or of all, by series and date.

    Returns:
        series, date, state (landed, quarantined, not_listed, pending), expected, present, missing, known (let in).

    Raises:
        UsageError: a series is none, or belongs to no dataset.
        DatabaseUnavailable: no server answers.
    """
    wanted = [_series(one) for one in series]
    settings = Settings.load()
    rows: list[tuple[Any, ...]] = []
    with connect(settings) as database:
        for dataset in [_dataset(settings, each) for each in wanted] or datasets.load(settings.datasets_file):
            with database.translate_errors(), database.engine.begin() as connection:
                found = ledger.rows(connection, dataset.category, dataset.interval.code)
            for row in found:
                key = dataset.series(row.symbol)
                if not wanted or key in wanted:
                    counts = (row.expected, row.present, row.missing, row.known_missing)
                    rows.append((str(key), row.date, row.state, *counts))
    columns = ["series", "date", "state", "expected", "present", "missing", "known"]
    return pd.DataFrame(list(dict.fromkeys(rows)), columns=columns)


def _stored(series: Series, start: Time, end: Time) -> tuple[Window, pa.Table, list[Gap]]:
    settings = Settings.load()
    dataset = _dataset(settings, series)
    now_ms = time.time_ns() // 1_000_000
    grace_ms = round(settings.bybit.close_grace_s * 1000)
    start_ms, end_ms = _start(start, now_ms), _end(end, now_ms)
    window = closed_window(series, start_ms, end_ms, server_time_ms=now_ms, grace_ms=grace_ms)
    with connect(settings) as database:
        return window, *StoredPartitions(settings, database).stored(dataset, series.symbol, window)


def _incomplete(series: Series, window: Window, lacks: Sequence[Gap]) -> IncompleteWindow:
    missing = [
        int(open_time_ms)
        for gap in lacks
        for open_time_ms in series.interval.grid(gap.window.start_ms, gap.window.end_ms)
    ]
    named = "; ".join(f"{gap.window} {gap.why}" for gap in lacks[:3])
    more = f"; and {len(lacks) - 3} more" if len(lacks) > 3 else ""  # noqa: PLR2004 - three names fit a line
    msg = f"{len(missing)} candles of {series} in {window} have not landed: {named}{more}; find_gaps lists them"
    return IncompleteWindow(msg, missing_ms=missing, window=window)


def _dataset(settings: Settings, series: Series) -> datasets.Dataset:
    for dataset in datasets.load(settings.datasets_file):
        if (dataset.category, dataset.interval) == (series.category, series.interval):
            return dataset
    raise UsageError(f"{series} belongs to no dataset; land it first: kline-pipeline backfill {series}")


def _series(series: str | Series) -> Series:
    return series if isinstance(series, Series) else Series.parse(series)


def _start(when: Time, now_ms: int) -> int:
    return start_of(_text(when), now_ms, option="start")


def _end(when: Time, now_ms: int) -> int:
    return end_of(_text(when), now_ms, option="end")


def _text(when: Time) -> str:
    if isinstance(when, str):
        return when
    if isinstance(when, date):
        return when.isoformat()
    try:
        return str(pd.Timestamp(when).isoformat())  # numpy's, or whatever else pandas takes for a time
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{when!r} is no time: give a date, a datetime or a text such as 2024-01-31") from exc


def _frame(tables: Sequence[pa.Table], *, exact: bool) -> pd.DataFrame:
    """Return tables with SNAPSHOT_SCHEMA as one frame."""
    table = pa.concat_tables(tables).unify_dictionaries()
    if exact:
        return table.to_pandas(types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_decimal(kind) else None)
    frame = table.drop_columns(list(NUMBER_COLUMNS)).to_pandas()
    with ThreadPoolExecutor(len(NUMBER_COLUMNS)) as threads:
        columns = threads.map(lambda name: floats(table[name]), NUMBER_COLUMNS)
    return frame.assign(**dict(zip(NUMBER_COLUMNS, columns, strict=True)))


def _table(series: Series, candles: pa.Table) -> pa.Table:
    return snapshot_table((series.category, series.symbol, series.interval.code), candles)
