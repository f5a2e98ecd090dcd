"""Care for a store of the cache as a whole: opening it, what it holds, what is cleared, how large it may be.

None of this needs to know the exchange; single entries are the matter of cache.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from kline_pipeline.bybit.cache.entries import series_keys
from kline_pipeline.bybit.cache.stores import FileStore, Store, Stored
from kline_pipeline.errors import ConfigError
from kline_pipeline.market.interval import DAY_MS

_RECOUNT_SHARE: Final = 1 / 32  # of the bound, written by this process: others write too, so all is counted again
_TRIM_SHARE: Final = 15 / 16  # of the bound is left by a trim, so that not every write needs one


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache holds and how often it helped.

    Attributes:
        location: of the store, without a password.
        venue: exchange of the entries; None before the first write.
        entries: pages and notes.
        size_bytes: as stored.
        oldest_ms, newest_ms: when the first and the last of them was written, UTC; None without entries.
        hits, misses: pages asked for by all processes, as far as they have told it: at their end.
    """

    location: str
    venue: str | None
    entries: int
    size_bytes: int
    oldest_ms: int | None
    newest_ms: int | None
    hits: int
    misses: int


def open_store(url: str, *, ttl_days: float, clock_ms: Callable[[], int]) -> Store:
    """Return the store of a URL without asking it anything, for what needs no exchange: `stats_of`, `clear_store`.

    Raises:
        ConfigError: the URL is neither file: nor redis: nor rediss:.
    """
    folder = url.removeprefix("file:")
    if folder != url and Path(folder).is_absolute():
        return FileStore(Path(folder), clock_ms)
    if url.startswith(("redis://", "rediss://")):
        from kline_pipeline.bybit.cache.redis_store import RedisStore  # noqa: PLC0415 - 150 ms that a folder need not pay

        return RedisStore(url, round(ttl_days * DAY_MS))
    raise ConfigError("BYBIT_CACHE_URL must be file:FOLDER, redis://HOST:PORT/N or none")


def stats_of(store: Store) -> CacheStats:
    """Return what a store holds, of whatever exchange.

    Raises:
        StorageError: the store cannot be read.
    """
    stored = store.entries()
    hits, misses = store.counts()
    return CacheStats(
        location=store.location,
        venue=store.owner(),
        entries=len(stored),
        size_bytes=sum(entry.size_bytes for entry in stored),
        oldest_ms=min((entry.written_ms for entry in stored), default=None),
        newest_ms=max((entry.written_ms for entry in stored), default=None),
        hits=hits,
        misses=misses,
    )


def clear_store(store: Store, pattern: str) -> int:
    """Remove the entries of matching series, and the notes of their symbols; an empty store forgets its exchange.

    Args:
        store: of whatever exchange.
        pattern: as of a shell (fnmatch), over category:symbol:interval.

    Returns:
        Entries removed.

    Raises:
        StorageError: the store cannot be read or written.
    """
    stored = store.entries()
    matching = [entry.name for entry in stored if any(fnmatchcase(key, pattern) for key in series_keys(entry.name))]
    removed = store.remove(matching)
    if len(matching) == len(stored):
        store.disown()
    return removed


class SizeBound:
    """Removes what was written longest ago when a store becomes too large.

    Each process counts what it writes, and all entries at its first write and now and then: N processes together may
    exceed the bound by N - 1 times 1/32 of it for a while.

    Args:
        store: the store.
        max_bytes: size of all entries together.
        ttl_ms: older entries go whatever the size.
    """

    def __init__(self, store: Store, max_bytes: int, ttl_ms: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._ttl_ms = ttl_ms
        self._lock = threading.Lock()
        self._counted_bytes: int | None = None
        self._since_bytes = 0

    def written(self, size_bytes: int, now_ms: int) -> None:
        """Take note of a write, and trim the store where it is time.

        Raises:
            StorageError: the store cannot be read or written.
        """
        with self._lock:
            self._since_bytes += size_bytes
            known = self._counted_bytes is not None and self._since_bytes <= self._max_bytes * _RECOUNT_SHARE
            if known and (self._counted_bytes or 0) + self._since_bytes <= self._max_bytes:
                return
            self._counted_bytes = self._trim(now_ms)
            self._since_bytes = 0

    def _trim(self, now_ms: int) -> int:
        gone: list[Stored] = []
        kept: list[Stored] = []
        for entry in sorted(self._store.entries()):
            (kept if abs(now_ms - entry.written_ms) < self._ttl_ms else gone).append(entry)
        left_bytes = sum(entry.size_bytes for entry in kept)
        enough_bytes = self._max_bytes * _TRIM_SHARE if left_bytes > self._max_bytes else left_bytes
        for entry in kept:
            if left_bytes <= enough_bytes:
                break
            gone.append(entry)
            left_bytes -= entry.size_bytes
        self._store.remove(entry.name for entry in gone)
        return left_bytes
