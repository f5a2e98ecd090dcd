"""`kline-pipeline demo`: the main job on simulated candles, with nothing else installed and no network."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from kline_pipeline.cli.ranges import Selection
    from kline_pipeline.config import Settings
    from kline_pipeline.database.engine import Database

_KEYS = ("linear:BTCUSDT:1", "linear:ETHUSDT:1", "linear:BTCUSDT:60", "spot:BTCUSDT:15")


def demo(
    *, fresh: Annotated[bool, typer.Option("--fresh", help="Delete what the last demo stored, and only that.")] = False
) -> None:
    """Land two months of four simulated series in PostgreSQL and Parquet through Dagster, and show what there is.

    Everything is under KLINE_HOME/simulated; a second demo goes on where the first one stopped.

    Example: kline-pipeline demo
    """
    from kline_pipeline.cli.backfill import close
    from kline_pipeline.cli.ranged_runs import execute, prepare
    from kline_pipeline.cli.ranges import parse_keys
    from kline_pipeline.cli.session import say, started_as
    from kline_pipeline.cli.summary import lines_of
    from kline_pipeline.market.times import day_of
    from kline_pipeline.opening import opened

    if fresh:
        forget()
    with started_as(simulated=True) as settings:
        _own_datasets(settings)
        with opened(settings) as work:
            start = _previous_month(day_of(work.pipeline.now_ms()))
            say(f"two months of {', '.join(_KEYS)} from the simulated exchange {settings.bybit.base_url}")
            plan = prepare(settings, work, parse_keys(_KEYS), start.isoformat(), None, write=True)
            outcomes = execute(plan)
            lines = lines_of(work.database, work.pipeline, plan.selections)
            code = close(outcomes, lines, table=True)
            _show_days(work.database, plan.selections)
            _show_places(settings, work.database)
    raise typer.Exit(code)


def _show_days(database: "Database", selections: "tuple[Selection, ...]") -> None:
    from rich.console import Console

    from kline_pipeline.cli.heat_map import days_of, heat_map

    Console().print(
        heat_map(
            {
                str(one.dataset.series(symbol)): days_of(database, one, symbol)
                for one in selections
                for symbol in one.symbols
            }
        )
    )


def _show_places(settings: "Settings", database: "Database") -> None:
    typer.echo(f"""
KLINE_HOME  {settings.home}
database    {database.where}
            {database.psql_url}
            table kline.candles, view kline.klines; the password is in {settings.home / "postgres.password"}
snapshots   {settings.snapshot_url}
Dagster UI  kline-pipeline --simulate up, then http://127.0.0.1:3000

Next:
  kline-pipeline --simulate up
  kline-pipeline --simulate coverage linear:BTCUSDT:1
  kline-pipeline backfill linear:BTCUSDT:60 --from 2024-01-01 --to 2024-01-31    (the real Bybit)""")


def forget() -> None:
    """Delete KLINE_HOME/simulated, its server and simulator stopped first.

    Raises:
        StorageError: another command uses the server.
    """
    import shutil

    from kline_pipeline.cli.session import say
    from kline_pipeline.cli.simulator_child import stop_simulator
    from kline_pipeline.config import Settings
    from kline_pipeline.database.embedded import EmbeddedServer

    home = Settings.load(simulated=True).home
    if not home.exists():
        return
    EmbeddedServer(home).destroy()
    stop_simulator(home)
    shutil.rmtree(home)
    say(f"{home} is deleted")


def _own_datasets(settings: "Settings") -> None:
    """Let the demo use the packaged datasets in its own folder, whatever KLINE_DATASETS_FILE says."""
    from importlib.resources import files

    path: Path = settings.home / "datasets.toml"
    if not path.exists():
        path.write_text((files("kline_pipeline") / "datasets.toml").read_text())
    settings.datasets_file = path
    settings.export()


def _previous_month(today: "date") -> "date":
    from datetime import timedelta

    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)
