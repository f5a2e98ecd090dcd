"""Every closed candle of some windows, streamed page by page; complete, or an exception that names what is missing.

What a page lacks is asked for once more, unless the listing says that there can be nothing. Memory is bounded by the
pages in flight.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa

from kline_pipeline.bybit.lives import BEGINNING_MS
from kline_pipeline.bybit.pages import Page, PageFailure, fetch_pages
from kline_pipeline.direct.proof import Proof, Times, both, inside, judge
from kline_pipeline.direct.source import Source, pages_of
from kline_pipeline.errors import (
    BetweenListings,
    Contradiction,
    Delisted,
    IncompleteWindow,
    MalformedAnswer,
    NotListed,
    NotListedYet,
    UsageError,
)
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso, merge, windows_of

_NAMED: Final = 3
_EARLY: Final = Window(-62_135_596_800_000, BEGINNING_MS)  # from the year 1 on: nothing is listed, nothing is asked


def closed_window(series: Series, start_ms: int, end_ms: int, *, server_time_ms: int, grace_ms: int) -> Window:
    """Return the window of the candles that open in [start_ms, end_ms) and had closed at the server's time.

    Raises:
        UsageError: there is none.
    """
    first_ms = series.interval.ceil(start_ms)
    last_ms = min(series.interval.ceil(end_ms), series.interval.closed_end(server_time_ms, grace_ms))
    if first_ms >= last_ms:
        raise UsageError(f"no candle of {series} opens in [{iso(start_ms)}, {iso(end_ms)}) and has closed")
    return Window(first_ms, last_ms)


class Fetch:
    """One fetch of windows of some series.

    Attributes:
        unlisted: per series the windows in which the instrument was not listed, ascending; known when the series is
            done. They have no candle, and none is missing there.
    """

    def __init__(self, source: Source, wanted: Mapping[Series, Sequence[Window]], *, server_time_ms: int) -> None:
        """Prepare; nothing is asked.

        Args:
            source: of pages.
            wanted: per series disjoint windows, ascending, on its grid, closed at `server_time_ms`.
            server_time_ms: the exchange's time, UTC.
        """
        self._source = source
        self._wanted = {series: [window for window in windows if window] for series, windows in wanted.items()}
        self._server_time_ms = server_time_ms
        self.unlisted: dict[Series, list[Window]] = {}

    def tables(self) -> Iterator[tuple[Series, pa.Table]]:
        """Yield (series, candles) in the order of series and time: CANDLE_SCHEMA, canonical text, never empty.

        What was yielded counts only if the iteration ends without an exception.

        Raises:
            IncompleteWindow: candles of a series are missing, all of them named in `missing_ms`.
            NotListed: the instrument of a series was not listed in any of its windows; the subclass says how.
            Contradiction, MalformedAnswer: the exchange said so twice.
            ExchangeError: no usable answer after all attempts.
        """
        for series in self._wanted:
            if series.category == "inverse":
                # It answers for a linear symbol with linear candles and no error (bybit-v5.md 1.3): is it one?
                self._source.listing(series.category, series.symbol, until_ms=0)
        parts = {series: _Part(self._source, series, windows) for series, windows in self._wanted.items()}
        asks = {series: self._asks(series) for series in self._wanted}
        # Closed here, not by the garbage collector, which would wait for its threads wherever it happens to run.
        everything = chain.from_iterable(asks.values())
        with closing(fetch_pages(self._source.page, everything, self._source.concurrency)) as pages:
            for series, part in parts.items():
                for _ in asks[series]:
                    candles = part.take(next(pages))
                    if len(candles):
                        yield series, candles
                self.unlisted[series] = part.end()

    def _asks(self, series: Series) -> list[tuple[Series, Window]]:
        begin_ms = series.interval.floor(BEGINNING_MS)
        late = (Window(max(begin_ms, one.start_ms), max(begin_ms, one.end_ms)) for one in self._wanted[series])
        longest: dict[int, Window] = {}
        for page in chain.from_iterable(pages_of(window, series.interval, self._server_time_ms) for window in late):
            # The last page ends with the window that asks for it: two windows may share its beginning.
            longest[page.start_ms] = max(page, longest.get(page.start_ms, page))
        return [(series, page) for page in longest.values()]


class _Part:
    """The pages of one series, in order, and what they lack."""

    def __init__(self, source: Source, series: Series, windows: Sequence[Window]) -> None:
        self._source = source
        self._series = series
        self._names = series.category, series.symbol
        self._windows = windows
        self._rows = 0
        self._missing: list[Times] = []
        self._unlisted: list[Times] = []

    def take(self, page: Page | PageFailure) -> pa.Table:
        """Return the wanted candles of a page, and remember what is missing."""
        if isinstance(page, PageFailure):
            raise page.error
        candles = self._judged(page).candles
        self._rows += len(candles)
        return candles

    def end(self) -> list[Window]:
        """Return the windows without a listing.

        Raises:
            IncompleteWindow: candles are missing.
            NotListed: there is not one.
        """
        missing = np.concatenate([*self._missing, np.zeros(0, np.int64)])
        if len(missing):
            raise self._incomplete(missing)
        if self._windows and not self._rows:
            whole = Window(self._windows[0].start_ms, self._windows[-1].end_ms)
            raise not_listed(self._series, whole, self._source.listing(*self._names, until_ms=whole.end_ms))
        early = [_EARLY.intersect(window) for window in self._windows]
        unlisted = windows_of(np.concatenate([*self._unlisted, np.zeros(0, np.int64)]), self._series.interval)
        return merge([*early, *unlisted])

    def _judged(self, page: Page) -> Proof:
        """Return the proof on a page after all that can be done for what it lacks."""
        try:
            proof = self._proof(page)
        except (Contradiction, MalformedAnswer):
            page, proof = self._again(page)
        lacks = self._lacks(proof, self._source.known_listing(*self._names))
        if len(lacks):
            page, second = self._again(page)
            proof = both(second, proof)
            lacks = self._lacks(proof, self._source.known_listing(*self._names))
        if len(lacks):
            # It may have been listed or delisted since the listing was probed.
            lacks = self._lacks(proof, self._source.listing(*self._names, again=True))
        if not len(lacks):
            # Whatever it may lack beside what is wanted is asked for again by whoever wants that.
            self._source.keep(page)
        self._missing.append(lacks)
        self._unlisted.append(np.setdiff1d(proof.absent_ms, lacks))
        return proof

    def _proof(self, page: Page) -> Proof:
        return judge(page, self._windows, self._source.grace_ms)

    def _again(self, page: Page) -> tuple[Page, Proof]:
        newer = self._source.page_again(page.series, page.window)
        return newer, self._proof(newer)

    def _lacks(self, proof: Proof, listing: Listing | None) -> Times:
        """Return those of the absent open times that a listing does not excuse: all where it is not known.

        It excuses nothing after it was probed: what was between listings then may be listed now.
        """
        absent = proof.absent_ms
        if listing is None or not len(absent):
            return absent
        whole = Window(int(absent[0]), self._series.interval.shift(int(absent[-1]), 1))
        listed = inside(absent, listing.windows(self._series.interval, whole))
        return absent[listed | (absent >= listing.probed_at_ms)]

    def _incomplete(self, missing: Times) -> IncompleteWindow:
        expected = sum(self._series.interval.count(one.start_ms, one.end_ms) for one in self._windows)
        named = ", ".join(iso(int(one)) for one in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        window = Window(self._windows[0].start_ms, self._windows[-1].end_ms)
        return IncompleteWindow(
            f"asked {self._source.client.host} twice for {expected} candles of {self._series} in {window} and "
            f"{len(missing)} are missing although it was listed, at {named}{more}; nothing was kept, try again later",
            missing_ms=[int(one) for one in missing],
            window=window,
        )


def not_listed(series: Series, window: Window, listing: Listing) -> NotListed:
    """Return the error that says why an instrument has no candle in a window."""
    lives = listing.lives
    if not lives:
        return NotListedYet(f"{series} has no candle yet: it is known and trades later; try again then", window=window)
    said = f"{series} has no candle in {window}"
    if window.end_ms <= lives[0].start_ms:
        return NotListedYet(f"{said}: its first one opens at {iso(lives[0].start_ms)}; begin there", window=window)
    if window.start_ms >= lives[-1].end_ms:
        return Delisted(f"{said}: its last one closed at {iso(lives[-1].end_ms)}; end there", window=window)
    before = max(life.end_ms for life in lives if life.end_ms <= window.start_ms)
    after = min(life.start_ms for life in lives if life.start_ms >= window.end_ms)
    hole = f"it was not listed from {iso(before)} to {iso(after)}, between two listings"
    return BetweenListings(f"{said}: {hole}; choose another range", window=window)
