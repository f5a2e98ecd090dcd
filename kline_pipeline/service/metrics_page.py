"""Where the page of /metrics gets its facts: PostgreSQL, the request budget, and whoever else has readings."""

import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.errors import KlineError
from kline_pipeline.evidence import observed
from kline_pipeline.evidence.fetch_stats import Counted, totals
from kline_pipeline.evidence.fetch_stats_files import collect
from kline_pipeline.metrics import BUILD, COOL_DOWN, DATABASE_UP, PACE_SHARE, Reading
from kline_pipeline.opening import paying
from kline_pipeline.service.exposition import page

Readings = Callable[[], Iterable[Reading]]


@dataclass(slots=True)
class MetricsPage:
    """The page of one KLINE_HOME, made anew when it is asked for.

    Attributes:
        settings: of the KLINE_HOME.
        database: gives the database, migrated, always the same one; raises a KlineError where there is none.
        clock_ms: UTC.
        more: readings of others, which raise nothing.
    """

    settings: Settings
    database: Callable[[], Database]
    clock_ms: Callable[[], int]
    more: Sequence[Readings] = ()
    _counted: Counted | None = field(default=None)

    def render(self) -> bytes:
        """Return the page; without a database that answers it has no counters, and says so."""
        readings = [one for source in self.more for one in source()]
        readings.append(Reading(BUILD, 1, (("version", importlib.metadata.version("kline-pipeline")),)))
        counted = None
        try:
            counted, stored = self._stored()
            readings += stored
        except KlineError:
            readings = [one for one in readings if one.metric is not DATABASE_UP]
            readings.append(Reading(DATABASE_UP, 0))
        return page(counted, readings)

    def _stored(self) -> tuple[dict[str, float], list[Reading]]:
        database = self.database()
        declared = datasets.load(self.settings.datasets_file)
        collect(database, self.settings.home)
        if self._counted is None:
            self._counted = Counted(database)
        found = [Reading(DATABASE_UP, 1), *observed.pool_readings(database)]
        with database.translate_errors():
            # What the page shows must stand a kill of this process, or a counter would fall.
            self._counted.flush()
            with database.engine.begin() as connection:
                counted = totals(connection)
                found += observed.readings(connection, declared, now_ms=self.clock_ms())
        with suppress(KlineError), paying(self.settings, database) as budget:
            standing = budget.standing()
            found += [Reading(COOL_DOWN, standing.cool_down_s), Reading(PACE_SHARE, standing.share)]
        return counted, found

    def end(self) -> None:
        """Keep the last counts of this process; nothing is kept where the database does not answer."""
        if self._counted is not None:
            with suppress(KlineError), self.database().translate_errors():
                self._counted.end()
