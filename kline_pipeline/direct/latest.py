"""The last N closed candles, across holes between listings; complete, or an exception."""

from operator import index
from typing import Final

import pyarrow as pa

from kline_pipeline.bybit.lives import BEGINNING_MS
from kline_pipeline.direct.candles import Fetch, not_listed
from kline_pipeline.direct.source import Source
from kline_pipeline.errors import NotListed, TooFewCandles, UsageError
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.schema import empty_candles
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window

MOST: Final = 100_000


def latest(source: Source, series: Series, count: int, *, end_ms: int | None, server_time_ms: int) -> pa.Table:
    """Return the last `count` candles of a series: CANDLE_SCHEMA, canonical text, ascending, exactly `count` rows.

    Args:
        source: of pages.
        series: whose candles.
        count: 1 to 100,000.
        end_ms: candles that had closed by then, UTC; None for the exchange's now.
        server_time_ms: the exchange's time, UTC.

    Raises:
        UsageError: `count` or `end_ms` cannot be.
        TooFewCandles: fewer exist; `.exist` says how many.
        NotListed: none does.
        IncompleteWindow: some of them are missing, named in `missing_ms`.
        ExchangeError: no usable answer after all attempts.
    """
    try:
        count = index(count)
    except TypeError as exc:
        raise UsageError(f"{count!r} is no number of candles: ask for 1 to {MOST:,}") from exc
    if not 1 <= count <= MOST:
        raise UsageError(f"the last {count} candles cannot be had: ask for 1 to {MOST:,}, or fetch a range")
    until_ms = series.interval.closed_end(server_time_ms, source.grace_ms)
    if end_ms is not None:
        until_ms = min(until_ms, series.interval.floor(end_ms))
    start_ms = series.interval.shift(until_ms, -count)
    if start_ms >= BEGINNING_MS:
        candles = _nearest(source, series, Window(start_ms, until_ms), server_time_ms)
        if len(candles) == count:
            return candles
    # Not all of these slots were listed: the lives say which are the last ones that were.
    listing = source.listing(series.category, series.symbol, until_ms=until_ms)
    windows = _last(listing, series, count, until_ms)
    return _fetched(source, series, windows, server_time_ms)


def _nearest(source: Source, series: Series, window: Window, server_time_ms: int) -> pa.Table:
    try:
        return _fetched(source, series, [window], server_time_ms)
    except NotListed:
        return empty_candles()


def _fetched(source: Source, series: Series, windows: list[Window], server_time_ms: int) -> pa.Table:
    tables = Fetch(source, {series: windows}, server_time_ms=server_time_ms).tables()
    return pa.concat_tables([empty_candles(), *(table for _, table in tables)]).combine_chunks()


def _last(listing: Listing, series: Series, count: int, until_ms: int) -> list[Window]:
    """Return the windows of the last `count` listed slots, ascending."""
    interval = series.interval
    found: list[Window] = []
    lacking = count
    whole = Window(min(0, until_ms), until_ms)
    for window in reversed(listing.windows(interval, whole)):
        slots = interval.count(window.start_ms, window.end_ms)
        start_ms = interval.shift(window.end_ms, -lacking) if slots > lacking else window.start_ms
        found.insert(0, Window(start_ms, window.end_ms))
        lacking -= min(slots, lacking)
        if not lacking:
            return found
    exist = count - lacking
    if not exist:
        raise not_listed(series, whole, listing)
    raise TooFewCandles(
        f"asked for the last {count} closed candles of {series} and only {exist} exist; ask for at most {exist}",
        exist=exist,
        window=Window(found[0].start_ms, until_ms),
    )
