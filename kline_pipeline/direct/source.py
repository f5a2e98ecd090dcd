"""Where pages come from: the cache where it has them, else the exchange; what a page proves is told in proof.

Pages lie on a fixed grid of 1000 slots, so that ranges that overlap share them in the cache.
"""

from typing import Final

import msgspec

from kline_pipeline.bybit.cache.page_cache import PageCache
from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.lives import probe_lives
from kline_pipeline.bybit.pages import MAX_SLOTS, Page
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.metrics import CACHE_HITS, CACHE_MISSES, Tally

# A page is kept when its last candle closed so long before the answer: whatever the exchange corrects shortly after
# the close (bybit-v5.md 5.4) is in it.
SETTLED_MS: Final = 3_600_000


class Source:
    """The exchange behind a cache, for any number of threads.

    Attributes:
        client: of the exchange.
        cache: of pages; None for none.
        grace_ms: a candle counts as closed this long after its end.
        concurrency: requests in flight.
    """

    def __init__(
        self,
        client: BybitClient,
        cache: PageCache | None,
        *,
        grace_ms: int,
        concurrency: int,
        refetch: bool = False,
        tally: Tally | None = None,
    ) -> None:
        """Prepare; nothing is asked.

        Args:
            client: of the exchange.
            cache: of pages; None for none.
            grace_ms: a candle counts as closed this long after its end.
            concurrency: requests in flight.
            refetch: do not read the cache, and replace what is in it.
            tally: counts hits and misses of the cache; None counts for nobody.
        """
        self.client = client
        self.grace_ms = grace_ms
        self.concurrency = concurrency
        self.cache = cache
        self._readable = None if refetch else cache
        self._tally = tally if tally is not None else Tally()
        self._listings: dict[tuple[str, str], Listing] = {}
        self._kept: set[tuple[Series, Window]] = set()
        self._probed: set[tuple[str, str]] = set()

    def page(self, series: Series, window: Window) -> Page:
        """Return a page, from the cache where it is there.

        Raises:
            ExchangeError: no usable answer after all attempts.
        """
        if self._readable is None:
            return self.page_again(series, window)
        kept = self._readable.page(series, window)
        self._tally.add(CACHE_MISSES if kept is None else CACHE_HITS)
        if kept is None:
            return self.page_again(series, window)
        self._kept.add((series, window))
        return kept

    def page_again(self, series: Series, window: Window) -> Page:
        """Return a page as the exchange has it now.

        Raises:
            ExchangeError: no usable answer after all attempts.
        """
        self._kept.discard((series, window))
        return self.client.kline_page(series, window)

    def keep(self, page: Page) -> None:
        """Keep a page that proved right, once its candles have long closed."""
        settled = page.window.end_ms <= page.server_time_ms - SETTLED_MS
        if self.cache is not None and settled and (page.series, page.window) not in self._kept:
            self.cache.keep(page)

    def known_listing(self, category: str, symbol: str) -> Listing | None:
        """Return the lives of an instrument as a probe found them before, None without one; nothing is asked."""
        names = category, symbol
        if names not in self._listings and self._readable is not None:
            note = self._readable.note(_note_name(*names))
            if note is not None:
                self._listings[names] = _listing(note)
        return self._listings.get(names)

    def listing(self, category: str, symbol: str, *, until_ms: int = 0, again: bool = False) -> Listing:
        """Return the lives of an instrument, probed where they are not known, or not late enough.

        Args:
            category, symbol: the instrument.
            until_ms: a probe before this time says nothing of what matters.
            again: a probe by somebody else does not count.

        Raises:
            BadSymbol: the exchange knows no such instrument and has no candle of it.
            ExchangeError: it could not be asked.
        """
        names = category, symbol
        known = self.known_listing(*names)
        if known is not None and (names in self._probed or (not again and known.probed_at_ms >= until_ms)):
            return known
        found = probe_lives(self.client, *names, grace_ms=self.grace_ms).listing
        self._listings[names] = found
        self._probed.add(names)
        if self.cache is not None:
            self.cache.keep_note(_note_name(*names), _note(found))
        return found


def _note_name(category: str, symbol: str) -> str:
    return f"lives/{category}/{symbol}"


class _Note(msgspec.Struct):
    lives: list[tuple[int, int]]
    probed_at_ms: int


def _note(listing: Listing) -> bytes:
    lives = [(life.start_ms, life.end_ms) for life in listing.lives]
    return msgspec.json.encode(_Note(lives, listing.probed_at_ms))


def _listing(note: bytes) -> Listing:
    content = msgspec.json.decode(note, type=_Note)
    return Listing(tuple(Window(*life) for life in content.lives), content.probed_at_ms)


def pages_of(window: Window, interval: Interval, server_time_ms: int) -> list[Window]:
    """Return the pages of the fixed grid that hold every open time of `window`, ascending.

    Args:
        window: half-open, on the grid of the interval.
        interval: of the series.
        server_time_ms: a page that has not settled then ends where `window` does.
    """
    origin_ms = interval.ceil(0)
    pages = []
    start_ms = window.start_ms
    while start_ms < window.end_ms:
        number = interval.count(origin_ms, start_ms) // MAX_SLOTS
        begin_ms = interval.shift(origin_ms, number * MAX_SLOTS)
        end_ms = interval.shift(begin_ms, MAX_SLOTS)
        if end_ms > server_time_ms - SETTLED_MS:
            end_ms = min(end_ms, window.end_ms)
        pages.append(Window(begin_ms, end_ms))
        start_ms = end_ms
    return pages
