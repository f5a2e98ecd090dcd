"""Which probes a service has, how often each looks, and when a look counts as hanging."""

from collections.abc import Sequence
from typing import Final, Protocol

from kline_pipeline.config import Settings
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.errors import ConfigError, UnknownSeries
from kline_pipeline.market.series import Series
from kline_pipeline.service.exchange import Exchange
from kline_pipeline.service.exchange_looks import EXCHANGE_DOWN, series_look, time_look
from kline_pipeline.service.looks import (
    DATABASE_DOWN,
    STORAGE_DOWN,
    daemon_look,
    database_look,
    disk_look,
    storage_look,
)
from kline_pipeline.service.probes import Probe, Probes

_MOST_SERIES: Final = 10


class Heartbeats(Protocol):
    """The heartbeats of Dagster's daemon, which nothing here knows."""

    def age_s(self) -> float | None:
        """Return how old the newest one is, seconds; None where there never was one.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """

    def give_up(self) -> None:
        """Break off a question that hangs, from another thread."""


def probe_series(settings: Settings) -> list[Series]:
    """Return the series of KLINE_PROBE_SERIES.

    Raises:
        ConfigError: more than 10, or a key is none.
    """
    try:
        found = list(dict.fromkeys(Series.parse(key) for key in settings.probe_series))
    except UnknownSeries as exc:
        raise ConfigError(f"KLINE_PROBE_SERIES: {exc}") from exc
    if len(found) > _MOST_SERIES:
        raise ConfigError(f"KLINE_PROBE_SERIES names {len(found)} series; name at most {_MOST_SERIES}")
    return found


def probes_of(
    settings: Settings,
    database: LateDatabase,
    exchange: Exchange,
    *,
    series: Sequence[Series],
    heartbeats: Heartbeats,
) -> Probes:
    """Return the probes of a service; none looks yet.

    Args:
        settings: of the KLINE_HOME that is served.
        database, exchange: what is looked at.
        series: whose newest candles are asked for.
        heartbeats: of Dagster's daemon.
    """
    clock_s = exchange.clock_s
    # A request takes at most 4 s, after at most 2 s for its turn.
    parts = [
        Probe(
            "database", database_look(database), period_s=5, deadline_s=6, give_up=database.give_up,
            unknown=DATABASE_DOWN, clock_s=clock_s,
        ),
        Probe(
            "exchange", time_look(exchange), period_s=5, deadline_s=8, unknown=EXCHANGE_DOWN, clock_s=clock_s
        ),
        Probe(
            "snapshot_storage", storage_look(settings.snapshot_url), period_s=30, deadline_s=20,
            unknown=STORAGE_DOWN, clock_s=clock_s,
        ),
        Probe("disk", disk_look(settings.home), period_s=10, deadline_s=5, clock_s=clock_s),
        Probe(
            "daemon", daemon_look(heartbeats.age_s), period_s=10, deadline_s=10, give_up=heartbeats.give_up,
            clock_s=clock_s,
        ),
    ]  # fmt: skip
    asked = [Probe(str(one), series_look(exchange, one), period_s=10, deadline_s=8, clock_s=clock_s) for one in series]
    return Probes(parts, asked)
