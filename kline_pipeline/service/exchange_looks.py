"""Looks at the exchange: its clock, and the newest candles of a series; each is one request, tried once.

They pay from the budget that all processes share, and so stop while a cool-down is in force. Who else looks, and how
often, is told in watching.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.pages import Page
from kline_pipeline.errors import (
    BadRequest,
    Banned,
    CountryBlocked,
    DatabaseUnavailable,
    ExchangeError,
    KlineError,
    RateLimited,
)
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso
from kline_pipeline.metrics import CLOCK_SKEW, EXCHANGE_UP, PROBE_SECONDS, Reading
from kline_pipeline.service.exchange import Exchange, Patience
from kline_pipeline.service.probes import Fact, Look

EXCHANGE_DOWN: Final = (Reading(EXCHANGE_UP, 0.0),)
_EXCHANGE_ANSWERS: Final = (Reading(EXCHANGE_UP, 1.0),)
_NEWEST: Final = 5
_SKEW_S: Final = 1.0
# A backfill may keep the budget busy, and nobody sends in the first seconds of an hour: so long the last answer counts.
_ANSWER_KEPT_S: Final = 60.0
_Ask = Callable[[BybitClient, Patience], Look]
_Readings = tuple[Reading, ...]


def time_look(exchange: Exchange) -> Callable[[], Look]:
    """Return a look whether the exchange answers, and how far this machine's clock is from its own."""

    def ask(client: BybitClient, patience: Patience) -> Look:
        began_s = exchange.clock_s()
        server_ms = client.server_time_ms()
        latency_s = _latency_s(exchange, began_s, patience)
        skew_s = _skew_s(exchange.clock_ms(), latency_s, server_ms)
        facts = {"latency_ms": round(latency_s * 1000), "clock_skew_s": round(skew_s, 3)}
        return _with_skew("it answers", skew_s, facts, (*_EXCHANGE_ANSWERS, Reading(CLOCK_SKEW, skew_s)))

    return _look(exchange, ask, down=EXCHANGE_DOWN, answers=_EXCHANGE_ANSWERS)


def series_look(exchange: Exchange, series: Series) -> Callable[[], Look]:
    """Return a look at the newest candles of a series, the open one among them."""
    label = (("series", str(series)),)

    def ask(client: BybitClient, patience: Patience) -> Look:
        interval = series.interval
        end_ms = interval.shift(interval.floor(client.server_time_ms_seen or exchange.clock_ms()), 1)
        began_s = exchange.clock_s()
        page = client.kline_page(series, Window(interval.shift(end_ms, -_NEWEST), end_ms))
        latency_s = _latency_s(exchange, began_s, patience)
        skew_s = _skew_s(page.receive_time_ms, latency_s, page.server_time_ms)
        facts = {**_newest(page), "latency_ms": round(latency_s * 1000), "clock_skew_s": round(skew_s, 3)}
        readings = (Reading(PROBE_SECONDS, latency_s, label),)
        if not page.rows.num_rows:
            return Look("degraded", f"it has none of the {_NEWEST} newest candles", facts, readings)
        return _with_skew("its newest candles came", skew_s, facts, readings)

    return _look(exchange, ask)


def _look(exchange: Exchange, ask: _Ask, *, down: _Readings = (), answers: _Readings = ()) -> Callable[[], Look]:
    """Return a look that asks, and puts what comes instead of an answer into words."""
    last: Look | None = None  # a good answer, if nothing has gone wrong since

    def look() -> Look:
        nonlocal last
        asked_s = exchange.clock_s()
        try:
            found = ask(*exchange.opened())
        except (ExchangeError, DatabaseUnavailable) as exc:
            if _is_no_turn(exc) and last is not None and asked_s - (last.asked_s or 0.0) < _ANSWER_KEPT_S:
                return last
            last = None
            return _instead(exc, down, answers)
        last = replace(found, asked_s=asked_s)
        return found

    return look


def _instead(error: KlineError, down: _Readings, answers: _Readings) -> Look:
    reason = str(error)
    if isinstance(error, DatabaseUnavailable):
        seen = "nobody can tell: the shared request budget is in the database, which does not answer"
        return Look("degraded", seen, reason=reason)
    if _is_no_turn(error):
        return Look("degraded", "it was not asked: no turn in the request budget came in time", reason=reason)
    if isinstance(error, Banned):
        return Look("degraded", "it is not asked, as a cool-down is in force", reason=reason)
    if isinstance(error, RateLimited):
        return Look("degraded", "it answers that it was asked too often", readings=answers, reason=reason)
    return Look("failed", _words(error), readings=down, reason=reason)


def _is_no_turn(error: KlineError) -> bool:
    """Say whether our own budget refused, so that nothing was asked."""
    return isinstance(error, RateLimited) and error.http_status is None and error.ret_code is None


def _words(error: KlineError) -> str:
    if isinstance(error, CountryBlocked):
        return "it refuses the country of this network; set BYBIT_BASE_URL to a host that serves it"
    if isinstance(error, BadRequest):
        return "it does not know this series; check KLINE_PROBE_SERIES"
    return f"it gave no usable answer ({type(error).__name__}); the log of the service says more"


def _latency_s(exchange: Exchange, began_s: float, patience: Patience) -> float:
    return max(0.0, exchange.clock_s() - began_s - patience.waited_s)


def _skew_s(received_ms: int, latency_s: float, server_ms: int) -> float:
    # The exchange wrote its time somewhere on the way; half of the way is the best guess.
    return (received_ms - server_ms) / 1000 - latency_s / 2


def _with_skew(seen: str, skew_s: float, facts: Mapping[str, Fact], readings: _Readings) -> Look:
    if abs(skew_s) <= _SKEW_S:
        return Look("ok", seen, facts, readings)
    side = "ahead of" if skew_s > 0 else "behind"
    told = f"{seen}, and this machine's clock is {abs(skew_s):,.1f} s {side} the exchange's; set it, as by NTP"
    return Look("degraded", told, facts, readings)


def _newest(page: Page) -> dict[str, Fact]:
    rows = page.rows.sort_by("open_time_ms")
    if not rows.num_rows:
        return {"candles": 0, "newest_open_time": None, "last_price": None}
    return {
        "candles": rows.num_rows,
        "newest_open_time": iso(rows["open_time_ms"][-1].as_py()),
        "last_price": rows["close"][-1].as_py(),
    }
