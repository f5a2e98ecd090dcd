"""The exchange: a request becomes an answer, with Bybit's semantics and without any I/O.

Range rules, limits and error texts are those of bybit-v5.md sections 1 to 3. Where the candles come
from is the business of a History; how answers travel that of transport and server.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from kline_pipeline.simulator import accounts, control, wire
from kline_pipeline.simulator.accounts import Signature
from kline_pipeline.simulator.faults import FaultPlan
from kline_pipeline.simulator.grid import INTERVALS, floor_ms, shift_ms, steps_between
from kline_pipeline.simulator.history import CATEGORIES, History, Row
from kline_pipeline.simulator.instruments import Instrument
from kline_pipeline.simulator.limits import RequestLimit
from kline_pipeline.simulator.listing import instruments_info
from kline_pipeline.simulator.meeting import Meeting, Request
from kline_pipeline.simulator.stats import Stats
from kline_pipeline.simulator.wire import Response

KINDS = {
    "/v5/market/kline": "kline",
    "/v5/market/instruments-info": "instruments-info",
    "/v5/market/time": "time",
    "/v5/user/query-api": "query-api",
}
DEFAULT_LIMIT, MAX_LIMIT = 200, 1000
# Times beyond 2200 are taken as 2200: calendars end somewhere.
FAR_FUTURE_MS = 7_258_118_400_000
MOST_DIGITS = 18


class Exchange:
    """A Bybit over one history. Safe to call from many threads.

    Args:
        history: where candles and instruments come from.
        clock: returns the server time in ms. It also drives the rate limit: under a frozen clock
            all requests fall into one window.
        requests_per_5s: beyond that many market requests in 5 s the answer is 403.
        latency_ms: added to every market answer.
    """

    def __init__(
        self,
        history: History,
        *,
        clock: Callable[[], int],
        requests_per_5s: int = 600,
        latency_ms: int = 0,
    ) -> None:
        """Begin with zero counts and no faults."""
        self.history = history
        self.clock = clock
        self.stats = Stats()
        self.limit = RequestLimit(requests_per_5s)
        self.faults = FaultPlan(seed=history.seed or 0)
        self._latency_s = latency_ms / 1000

    def handle(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes = b"",
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        query_string: str | None = None,
    ) -> Response:
        """Answer one request.

        Args:
            method: GET, POST or DELETE.
            path: from the first slash on, without the query.
            query: the decoded parameters.
            body: matters for POST /_sim/faults only.
            headers: matter where they carry an API key; names in any case.
            query_string: the query exactly as sent, which is what is signed; None: `query`, spelt plainly.
        """
        if path.startswith("/_sim/"):
            return control.handle(self, method, path, body)
        arrived_ms = self.clock()
        kind = KINDS.get(path, "other")
        request = Request(
            kind=kind,
            category=query.get("category") or ("linear" if kind == "kline" else ""),
            symbol=query.get("symbol", ""),
            interval=query.get("interval", ""),
            query=query,
            text="&".join(f"{name}={query[name]}" for name in sorted(query)),
        )
        plain = "&".join(f"{name}={value}" for name, value in query.items())
        signature = accounts.signature_of(headers, plain if query_string is None else query_string)
        response = self._answer(method, request, signature, arrived_ms)
        if self._latency_s:
            response = replace(response, delay_s=response.delay_s + self._latency_s)
        self.stats.count(request.kind, request.symbol, request.interval, response, arrived_ms)
        return response

    def given_up(self, path: str, response: Response) -> None:
        """Note that the caller went away before a slow answer was sent."""
        if not path.startswith("/_sim/"):
            self.stats.given_up(KINDS.get(path, "other"), response)

    def _answer(self, method: str, request: Request, signature: Signature | None, arrived_ms: int) -> Response:
        if not self.limit.admit(arrived_ms):
            return wire.http_error(403)
        meeting = self.faults.meet(request, arrived_ms)
        instead = meeting.instead()
        if instead is not None:
            return instead
        if request.kind == "other":
            return wire.http_error(404)
        if method != "GET":
            return wire.http_error(400)
        refused = accounts.refusal_of(signature, meeting.now_ms) if signature else None
        if refused is not None:
            return refused
        return meeting.on_the_way(self._truth(request, signature, meeting))

    def _truth(self, request: Request, signature: Signature | None, meeting: Meeting) -> Response:
        now_ms = meeting.now_ms
        if request.kind == "time":
            second = {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}
            return wire.ok(second, now_ms)
        if request.kind == "instruments-info":
            return instruments_info(self.history, request.query, now_ms)
        if request.kind == "query-api":
            return accounts.key_information(signature, now_ms)
        return self._kline(request, meeting)

    def _kline(self, request: Request, meeting: Meeting) -> Response:
        now_ms = meeting.now_ms
        if request.category not in CATEGORIES:
            return wire.refusal(10001, now_ms, message="params error: Category is invalid")
        if request.interval not in INTERVALS:
            return wire.refusal(10001, now_ms, message="params error: intervalTime is invalid")
        instrument = self._served(request, now_ms)
        if instrument is None:
            return wire.refusal(10001, now_ms, message="Not supported symbols")
        if not self.history.has(instrument, request.interval):
            return wire.refusal(10001, now_ms, message="params error: intervalTime is invalid")
        try:
            start, end, limit = (_optional(request.query, name) for name in ("start", "end", "limit"))
        except ValueError as error:
            return wire.refusal(10001, now_ms, message=f"params error: {error}")
        limit = DEFAULT_LIMIT if limit is None else min(limit, MAX_LIMIT)
        page = _Page(self.history, request, instrument, meeting)
        rows = meeting.page(page.rows(start, end, limit) if limit > 0 else [])
        return _answered(request, meeting.named(), rows, now_ms)

    def _served(self, request: Request, now_ms: int) -> Instrument | None:
        found = self.history.find(request.category, request.symbol, now_ms)
        if found is None and request.category == "inverse":
            # Recorded in May 2025: a USDT symbol under inverse answers linear candles, no error.
            found = self.history.find("linear", request.symbol, now_ms)
        return found if found is not None and found.supported else None


def _answered(request: Request, named: tuple[str, str], rows: list[Row], now_ms: int) -> Response:
    """Return a page under the symbol and category that it names, which a fault may have changed."""
    answer = wire.kline(*named, rows, now_ms)
    if named == (request.symbol, request.category):
        return answer
    wrong = "wrong_category" if named[0] == request.symbol else "wrong_symbol"
    return replace(answer, outcome=wrong, candles=0)


class _Page:
    """Which rows of one series a page holds."""

    def __init__(self, history: History, request: Request, instrument: Instrument, meeting: Meeting) -> None:
        self._history, self._request = history, request
        self._instrument, self._meeting, self._now_ms = instrument, meeting, meeting.candles_clock_ms()

    def rows(self, start: int | None, end: int | None, limit: int) -> list[Row]:
        """Return the rows of a range as Bybit chooses them, newest first."""
        if start is None:
            return self._newest(self._now_ms if end is None else end, limit)
        first = floor_ms(self._request.interval, start)
        if end is None:
            return self._from(first, limit)
        if end < first:
            return []
        slots = steps_between(self._request.interval, first, floor_ms(self._request.interval, end))
        rows = self._newest(end, min(limit, slots + 1))
        if rows and int(rows[-1][0]) < first:
            rows = [row for row in rows if int(row[0]) >= first]
        # Nothing in the window: the exchange answers with what is older, as if start were absent.
        return rows or self._newest(end, limit)

    def _from(self, first: int, limit: int) -> list[Row]:
        interval = self._request.interval
        last = shift_ms(interval, first, limit - 1)
        rows = self._newest(last, limit)
        if last > self._now_ms and first <= self._now_ms and _trading(self._instrument, self._now_ms):
            # The window reaches past the open candle: only what opened since `first`.
            return [row for row in rows if int(row[0]) >= first] or rows
        # A window that ends in a hole between listings, or after the end of data, is filled up with
        # older rows (recorded on SHIBUSDT, bybit-v5.md 1.3).
        return rows

    def _newest(self, until_ms: int, limit: int) -> list[Row]:
        gone = self._meeting.dropped()
        rows = self._history.newest(
            self._instrument,
            self._request.interval,
            until_ms=self._meeting.last_open_ms(until_ms),
            limit=limit + len(gone),
            now_ms=self._now_ms,
        )
        return [row for row in rows if row[0] not in gone][:limit] if gone else rows


def _trading(instrument: Instrument, now_ms: int) -> bool:
    return instrument.status(now_ms) == "Trading"


def _optional(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS:
        raise ValueError(f"{name} invalid")
    return min(int(text), FAR_FUTURE_MS)
