"""`kline-pipeline up`: Dagster's UI and daemon and the ops service over one KLINE_HOME, in front, until Ctrl-C."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kline_pipeline.config import Settings


def up(
    ctx: typer.Context,
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI on 127.0.0.1.")] = 3000,
    ops_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the ops service on 127.0.0.1; 0 leaves it out.")
    ] = 8000,
) -> None:
    """Run the database if it is the embedded one, migrate it, and Dagster's UI and daemon and the ops service.

    Ctrl-C stops all.

    Example: kline-pipeline up --port 3000
    """
    from kline_pipeline.cli.dagster_children import check_port, dagster_children
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.cli.ui_address import only_up
    from kline_pipeline.defs.endings import endings_handled, interrupt
    from kline_pipeline.errors import UsageError

    url = f"http://127.0.0.1:{port}"
    with endings_handled(interrupt), started(ctx) as settings, only_up(settings.home, settings.ui_url or url):
        if port == ops_port:
            raise UsageError(f"--port and --ops-port are both {port}; give the ops service another one, or 0 for none")
        check_port(port)
        if ops_port:
            check_port(ops_port, "--ops-port")
        with _ready(settings), dagster_children(settings, port, ops_port) as children:
            if children.ops_url is not None:
                typer.echo(f"ops service: {children.ops_url}/health")
            typer.echo(f"Dagster UI: {children.url}")
            typer.echo(f"KLINE_HOME: {settings.home}; logs in {settings.home / 'dagster'}")
            typer.echo("Ctrl-C stops all.")
            try:
                children.watch()
            except KeyboardInterrupt:
                say("stopping")


@contextlib.contextmanager
def _ready(settings: "Settings") -> "Iterator[None]":
    """Have the database migrated and running, what was left behind closed, and every symbol known to Dagster."""
    from kline_pipeline import datasets
    from kline_pipeline.cli.session import say
    from kline_pipeline.database.engine import connect
    from kline_pipeline.defs.instance.orphans import close_orphans
    from kline_pipeline.defs.instance.storage import open_instance
    from kline_pipeline.defs.symbols import sync_symbols

    declared = datasets.load(settings.datasets_file)
    with connect(settings) as database:
        with open_instance(settings) as instance:
            for run_id in close_orphans(settings, instance, database):
                say(f"run {run_id[:8]} was left behind by a process that is gone; it is closed")
            for dataset in declared:
                sync_symbols(instance, dataset)
        yield
