"""`kline-pipeline latest`: the last N closed candles on standard output; what complete means is told in direct/."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from kline_pipeline.market.series import Series


def latest(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:60")],
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many, 1 to 100,000.")],
    end: Annotated[
        str | None,
        typer.Option("--end", metavar="T", help="Closed by then: last day (a date) or date-time, UTC; default now."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per candle instead of CSV.")] = False,
    refetch: Annotated[bool, typer.Option("--refetch", help="Ask for everything, past the cache.")] = False,
) -> None:
    """Print the last N closed candles, oldest first: exactly N, or an error that says how many exist.

    Example: kline-pipeline latest linear:BTCUSDT:1 --count 500 > last.csv
    """
    from kline_pipeline.cli.session import started
    from kline_pipeline.direct.latest import latest as last_candles
    from kline_pipeline.market.series import Series
    from kline_pipeline.market.times import end_of
    from kline_pipeline.opening import direct

    series = Series.parse(key)
    with started(ctx) as settings, direct(settings, refetch=refetch) as source:
        now_ms = source.client.server_time_ms()
        end_ms = end_of(end, now_ms, option="--end") if end is not None else None
        candles = last_candles(source, series, count, end_ms=end_ms, server_time_ms=now_ms)
    sys.stdout.write(_json(series, candles) if as_json else _csv(candles))


def _csv(candles: "pa.Table") -> str:
    from kline_pipeline.direct.output import CSV_HEADER, csv_lines

    return "".join(f"{line}\n" for line in (CSV_HEADER, *csv_lines(candles)))


def _json(series: "Series", candles: "pa.Table") -> str:
    """Return a line per candle; prices and sizes are texts, as JSON numbers are floats to most readers."""
    import json

    from kline_pipeline.market.window import iso

    lines = []
    for row in candles.to_pylist():  # a person or a pipe reads these lines one by one
        opened = {"series": str(series), "open_time": iso(row.pop("open_time_ms"))}
        lines.append(json.dumps(opened | row))
    return "".join(f"{line}\n" for line in lines)
