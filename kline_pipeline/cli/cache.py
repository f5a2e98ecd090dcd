"""`kline-pipeline cache`: what the cache of pages holds, and emptying it; the exchange is not asked.

The cache itself is bybit/cache; `fetch` and `latest` fill it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.bybit.cache.stores import Store
    from kline_pipeline.bybit.cache.upkeep import CacheStats
    from kline_pipeline.config import Settings

app = typer.Typer(no_args_is_help=True, help="What the cache of `fetch` and `latest` holds, and emptying it.")

_NONE = "there is no cache: BYBIT_CACHE_URL is none"


@app.command()
def stats(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Say what the cache holds and how often it helped; hits and misses are those of all ended commands.

    Example: kline-pipeline cache stats
    """
    import json
    from dataclasses import asdict

    from kline_pipeline.bybit.cache.upkeep import stats_of
    from kline_pipeline.config import Settings

    settings = Settings.load(simulated=bool(ctx.obj))
    with _opened(settings) as store:
        found = stats_of(store) if store else None
    if as_json:
        typer.echo(json.dumps(asdict(found) if found else None))
    elif found is None:
        typer.echo(_NONE)
    else:
        typer.echo(_told(found, settings.bybit.cache_max_mb))


@app.command()
def clear(
    ctx: typer.Context,
    pattern: Annotated[str, typer.Argument(help="Series category:symbol:interval, with * for any.")] = "*",
) -> None:
    """Remove the cached pages of the series, and what is kept about their symbols; all without a pattern.

    Example: kline-pipeline cache clear 'linear:BTC*:*'
    """
    from kline_pipeline.bybit.cache.upkeep import clear_store
    from kline_pipeline.config import Settings

    with _opened(Settings.load(simulated=bool(ctx.obj))) as store:
        if store is None:
            typer.echo(_NONE)
            return
        removed = clear_store(store, pattern)
        typer.echo(f"{removed} {'entry' if removed == 1 else 'entries'} removed from {store.location}")


@contextmanager
def _opened(settings: "Settings") -> Iterator["Store | None"]:
    from kline_pipeline.bybit.cache.upkeep import open_store

    if settings.cache_url is None:
        yield None
        return
    store = open_store(settings.cache_url.get_secret_value(), ttl_days=settings.bybit.cache_ttl_days, clock_ms=_now_ms)
    try:
        yield store
    finally:
        store.close()


def _now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000


def _told(stats: "CacheStats", max_mb: float) -> str:
    from kline_pipeline.market.window import iso

    asked = stats.hits + stats.misses
    share = f" ({stats.hits / asked:.0%})" if asked else ""
    lines = {
        "cache": stats.location,
        "exchange": stats.venue or "none yet",
        "entries": f"{stats.entries:,} in {stats.size_bytes / 1e6:,.1f} MB of at most {max_mb:,.0f} MB",
        "written": "never",
        "hits": f"{stats.hits:,} of {asked:,} pages asked for{share}",
    }
    if stats.oldest_ms is not None and stats.newest_ms is not None:
        lines["written"] = f"{iso(stats.oldest_ms)} to {iso(stats.newest_ms)}"
    return "\n".join(f"{name:<10}{text}" for name, text in lines.items())
