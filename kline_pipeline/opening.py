"""Opening what the flow, or a fetch without one, needs, and closing it again: where budget, client and stores meet.

Dagster's resource, the commands and the notebook come here; nothing here knows Dagster.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from kline_pipeline.bybit.cache.page_cache import PageCache, open_cache
from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.hosts import budget_name
from kline_pipeline.bybit.ratelimit import Budget
from kline_pipeline.config import Settings, user_cache_folder
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.database.rate_budget import DatabaseBudget
from kline_pipeline.direct.source import Source
from kline_pipeline.evidence.fetch_stats import kept
from kline_pipeline.evidence.fetch_stats_files import collect, kept_in_files
from kline_pipeline.metrics import Tally
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
        kept(database),
        paying(settings, database) as budget,
        BybitClient(settings.bybit, budget=budget, tally=database.tally) as client,
    ):
        collect(database, settings.home)
        yield Opened(database, client, Pipeline(settings, database=database, client=client))


@contextmanager
def direct(settings: Settings, *, refetch: bool = False) -> Iterator[Source]:
    """Open what a fetch without a database needs, for the length of the block.

    Args:
        settings: of the exchange and of the cache; KLINE_DATABASE_URL is opened for its request budget alone.
        refetch: what the cache holds is not read, and replaced.

    Raises:
        ConfigError: a URL is none.
        ExchangeError: the exchange does not say which one it is, which the cache must know.
        DatabaseUnavailable: KLINE_DATABASE_URL is set and does not answer.
        VenueMismatch: the cache belongs to another exchange.
    """
    with ExitStack() as stack:
        database = stack.enter_context(connect(settings)) if settings.database_url is not None else None
        tally = Tally() if database is None else database.tally
        stack.enter_context(kept_in_files(settings.home, tally) if database is None else kept(database))
        budget = stack.enter_context(paying(settings, database))
        client = stack.enter_context(BybitClient(settings.bybit, budget=budget, tally=tally))
        cache = _cache(settings, client) if settings.cache_url is not None else None
        if cache is not None:
            stack.enter_context(cache)
        yield Source(
            client,
            cache,
            grace_ms=round(settings.bybit.close_grace_s * 1000),
            concurrency=settings.bybit.concurrency,
            refetch=refetch,
            tally=tally,
        )


def _cache(settings: Settings, client: BybitClient) -> PageCache | None:
    return open_cache(
        settings.cache_url.get_secret_value() if settings.cache_url else None,
        venue=client.venue(),
        ttl_days=settings.bybit.cache_ttl_days,
        max_mb=settings.bybit.cache_max_mb,
        clock_ms=lambda: time.time_ns() // 1_000_000,
    )


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
    name = budget_name(settings.bybit.base_url)
    if settings.database_url is not None and database is not None:
        return DatabaseBudget(database, name, settings.bybit.requests_per_second)
    path = user_cache_folder() / f"rate-{name.replace(':', '-')}.lock"
    return FileBudget(path, settings.bybit.requests_per_second)
