"""Which commands there are, and the options before them; each command is told in a module of its own."""

from collections.abc import Sequence
from typing import Annotated

import typer

from kline_pipeline.cli import (
    accept,
    backfill,
    cache,
    coverage,
    db,
    demo,
    deploy,
    doctor,
    fetch,
    latest,
    rebuild,
    repair,
    series,
    serve,
    simulate,
    up,
    verify,
)

app = typer.Typer(
    name="kline-pipeline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    ctx: typer.Context,
    *,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulate", help="Live in KLINE_HOME/simulated, with the bundled fake exchange and a database of its own."
        ),
    ] = False,
) -> None:
    """Bybit candles, complete and correct, into PostgreSQL and Parquet, through Dagster.

    Example: kline-pipeline demo
    """
    ctx.obj = simulated


app.command()(up.up)
app.command()(demo.demo)
app.add_typer(series.app, name="series")
app.command()(backfill.backfill)
app.command()(fetch.fetch)
app.command()(latest.latest)
app.command()(coverage.coverage)
app.command()(repair.repair)
app.command()(rebuild.rebuild)
app.command()(verify.verify)
app.command()(accept.accept)
app.command()(serve.serve)
app.command()(simulate.simulate)
app.add_typer(db.app, name="db")
app.add_typer(cache.app, name="cache")
app.add_typer(deploy.app, name="deploy")
app.command()(doctor.doctor)


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; bad usage is told here, every other error is raised."""
    try:
        app(args=list(arguments), prog_name="kline-pipeline")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(bool(exc.code))
    return 0
