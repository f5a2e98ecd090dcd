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
    from kline_pipeline.config import Settings
    from kline_pipeline.log.lines import configure
    from kline_pipeline.market.arrow import leave_pandas_alone

    leave_pandas_alone()
    settings = Settings.load(simulated=simulated)
    configure(settings)
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
    """Tell a person what the command does, on standard error: standard output holds results only.

    These sentences are plain text whatever KLINE_LOG_FORMAT says: a log line begins with a brace, and they do not.
    """
    from kline_pipeline.log.redaction import redaction

    typer.echo(redaction().text(sentence), err=True)


def trace(error: Exception) -> None:
    """Log where an error that ends the command came from, where KLINE_LOG_LEVEL is DEBUG; secrets are hidden after it.

    Nothing where the settings cannot be read.
    """
    import logging

    from kline_pipeline.config import Settings
    from kline_pipeline.errors import ConfigError
    from kline_pipeline.log.lines import configure, is_configured
    from kline_pipeline.log.redaction import protect

    try:
        settings = Settings.load()
        protect(settings.secrets())
        if not is_configured():
            configure(settings)
    except ConfigError:
        return
    logging.getLogger(__name__).debug("the command failed", exc_info=error)
