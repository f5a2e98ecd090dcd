"""`kline-pipeline serve`: the ops service over one KLINE_HOME, in front, until Ctrl-C; its pages are in service/."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kline_pipeline.config import Settings
    from kline_pipeline.service.metrics_page import MetricsPage
    from kline_pipeline.service.probes import Probes


def serve(
    ctx: typer.Context,
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve /health, /health/bybit, /health/live, /health/ready and /metrics; Ctrl-C ends it.

    It begins also while the database or the exchange is away, and says so. KLINE_OPS_TOKEN asks for a token.

    Example: kline-pipeline serve --port 8000
    """
    from kline_pipeline.cli.dagster_children import interruptible
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.service.server import OpsServer, bound, is_loopback

    with contextlib.suppress(KeyboardInterrupt), interruptible(), started(ctx) as settings, bound(host, port) as taken:
        if settings.ops_token is None and not is_loopback(taken):
            say("whoever reaches this address may read the pages: set KLINE_OPS_TOKEN, or listen on 127.0.0.1")
        with _watching(settings) as (probes, metrics), metrics:
            from kline_pipeline.service.app import app_of

            app = app_of(settings, probes, metrics.render)
            OpsServer(app, taken, announce=lambda url: typer.echo(f"ops service: {url}/health")).run()


@contextlib.contextmanager
def _watching(settings: "Settings") -> "Iterator[tuple[Probes, MetricsPage]]":
    """Have the probes looking, at what may be away, for the length of the block."""
    import time

    from kline_pipeline.database.late import LateDatabase
    from kline_pipeline.defs.instance.memory import DagsterMemory
    from kline_pipeline.service.exchange import Exchange
    from kline_pipeline.service.metrics_page import MetricsPage
    from kline_pipeline.service.watching import probe_series, probes_of

    series = probe_series(settings)
    database = LateDatabase(settings)
    exchange, dagster = Exchange(settings, database), DagsterMemory(database)
    try:
        with probes_of(settings, database, exchange, series=series, heartbeats=dagster) as probes:
            yield (
                probes,
                MetricsPage(
                    settings,
                    database.current,
                    database.tally,
                    lambda: time.time_ns() // 1_000_000,
                    (probes.readings, dagster.run_readings),
                ),
            )
    finally:
        exchange.close()
        database.close()
