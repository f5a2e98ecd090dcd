"""Pages of candles: planning windows of full pages, fetching them in order, and what a page proves.

A page is one answer, as received. Whether what it lacks is a gap is not judged here.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kline_pipeline.errors import BadRequest, ExchangeError, KlineError, UnexpectedAnswer
from kline_pipeline.log.about import AboutThreads
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, absent_of

if TYPE_CHECKING:
    from concurrent.futures import Future

MAX_SLOTS: Final = 1000  # more rows are cut at the old side, without a word (bybit-v5.md 1.3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Page:
    """One answer to a request for candles.

    Attributes:
        series: whose candles.
        window: what was asked, half-open, on the grid, at most 1000 slots.
        server_time_ms: the exchange's clock in the answer, UTC.
        receive_time_ms: our clock, UTC.
        host: that answered.
        rows: columns of market.schema.CANDLE_SCHEMA, digits as served, in the order received,
            duplicates and the open candle included; only open times inside `window`. Empty means
            that the exchange has no candle there.
        clipped: rows of other open times, thrown away: an empty window is answered with older ones
            (bybit-v5.md 1.3).
    """

    series: Series
    window: Window
    server_time_ms: int
    receive_time_ms: int
    host: str
    rows: pa.Table
    clipped: int

    def closed_window(self, grace_ms: int) -> Window:
        """Return what the page proves: the part of `window` that had closed at its server time.

        Args:
            grace_ms: a candle counts as closed this long after its end.
        """
        end_ms = self.series.interval.closed_end(self.server_time_ms, grace_ms)
        return self.window.intersect(Window(self.window.start_ms, max(self.window.start_ms, end_ms)))


Ask = Callable[[Series, Window], Page]


@dataclass(frozen=True, slots=True)
class PageFailure:
    """A page that the exchange refuses for good, such as one of a symbol it does not know."""

    series: Series
    window: Window
    error: ExchangeError


def clip(rows: pa.Table, window: Window) -> pa.Table:
    """Return the rows whose open time lies in `window`, in the order given."""
    times = rows["open_time_ms"].to_numpy()
    inside = (times >= window.start_ms) & (times < window.end_ms)
    return rows if inside.all() else rows.take(pa.array(np.flatnonzero(inside)))


def missing(page: Page, grace_ms: int) -> NDArray[np.int64]:
    """Return the closed open times that the page lacks, ascending, int64 UTC milliseconds.

    Empty means that the page is complete for what it proves.
    """
    closed = page.closed_window(grace_ms)
    grid = page.series.interval.grid(closed.start_ms, closed.end_ms)
    return absent_of(grid, page.rows["open_time_ms"].to_numpy())


def plan(window: Window, interval: Interval) -> list[Window]:
    """Return consecutive windows of at most 1000 slots with every open time of `window`."""
    end_ms = interval.ceil(window.end_ms)
    start_ms = interval.ceil(window.start_ms)
    pages = []
    while start_ms < end_ms:
        next_ms = min(interval.shift(start_ms, MAX_SLOTS), end_ms)
        pages.append(Window(start_ms, next_ms))
        start_ms = next_ms
    return pages


def fetch_pages(
    ask: Ask, asks: Iterable[tuple[Series, Window]], concurrency: int
) -> Generator[Page | PageFailure, None, None]:
    """Yield the answers in the order of `asks`, fetched in threads, 2 * `concurrency` ahead.

    Args:
        ask: returns one page, such as BybitClient.kline_page; called from several threads.
        asks: windows on the grid of at most 1000 slots, such as those of `plan`.
        concurrency: requests in flight.

    Raises:
        KlineError: the exchange is down or refuses this network as a whole; pages before that one
            have been yielded, no other is begun.
    """
    halt = _Halt()
    pending: deque[Future[Page | PageFailure]] = deque()
    executor = AboutThreads(concurrency, thread_name_prefix="pages")
    try:
        for series, window in asks:
            pending.append(executor.submit(_fetch, ask, series, window, halt))
            if len(pending) >= 2 * concurrency:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        halt.because(KlineError("the fetching of pages was given up"))
        executor.shutdown(cancel_futures=True)


class _Halt:
    """Why no other page is begun; no reason while the work goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.error: KlineError | None = None

    def because(self, error: KlineError) -> None:
        """Keep the first reason."""
        with self._lock:
            self.error = self.error or error


def _fetch(ask: Ask, series: Series, window: Window, halt: _Halt) -> Page | PageFailure:
    if halt.error is not None:
        raise halt.error
    try:
        return ask(series, window)
    except (BadRequest, UnexpectedAnswer) as exc:
        return PageFailure(series, window, exc)
    except KlineError as exc:
        halt.because(exc)
        raise
