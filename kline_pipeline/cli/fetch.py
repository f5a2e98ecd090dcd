"""`kline-pipeline fetch`: candles into a file, without a database; complete is what the listing promises."""

from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from kline_pipeline.bybit.client import BybitClient
    from kline_pipeline.bybit.ratelimit import Budget
    from kline_pipeline.config import Settings
    from kline_pipeline.market.series import Series
    from kline_pipeline.market.window import Window


def fetch(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:60")],
    start: Annotated[str, typer.Option("--from", metavar="T", help="First open time: date or date-time, UTC.")],
    end: Annotated[str, typer.Option("--to", metavar="T", help="Last day (a date), or exclusive end (a date-time).")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="FILE.parquet or FILE.csv.")],
) -> None:
    """Fetch the closed candles of a range into a file, complete or not at all; no database is used.

    Example: kline-pipeline fetch linear:BTCUSDT:60 --from 2024-01-01 --to 2024-01-31 -o btc.parquet
    """
    from kline_pipeline.cli.session import started
    from kline_pipeline.cli.times import check_order
    from kline_pipeline.errors import UsageError
    from kline_pipeline.market.series import Series

    series = Series.parse(key)
    check_order(start, end)
    if output.suffix not in (".parquet", ".csv"):
        raise UsageError(f"-o {output} must end in .parquet or .csv")
    with started(ctx) as settings:
        candles = _fetched(settings, series, start, end)
        _write(series, candles, output)
    typer.echo(f"{len(candles):,} candles of {series} in {output}")


def _fetched(settings: "Settings", series: "Series", start: str, end: str) -> "pa.Table":
    from kline_pipeline.bybit.client import BybitClient
    from kline_pipeline.cli.times import end_of, start_of
    from kline_pipeline.errors import UsageError
    from kline_pipeline.market.window import Window

    with _budget(settings) as budget, BybitClient(settings.bybit, budget=budget) as client:
        now_ms = client.server_time_ms()
        start_ms, end_ms = start_of(start, now_ms), end_of(end, now_ms)
        closed_ms = series.interval.closed_end(now_ms, round(settings.bybit.close_grace_s * 1000))
        first_ms = series.interval.ceil(start_ms)
        last_ms = min(series.interval.ceil(end_ms), closed_ms)
        if first_ms >= last_ms:
            raise UsageError(f"no candle of {series} has closed between --from {start} and --to {end}")
        candles = _pages(client, series, Window(first_ms, last_ms), settings.bybit.concurrency)
        _check(client, settings, series, Window(first_ms, last_ms), candles)
        return candles


@contextmanager
def _budget(settings: "Settings") -> "Iterator[Budget]":
    """Give the budget that all processes share: in KLINE_DATABASE_URL where there is one, else in a file."""
    from kline_pipeline.database.engine import connect
    from kline_pipeline.opening import paying

    if settings.database_url is None:
        with paying(settings, None) as budget:
            yield budget
        return
    with connect(settings) as database, paying(settings, database) as budget:
        yield budget


def _pages(client: "BybitClient", series: "Series", window: "Window", concurrency: int) -> "pa.Table":
    """Return the candles of the answers, ascending and unique; two that contradict each other are refused."""
    import pyarrow as pa

    from kline_pipeline.bybit.pages import PageFailure, fetch_pages, plan
    from kline_pipeline.errors import MalformedAnswer
    from kline_pipeline.market.schema import canonical_candles
    from kline_pipeline.market.window import iso

    parts = []
    asks = ((series, page) for page in plan(window, series.interval))
    for page in fetch_pages(client, asks, concurrency):
        if isinstance(page, PageFailure):
            raise page.error
        parts.append(canonical_candles(page.rows))
    rows = pa.concat_tables(parts).sort_by("open_time_ms")
    unique = rows.group_by(rows.column_names, use_threads=False).aggregate([]).sort_by("open_time_ms")
    times = unique["open_time_ms"].to_pylist()
    for before, after in pairwise(times):
        if before == after:
            raise MalformedAnswer(f"{client.host} served two different candles of {series} at {iso(before)}; try again")
    return unique


def _check(
    client: "BybitClient", settings: "Settings", series: "Series", window: "Window", candles: "pa.Table"
) -> None:
    """Raise unless every candle is one and none is missing; the listing is asked if some are."""
    import numpy as np

    from kline_pipeline.bybit.lives import probe_lives
    from kline_pipeline.checks import well_formed
    from kline_pipeline.errors import IncompleteWindow, MalformedAnswer, UnknownSeries
    from kline_pipeline.market.window import iso

    times = candles["open_time_ms"].to_numpy()
    grid = series.interval.grid(window.start_ms, window.end_ms)
    result = well_formed.judge(candles, times[~np.isin(times, grid)], series.category, window)
    if not result.passed and result.severity == "ERROR":
        raise MalformedAnswer(f"{client.host} served impossible candles of {series}: {result.sentence}")
    absent = grid[~np.isin(grid, times)]
    if not len(absent):
        return
    lives = probe_lives(
        client, series.category, series.symbol, grace_ms=round(settings.bybit.close_grace_s * 1000)
    ).lives
    listed = np.zeros(len(absent), dtype=bool)
    for life in lives:
        until_ms = window.end_ms if life.until_ms is None else life.until_ms
        listed |= (absent >= series.interval.floor(life.from_ms)) & (absent < until_ms)
    missing = [int(one) for one in absent[listed]]
    if missing:
        named = ", ".join(iso(one) for one in missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        raise IncompleteWindow(
            f"{len(missing)} of {len(grid)} candles of {series} are missing, at {named}; no file was written",
            missing_ms=missing,
        )
    if not len(times):
        raise UnknownSeries(f"{series} was not listed in {window}; no file was written")


def _write(series: "Series", candles: "pa.Table", output: Path) -> None:
    from kline_pipeline.files import Folder
    from kline_pipeline.sinks.candles_parquet import encode

    path = output.expanduser().absolute()
    content = encode(series, candles) if path.suffix == ".parquet" else _csv(candles)
    Folder(str(path.parent)).replace(path.name, content)


def _csv(candles: "pa.Table") -> bytes:
    from kline_pipeline.market.schema import NUMBER_COLUMNS
    from kline_pipeline.market.window import iso

    columns = [map(iso, candles["open_time_ms"].to_pylist())]
    lines = [",".join(("open_time", *NUMBER_COLUMNS))]
    numbers = (candles[name].to_pylist() for name in NUMBER_COLUMNS)
    lines += [",".join(row) for row in zip(*columns, *numbers, strict=True)]
    return ("\n".join(lines) + "\n").encode()
