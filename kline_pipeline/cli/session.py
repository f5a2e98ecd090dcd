"""What every command begins with: settings, log lines, and the simulator where it was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from kline_pipeline.config import Settings


@contextmanager
def started(ctx: typer.Context) -> Iterator["Settings"]:
    """Give the settings of a command, exported to its children; with --simulate the simulator runs meanwhile.

    Raises:
        ConfigError: a variable has a value that cannot work.
        ExchangeUnavailable: the simulator does not start.
    """
    with started_as(simulated=bool(ctx.obj)) as settings:
        yield settings


@contextmanager
def started_as(*, simulated: bool) -> Iterator["Settings"]:
    """Do the same for a command that decides itself whether it is simulated."""
    from kline_pipeline import log
    from kline_pipeline.config import Settings
    from kline_pipeline.market.arrow import leave_pandas_alone

    leave_pandas_alone()
    settings = Settings.load(simulated=simulated)
    log.configure(settings.log_level, settings.log_format)
    if not simulated:
        settings.export()
        yield settings
        return
    from kline_pipeline.cli.simulator_child import running_simulator

    if settings.ignored_database_url:
        say("KLINE_DATABASE_URL is left alone: simulated candles have a database of their own")
    with running_simulator(settings.home) as url:
        settings = settings.with_base_url(url)
        settings.export()
        yield settings


def say(sentence: str) -> None:
    """Tell a person what the command does, on standard error: standard output holds results only."""
    typer.echo(sentence, err=True)


def debugging() -> bool:
    """Say whether KLINE_LOG_LEVEL asks for DEBUG; False when the settings cannot be read."""
    from kline_pipeline.config import Settings
    from kline_pipeline.errors import ConfigError

    try:
        return Settings.load().log_level == "DEBUG"
    except ConfigError:
        return False
