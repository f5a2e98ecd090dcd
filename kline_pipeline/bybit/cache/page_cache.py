"""The cache of pages that can change no more, for `fetch` and `latest`; the pipeline never reads evidence from here.

It never makes a fetch fail: where the store fails, a page is a miss and one line says so. Which pages are immutable is
decided by the caller; how entries look is told in entries, where they lie in stores and redis_store.
"""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from kline_pipeline.bybit.cache.entries import (
    Entry,
    note_name,
    pack,
    pack_page,
    page_name,
    unpack,
    unpack_page,
)
from kline_pipeline.bybit.cache.stores import Store
from kline_pipeline.bybit.cache.upkeep import CacheStats, SizeBound, clear_store, open_store, stats_of
from kline_pipeline.bybit.pages import Page
from kline_pipeline.errors import CorruptFile, StorageError, VenueMismatch
from kline_pipeline.log.about import about, elapsed_ms, now_ns
from kline_pipeline.market.interval import DAY_MS
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window

logger = logging.getLogger(__name__)

_REST_MS: Final = 60_000  # a store that failed is left alone this long: a dead one costs a time-out per page
T = TypeVar("T")


class PageCache:
    """Pages of one exchange; a context manager, for any number of threads.

    Attributes:
        hits, misses: pages asked of this object.

    Args:
        store: open; closed with the cache.
        venue: the exchange.
        ttl_ms: an entry is forgotten this long after it was written.
        max_bytes: the entries written longest ago go when they are more together.
        clock_ms: UTC milliseconds.

    Raises:
        VenueMismatch: the store belongs to another exchange.
    """

    def __init__(self, store: Store, *, venue: str, ttl_ms: int, max_bytes: int, clock_ms: Callable[[], int]) -> None:
        self.hits = 0
        self.misses = 0
        self._store = store
        self._venue = venue
        self._ttl_ms = ttl_ms
        self._clock_ms = clock_ms
        self._bound = SizeBound(store, max_bytes, ttl_ms)
        self._lock = threading.Lock()
        self._told = (0, 0)  # hits and misses that are in the store
        self._claimed = False
        self._reads_from_ms = 0
        self._writes_from_ms = 0
        try:
            self._refuse_another(store.owner())
        except StorageError as exc:
            if isinstance(exc, VenueMismatch):
                raise
            self._rest(exc, reads=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def page(self, series: Series, window: Window) -> Page | None:
        """Return the page of exactly this window, the rows as they were served; it counts as a hit or a miss.

        None means that there is none, that it is too old or corrupt (then it is dropped), or that the store fails.
        """
        began_ns = now_ns()
        with about(series=series, window=window):
            found = self._read(page_name(self._venue, series, window), lambda entry: unpack_page(entry, series, window))
            if logger.isEnabledFor(logging.DEBUG):
                outcome = "miss" if found is None else "hit"
                logger.debug("the cache was asked", extra={"outcome": outcome, "elapsed_ms": elapsed_ms(began_ns)})
        with self._lock:
            self.hits += found is not None
            self.misses += found is None
        return found

    def keep(self, page: Page) -> None:
        """Store a page; the caller has decided that it is immutable. A store that fails is told in one log line.

        Raises:
            VenueMismatch: the store was claimed for another exchange since it was opened.
        """
        name = page_name(self._venue, page.series, page.window)
        with about(series=page.series, window=page.window):
            self._write(name, lambda now_ms: pack_page(name, page, written_ms=now_ms))

    def note(self, key: str) -> bytes | None:
        """Return a small other thing such as lives/linear/BTCUSDT, None as for a page; no hit and no miss.

        Raises:
            ValueError: the key is no relative path of plain characters.
        """
        return self._read(note_name(self._venue, key), lambda entry: bytes(entry.body))

    def keep_note(self, key: str, content: bytes) -> None:
        """Store a note, for as long as a page.

        Raises:
            ValueError: the key is no relative path of plain characters.
            VenueMismatch: as for a page.
        """
        name = note_name(self._venue, key)
        self._write(name, lambda now_ms: pack(name, content, written_ms=now_ms, facts={}))

    def stats(self) -> CacheStats:
        """Return what the store holds; hits and misses are those of all processes, ours included.

        Raises:
            StorageError: the store cannot be read.
        """
        self._tell_counts()
        return stats_of(self._store)

    def clear(self, pattern: str = "*") -> int:
        """Remove the entries of series whose key category:symbol:interval matches, and the notes of their symbols.

        Args:
            pattern: as of a shell (fnmatch), such as linear:BTC*:*.

        Returns:
            Entries removed.

        Raises:
            StorageError: the store cannot be read or written.
        """
        self._claimed = False
        return clear_store(self._store, pattern)

    def close(self) -> None:
        """Add hits and misses to those in the store and give back its connections; twice is once."""
        if self._told != (self.hits, self.misses) and self._clock_ms() >= self._writes_from_ms:
            try:
                self._tell_counts()
            except StorageError as exc:
                self._rest(exc, reads=False)
        self._store.close()

    def _read(self, name: str, read: Callable[[Entry], T]) -> T | None:
        now_ms = self._clock_ms()
        if now_ms < self._reads_from_ms:
            return None
        try:
            content = self._store.read(name)
            if content is None:
                return None
            try:
                entry = unpack(name, content)
                if abs(now_ms - entry.written_ms) < self._ttl_ms:  # a clock that was wrong keeps nothing for ever
                    return read(entry)
            except CorruptFile as exc:
                logger.warning("cached entry is dropped", extra={"location": self._store.location, "error": str(exc)})
            self._store.remove([name])
        except StorageError as exc:
            self._rest(exc, reads=True)
        return None

    def _write(self, name: str, pack_at: Callable[[int], bytes]) -> None:
        now_ms = self._clock_ms()
        if now_ms < self._writes_from_ms:
            return
        content = pack_at(now_ms)
        try:
            if not self._claimed:
                self._refuse_another(self._store.claim(self._venue))
                self._claimed = True
            self._store.write(name, content, now_ms)
            self._bound.written(len(content), now_ms)
        except VenueMismatch:
            raise
        except StorageError as exc:
            self._rest(exc, reads=False)

    def _refuse_another(self, owner: str | None) -> None:
        if owner not in {None, self._venue}:
            raise VenueMismatch(
                f"the cache {self._store.location} holds candles of {owner} and the exchange is {self._venue}; "
                "empty it with `kline-pipeline cache clear`, use another BYBIT_CACHE_URL, "
                "or point BYBIT_BASE_URL at the exchange it belongs to"
            )

    def _rest(self, error: StorageError, *, reads: bool) -> None:
        """Leave the store alone for a while; a failing write, such as on a full disk, leaves reading on."""
        now_ms = self._clock_ms()
        with self._lock:
            told = now_ms < (self._reads_from_ms if reads else self._writes_from_ms)
            self._writes_from_ms = now_ms + _REST_MS
            if reads:
                self._reads_from_ms = now_ms + _REST_MS
        if not told:
            fields = {"location": self._store.location, "error": str(error), "rest_s": _REST_MS // 1000}
            logger.warning("the cache fails and is left alone for a while", extra=fields)

    def _tell_counts(self) -> None:
        with self._lock:
            new = (self.hits - self._told[0], self.misses - self._told[1])
            self._told = (self.hits, self.misses)
        if any(new):
            self._store.count(*new)


def open_cache(
    url: str | None, *, venue: str, ttl_days: float, max_mb: float, clock_ms: Callable[[], int]
) -> PageCache | None:
    """Return the cache of a URL; None where there is to be none. A Redis out of reach is a cache of misses.

    Args:
        url: file:ABSOLUTE_FOLDER, redis:// or rediss://; None for no cache.
        venue: the exchange whose pages these are.
        ttl_days: an entry is forgotten after so many days.
        max_mb: size of all entries, MB of 1,000,000 bytes.
        clock_ms: UTC milliseconds.

    Raises:
        ConfigError: the URL is none of these.
        VenueMismatch: the cache belongs to another exchange.
    """
    if url is None:
        return None
    store = open_store(url, ttl_days=ttl_days, clock_ms=clock_ms)
    ttl_ms = round(ttl_days * DAY_MS)
    max_bytes = round(max_mb * 1_000_000)
    return PageCache(store, venue=venue, ttl_ms=ttl_ms, max_bytes=max_bytes, clock_ms=clock_ms)
