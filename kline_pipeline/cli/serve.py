"""`kline-pipeline serve`: the ops service over one KLINE_HOME, in front, until Ctrl-C; its pages are in service/."""

import contextlib
import threading
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
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.defs.endings import endings_handled
    from kline_pipeline.service.server import OpsServer, bound, is_loopback

    # Noted, and heeded by the server from its start on. An exception out of a handler, while this thread loads modules
    # beside looks that load some too, can be lost, and the lock of loading with it: nothing would end the service.
    ending = threading.Event()
    noted = endings_handled(lambda *_: ending.set())
    with noted, started(ctx) as settings, bound(host, port) as taken:
        if settings.ops_token is None and not is_loopback(taken):
            say("whoever reaches this address may read the pages: set KLINE_OPS_TOKEN, or listen on 127.0.0.1")
        with _watching(settings) as (probes, metrics), metrics:
            from kline_pipeline.service.app import app_of

            app = app_of(settings, probes, metrics.render)
            server = OpsServer(
                app, taken, announce=lambda url: typer.echo(f"ops service: {url}/health"), ended=ending.is_set
            )
            server.run()


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
