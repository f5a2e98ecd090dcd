"""Which checks `kline-pipeline doctor` makes, in which order; what each looks at is told in the modules beside this.

A check only looks. One that fails does not keep the next from looking, unless that needs what failed.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from kline_pipeline.cli.checkup import machine
from kline_pipeline.cli.checkup.database import DatabaseLooks
from kline_pipeline.cli.checkup.exchange import ExchangeLooks
from kline_pipeline.cli.checkup.finding import Finding, Seen, found
from kline_pipeline.cli.checkup.stores import StoreLooks
from kline_pipeline.config import Settings
from kline_pipeline.errors import KlineError

CHECKS: Final = (
    "settings", "variables", "datasets", "disk", "database", "Dagster", "request budget", "exchange", "clock",
    "API key", "work", "snapshots", "cache", "venue", "alerts",
)  # fmt: skip


def examine(settings: Settings, *, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> list[Finding]:
    """Return the findings of all checks, in the order of their making.

    Args:
        settings: of the KLINE_HOME that is looked at.
        clock_ms: the clock of this machine, UTC milliseconds.
    """
    with ExitStack() as stack:
        database = DatabaseLooks(settings, stack)
        exchange = ExchangeLooks(settings, stack, database, clock_ms)
        stores = StoreLooks(settings, database, exchange)
        looks: tuple[Callable[[], Seen], ...] = (
            exchange.settings,
            machine.variables_seen,
            lambda: machine.datasets_seen(settings, clock_ms()),
            lambda: machine.disk_seen(settings.home),
            database.ours,
            lambda: database.dagster(clock_ms()),
            exchange.budget,
            exchange.exchange,
            exchange.clock,
            exchange.key,
            lambda: stores.folder("KLINE_WORK_URL", settings.work_url),
            lambda: stores.folder("KLINE_SNAPSHOT_URL", settings.snapshot_url),
            stores.cache,
            stores.venue,
            lambda: machine.alerts_seen(settings),
        )
        return [found(check, look) for check, look in zip(CHECKS, looks, strict=True)]


def without_settings(error: KlineError) -> list[Finding]:
    """Return the findings where there are no settings to look with; names that are wrong may be why."""
    return [
        Finding(CHECKS[0], "FAIL", str(error)),
        found(CHECKS[1], machine.variables_seen),
        *(Finding(check, "warn", "not looked at: there are no settings yet") for check in CHECKS[2:]),
    ]
