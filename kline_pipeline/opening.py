"""Opening what the flow needs, and closing it again: where client, budget, database and pipeline meet.

Dagster's resource and the commands both come here; nothing here knows Dagster.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.ratelimit import Budget
from kline_pipeline.config import Settings, user_cache_folder
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.database.rate_budget import DatabaseBudget
from kline_pipeline.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Opened:
    """What the flow of one KLINE_HOME needs, open.

    Attributes:
        database: migrated.
        client: of the exchange, paying from the budget that all processes share.
        pipeline: over both.
    """

    database: Database
    client: BybitClient
    pipeline: Pipeline


@contextmanager
def opened(settings: Settings) -> Iterator[Opened]:
    """Open database, client and pipeline for the length of the block; the exchange is not asked.

    Raises:
        ConfigError: a URL is none.
        DatabaseUnavailable: no server answers.
        StorageError: the database cannot be started or migrated.
    """
    with (
        connect(settings) as database,
        paying(settings, database) as budget,
        BybitClient(settings.bybit, budget=budget) as client,
    ):
        yield Opened(database, client, Pipeline(settings, database=database, client=client))


@contextmanager
def paying(settings: Settings, database: Database | None) -> Iterator[Budget]:
    """Give `budget_of` for the length of the block, its connection closed at the end."""
    budget = budget_of(settings, database)
    try:
        yield budget
    finally:
        if isinstance(budget, DatabaseBudget):
            budget.close()


def budget_of(settings: Settings, database: Database | None) -> Budget:
    """Return the budget that pays for requests to the exchange of the settings.

    Args:
        settings: host and requests per second.
        database: an open one; None where a command needs none, such as `fetch`.

    Processes that share a KLINE_DATABASE_URL, on any host, share a row of it; all others of a user share a file, as
    embedded servers of two KLINE_HOMEs know nothing of each other.
    """
    host = urlsplit(settings.bybit.base_url).netloc.lower()
    if settings.database_url is not None and database is not None:
        return DatabaseBudget(database, host, settings.bybit.requests_per_second)
    path = user_cache_folder() / f"rate-{host.replace(':', '-')}.lock"
    return FileBudget(path, settings.bybit.requests_per_second)
