"""`kline-pipeline fetch`: candles into a file, without a database; what complete means is told in direct/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.direct.source import Source
    from kline_pipeline.market.series import Series


def fetch(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:60")],
    start: Annotated[str, typer.Option("--from", metavar="T", help="First open time: date or date-time, UTC.")],
    end: Annotated[str, typer.Option("--to", metavar="T", help="Last day (a date), or exclusive end (a date-time).")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="FILE.parquet or FILE.csv.")],
    *,
    refetch: Annotated[bool, typer.Option("--refetch", help="Ask for everything, past the cache.")] = False,
) -> None:
    """Fetch the closed candles of a range into a file, complete or not at all; no database is used.

    Example: kline-pipeline fetch linear:BTCUSDT:60 --from 2024-01-01 --to 2024-01-31 -o btc.parquet
    """
    from kline_pipeline.cli.session import started
    from kline_pipeline.direct.output import check_format
    from kline_pipeline.market.series import Series
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import direct

    series = Series.parse(key)
    check_order(start, end)
    path = output.expanduser().absolute()
    check_format(path)
    with started(ctx) as settings, direct(settings, refetch=refetch) as source:
        rows = _write(source, series, start, end, path)
        typer.echo(f"{rows:,} candles of {series} in {output}{_cached(source)}")


def _write(source: "Source", series: "Series", start: str, end: str, path: Path) -> int:
    from kline_pipeline.cli.session import say
    from kline_pipeline.direct.candles import Fetch, closed_window
    from kline_pipeline.direct.output import candle_file
    from kline_pipeline.market.times import end_of, start_of

    now_ms = source.client.server_time_ms()
    window = closed_window(
        series, start_of(start, now_ms), end_of(end, now_ms), server_time_ms=now_ms, grace_ms=source.grace_ms
    )
    fetched = Fetch(source, {series: [window]}, server_time_ms=now_ms)
    rows = 0
    with candle_file(path, series) as file:
        for _, candles in fetched.tables():
            file.add(candles)
            rows += len(candles)
    for hole in fetched.unlisted[series]:
        say(f"{series} was not listed in {hole}: no candle is missing there")
    return rows


def _cached(source: "Source") -> str:
    if source.cache is None or not source.cache.hits:
        return ""
    return f" ({source.cache.hits} of {source.cache.hits + source.cache.misses} pages from the cache)"
