"""Where the page of /metrics gets its facts: PostgreSQL, the request budget, and whoever else has readings."""

import importlib.metadata
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final, Self

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.errors import DatabaseUnavailable, DatasetsError, KlineError
from kline_pipeline.evidence import observed
from kline_pipeline.evidence.fetch_stats import EVERY_S, Counted, totals
from kline_pipeline.evidence.fetch_stats_files import collect
from kline_pipeline.metrics import BUILD, COOL_DOWN, DATABASE_UP, PACE_SHARE, Reading, Tally
from kline_pipeline.opening import paying
from kline_pipeline.service.exposition import page

logger: Final = logging.getLogger(__name__)
_END_S: Final = 3.0
Readings = Callable[[], Iterable[Reading]]


@dataclass(slots=True)
class MetricsPage:
    """The page of one KLINE_HOME, made anew when it is asked for.

    Attributes:
        settings: of the KLINE_HOME.
        database: gives the database; raises DatabaseUnavailable where it is away.
        tally: what this process counts, kept by this page and by nobody else.
        clock_ms: UTC.
        more: readings of others; what one cannot know it leaves out, or raises a KlineError.
        every_s: between two flushes of what this process counts.
    """

    settings: Settings
    database: Callable[[], Database]
    tally: Tally
    clock_ms: Callable[[], int]
    more: Sequence[Readings] = ()
    every_s: float = EVERY_S
    _counted: Counted = field(init=False)
    _ends: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._counted = Counted(self.tally)

    def render(self) -> bytes:
        """Return the page; without a database that answers it has no counters, and says so."""
        readings = [Reading(BUILD, 1, (("version", importlib.metadata.version("kline-pipeline")),))]
        for source in self.more:
            with suppress(KlineError):
                readings += source()
        counted = None
        try:
            counted, stored = self._stored()
            readings += stored
        except DatabaseUnavailable:
            readings.append(Reading(DATABASE_UP, 0))
        except KlineError as exc:  # it answers, but has no tables of ours
            logger.warning("the database has no metrics", extra={"reason": str(exc)})
        return page(counted, readings)

    def _stored(self) -> tuple[dict[str, float], list[Reading]]:
        database = self.database()
        declared: Sequence[datasets.Dataset] = ()
        with suppress(DatasetsError):  # freshness is left out; everything else does not depend on it
            declared = datasets.load(self.settings.datasets_file)
        collect(database, self.settings.home)
        found = [Reading(DATABASE_UP, 1), *observed.pool_readings(database)]
        with database.translate_errors():
            # What the page shows must stand a kill of this process, or a counter would fall.
            self._counted.flush(database)
            with database.engine.begin() as connection:
                counted = totals(connection)
                found += observed.readings(connection, declared, now_ms=self.clock_ms())
        with suppress(KlineError), paying(self.settings, database) as budget:
            standing = budget.standing()
            found += [Reading(COOL_DOWN, standing.cool_down_s), Reading(PACE_SHARE, standing.share)]
        return counted, found

    def __enter__(self) -> Self:
        """Begin to keep what this process counts, whether anybody asks for the page or not."""
        Thread(target=self._go_on, name="counts", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Keep the last counts; nothing is kept where the database does not answer, or hangs."""
        self._ends.set()
        ending = Thread(target=self._keep, args=(self._counted.end,), name="last counts", daemon=True)
        ending.start()
        ending.join(_END_S)

    def _go_on(self) -> None:
        while not self._ends.wait(self.every_s):
            self._keep(self._counted.flush)

    def _keep(self, how: Callable[[Database], None]) -> None:
        with suppress(KlineError):
            database = self.database()
            with database.translate_errors():
                how(database)
