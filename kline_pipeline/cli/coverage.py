"""`kline-pipeline coverage`: what is stored of what is expected, per series and date, and as a heat map."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.cli.ranges import Selection
    from kline_pipeline.config import Settings
    from kline_pipeline.database.engine import Database


def coverage(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY...]", help="Series; default: all that have partitions.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the heat map as a page.")
    ] = None,
) -> None:
    """Show expected, present and missing candles per series and date, and a heat map by day; nothing is changed.

    Example: kline-pipeline coverage linear:BTCUSDT:1
    """
    import json

    from rich.console import Console

    from kline_pipeline.cli.heat_map import days_of, heat_map, html
    from kline_pipeline.cli.session import started
    from kline_pipeline.cli.summary import by_partition, lines_of, totals
    from kline_pipeline.database.engine import connect
    from kline_pipeline.files import Folder

    with started(ctx) as settings, connect(settings) as database:
        selections = _stored(settings, database, keys or [])
        lines = lines_of(database, None, selections)
        days = {
            str(one.dataset.series(symbol)): days_of(database, one, symbol)
            for one in selections
            for symbol in one.symbols
        }
    if html_file is not None:
        path = html_file.expanduser().absolute()
        Folder(str(path.parent)).replace(path.name, html(days).encode())
        typer.echo(f"heat map in {path}", err=True)
    if as_json:
        typer.echo(json.dumps({"partitions": [line.as_json() for line in lines], "totals": totals(lines)}))
    elif not lines:
        typer.echo("nothing is stored yet; begin with: kline-pipeline backfill linear:BTCUSDT:1 --from 2024-01-01")
    else:
        console = Console()
        console.print(by_partition(lines))
        console.print(heat_map(days))


def _stored(settings: "Settings", database: "Database", keys: list[str]) -> "list[Selection]":
    """Return one selection per series that the ledger knows, of those asked for."""
    from kline_pipeline import datasets
    from kline_pipeline.cli.ranges import Selection, grouped, parse_keys
    from kline_pipeline.evidence import coverage as ledger

    declared = datasets.load(settings.datasets_file)
    series = parse_keys(keys)
    asked = {(dataset.name, symbol) for dataset, symbols in grouped(series, declared) for symbol in symbols}
    found = []
    for dataset in declared:
        with database.translate_errors(), database.engine.begin() as connection:
            rows = ledger.rows(connection, dataset.category, dataset.interval.code)
        for symbol in dict.fromkeys(row.symbol for row in rows):
            if not series or (dataset.name, symbol) in asked:
                dates = tuple(row.date for row in rows if row.symbol == symbol)
                found.append(Selection(dataset, dates, (symbol,)))
    return found
