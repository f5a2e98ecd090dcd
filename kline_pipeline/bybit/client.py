"""The questions that the exchange can be asked, each with its typed answer; which to ask is decided elsewhere.

How a question is paid for, tried again and counted is told in asking. Both ends of a candle request are sent and
inclusive (bybit-v5.md 0).
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from kline_pipeline.bybit.asking import Asking
from kline_pipeline.bybit.auth import KeyInfo, key_info
from kline_pipeline.bybit.connection import Connection
from kline_pipeline.bybit.instruments import Instrument, instruments_page
from kline_pipeline.bybit.messages import Answer, Envelope, kline_rows
from kline_pipeline.bybit.pages import MAX_SLOTS, Page, clip
from kline_pipeline.bybit.ratelimit import Budget
from kline_pipeline.bybit.retry import with_retries
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import BadInterval, ConfigError, ExchangeError
from kline_pipeline.log.about import about
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.metrics import CANDLES, Tally

if TYPE_CHECKING:
    import httpx


class BybitClient:
    """The exchange, for any number of threads; a context manager.

    Attributes:
        settings: host, time-outs, retries, concurrency.
        host: name and port of the exchange.
        refused: series whose interval the exchange said it does not serve.
    """

    def __init__(
        self,
        settings: BybitSettings,
        *,
        budget: Budget,
        transport: "httpx.BaseTransport | None" = None,
        sleep: Callable[[float], None] = time.sleep,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        tally: Tally | None = None,
    ) -> None:
        """Prepare one pool of connections; nothing is sent.

        Args:
            settings: host, time-outs, retries, concurrency.
            budget: pays for every market request.
            transport: instead of the network, for tests.
            sleep: how to wait between tries, seconds.
            clock_ms: the local clock, for receive times.
            tally: counts requests and candles; None counts for nobody.

        Raises:
            ConfigError: BYBIT_BASE_URL is no URL.
        """
        self.settings = settings
        self.refused: set[Series] = set()
        self._sleep = sleep
        self._clock_ms = clock_ms
        self._venue: str | None = None
        self._connection = Connection(settings, transport, clock_ms=clock_ms)
        self._tally = tally if tally is not None else Tally()
        self._asking = Asking(self._connection, settings, budget, sleep, self._tally)
        self.host = self._connection.host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """Requests sent, by (kind, outcome): kline, instruments, key or time; "ok" or the name of the error."""
        return self._asking.requests

    @property
    def server_time_ms_seen(self) -> int:
        """Newest server time of any answer, UTC; 0 before the first."""
        return self._asking.server_time_ms_seen

    def server_time_ms(self) -> int:
        """Return the clock of the exchange, UTC milliseconds.

        Raises:
            ExchangeError: no usable answer after all attempts.
        """
        return self._asking.ask("time", {}, "its time", lambda _, envelope: envelope.time or 0)

    def venue(self) -> str:
        """Return the name of what stands behind the host; asked for once, outside the budget.

        Raises:
            ExchangeUnavailable: a host that may be a simulator does not answer.
        """
        if self._venue is None:
            self._venue = with_retries(self._connection.venue, self.settings, asked="venue", sleep=self._sleep)
        return self._venue

    def kline_page(self, series: Series, window: Window, limit: int = MAX_SLOTS) -> Page:
        """Return what the exchange has in a window, exactly as received.

        Args:
            series: whose candles.
            window: half-open, both ends on the grid of the series, 1 to `limit` slots.
            limit: most rows to ask for, at most 1000.

        Raises:
            ValueError: the window is not such a one; nothing was sent.
            ExchangeError: no usable answer after all attempts.
        """
        params = _kline_params(series, window, limit)

        def page_of(answer: Answer, envelope: Envelope) -> Page:
            rows = kline_rows(answer, envelope, category=series.category, symbol=series.symbol)
            kept = clip(rows, window)
            return Page(
                series=series,
                window=window,
                server_time_ms=envelope.time or 0,
                receive_time_ms=self._clock_ms(),
                host=self.host,
                rows=kept,
                clipped=rows.num_rows - kept.num_rows,
            )

        try:
            with about(series=series, window=window):
                page = self._asking.ask("kline", params, f"candles of {series} in {window}", page_of)
        except ExchangeError as exc:
            exc.window = window
            if isinstance(exc, BadInterval):
                self.refused.add(series)
            raise
        served = page.rows.num_rows + page.clipped
        self._tally.add(CANDLES, served, category=series.category, interval=series.interval.code)
        return page

    def instruments(self, category: str, *, symbol: str | None = None, status: str | None = None) -> list[Instrument]:
        """Return the instruments of a category in the order received, over all pages.

        Args:
            category: linear, inverse or spot.
            symbol: only this one; the list is empty when spot does not know it.
            status: PreLaunch, Trading, Delivering or Closed; None is the default, Trading.

        Raises:
            BadSymbol: linear or inverse do not know the symbol.
            ExchangeError: no usable answer after all attempts.
        """
        params = {"category": category, "limit": "1000"}
        params |= {"symbol": symbol} if symbol else {}
        params |= {"status": status} if status else {}
        asked = f"{status or 'listed'} instruments {category}:{symbol or '*'}"

        def page_of(answer: Answer, envelope: Envelope) -> tuple[list[Instrument], str]:
            return instruments_page(answer, envelope, category=category)

        found: dict[str, Instrument] = {}
        cursors: set[str] = set()
        while True:
            page, cursor = self._asking.ask("instruments", params, asked, page_of)
            found |= {instrument.symbol: instrument for instrument in page}
            # A last page may still carry a cursor (bybit-v5.md 2.1): stop when it repeats.
            if symbol in found or not cursor or cursor in cursors:
                return list(found.values())
            cursors.add(cursor)
            params = {**params, "cursor": cursor}

    def key_info(self) -> KeyInfo:
        """Return what the API key of the settings may do.

        Raises:
            ConfigError: the settings have none; nothing was sent.
            AuthenticationRefused: the exchange refuses it, the class says why.
            ExchangeError: no usable answer after all attempts.
        """
        if not self.settings.api_key:
            raise ConfigError("there is no API key to ask about; set BYBIT_API_KEY and BYBIT_API_SECRET")
        return self._asking.ask("key", {}, "the rights of the API key", key_info)


def _kline_params(series: Series, window: Window, limit: int) -> dict[str, str]:
    interval = series.interval
    on_grid = all(interval.floor(end_ms) == end_ms for end_ms in (window.start_ms, window.end_ms))
    slots = interval.count(window.start_ms, window.end_ms)
    if not on_grid or not 1 <= slots <= limit <= MAX_SLOTS:
        msg = f"a page of {series} cannot be {window} ({slots} slots): 1 to {limit} slots on the grid"
        raise ValueError(msg)
    return {
        "category": series.category,
        "symbol": series.symbol,
        "interval": interval.code,
        "start": str(window.start_ms),
        "end": str(interval.shift(window.end_ms, -1)),  # inclusive: the open time of the last slot
        "limit": str(limit),
    }
