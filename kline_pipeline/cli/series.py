"""`kline-pipeline series`: which series the datasets have; candles are fetched by backfill."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Add, list and remove the series of the datasets.")

Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="category:symbol:interval, e.g. linear:BTCUSDT:1")]


@app.command()
def add(ctx: typer.Context, keys: Keys) -> None:
    """Find the listing of series and write them into datasets.toml, declaring their dataset where there is none.

    Example: kline-pipeline series add linear:SOLUSDT:1
    """
    from kline_pipeline import datasets
    from kline_pipeline.cli.known_series import declare, learn
    from kline_pipeline.cli.ranges import parse_keys
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.defs.instance.storage import open_instance
    from kline_pipeline.defs.symbols import add_symbol
    from kline_pipeline.market.window import iso
    from kline_pipeline.opening import opened

    series = parse_keys(keys)
    with started(ctx) as settings, opened(settings) as work:
        datasets.load(settings.datasets_file)
        listings = learn(settings, work, series)
        anew, added = declare(settings, series)
        by_name = {dataset.name: dataset for dataset in datasets.load(anew.datasets_file)}
        with open_instance(anew) as instance:
            for one in series:
                add_symbol(instance, by_name[f"{one.category}_{one.interval.code}"], one.symbol)
        for one in series:
            first = iso(listings[one.category, one.symbol].first_ms)
            typer.echo(f"{one} {'added' if one in added else 'was there already'}; its first candle is {first}")
        say(f"datasets: {anew.datasets_file}")


@app.command(name="list")
def list_(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show the series of all datasets, one key a line; delisted ones are named on standard error too.

    Example: kline-pipeline series list
    """
    import json

    from kline_pipeline import datasets
    from kline_pipeline.cli.listed_series import all_series, declared_series
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.errors import StorageError

    with started(ctx) as settings:
        declared = datasets.load(settings.datasets_file)
        try:
            found = all_series(settings, declared)
        except StorageError as exc:
            say(f"only what datasets.toml names: {exc}")
            found = declared_series(declared)
        if as_json:
            typer.echo(json.dumps({"series": [one.as_json() for one in found]}))
            return
        for one in found:
            typer.echo(str(one.series))
        for one in found:
            if one.delisted:
                say(f"{one.series} is delisted: its candles stay, and no more will come")
        say(f"datasets: {settings.datasets_file or 'the packaged default'}")


@app.command()
def remove(ctx: typer.Context, keys: Keys) -> None:
    """Take series out of datasets.toml and keep them from being followed; stored candles stay.

    Example: kline-pipeline series remove linear:SOLUSDT:1
    """
    from kline_pipeline import datasets
    from kline_pipeline.cli.known_series import reloaded
    from kline_pipeline.cli.ranges import grouped, parse_keys
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.datasets_file import remove_symbol as exclude
    from kline_pipeline.defs.instance.storage import open_instance
    from kline_pipeline.defs.symbols import remove_symbol

    series = parse_keys(keys)
    with started(ctx) as settings:
        groups = grouped(series, datasets.load(settings.datasets_file))
        for one in series:
            exclude(settings, one)
        anew = reloaded(settings)
        with open_instance(anew) as instance:
            for dataset, symbols in groups:
                for symbol in symbols:
                    remove_symbol(instance, dataset, symbol)
        for one in series:
            typer.echo(f"{one} removed; its candles stay")
        say(f"datasets: {anew.datasets_file}")
