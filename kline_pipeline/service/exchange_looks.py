"""Looks at the exchange: its clock, and the newest candles of a series; each is one request, tried once.

They pay from the budget that all processes share, and so stop while a cool-down is in force. Who else looks, and how
often, is told in watching.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.pages import Page
from kline_pipeline.bybit.ratelimit import Budget, Lag, no_lag
from kline_pipeline.config import Settings
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.errors import BadRequest, Banned, CountryBlocked, DatabaseUnavailable, ExchangeError, RateLimited
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso
from kline_pipeline.metrics import CLOCK_SKEW, EXCHANGE_UP, PROBE_SECONDS, Reading
from kline_pipeline.opening import budget_of
from kline_pipeline.service.probes import Fact, Look

if TYPE_CHECKING:
    from kline_pipeline.database.engine import Database

EXCHANGE_DOWN: Final = (Reading(EXCHANGE_UP, 0.0),)
_TURN_S: Final = 2.0  # for a turn in the budget
_TIMEOUT_S: Final = 4.0
_NEWEST: Final = 5
_SKEW_S: Final = 1.0
# A backfill may keep the budget busy, and nobody sends in the first seconds of an hour: so long the last answer counts.
_ANSWER_KEPT_S: Final = 60.0


class Patience:
    """A budget that waits for a turn only shortly, and knows how long the thread has waited; see ratelimit.Budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waited = threading.local()

    @property
    def waited_s(self) -> float:
        """Seconds that this thread waited for its last turn."""
        return float(getattr(self._waited, "seconds", 0.0))

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        """Return when one request may be sent; see Budget."""
        began_s = time.monotonic()
        try:
            self._budget.acquire(min(timeout_s, _TURN_S), lag_s)
        finally:
            self._waited.seconds = time.monotonic() - began_s

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds`; see Budget."""
        self._budget.cool_down(seconds, reason)

    def slow_down(self, reason: str) -> None:
        """Halve the pace of everybody; see Budget."""
        self._budget.slow_down(reason)


class Exchange:
    """The exchange as looks ask it, for any number of threads.

    Args:
        settings: host, budget, time-out; a request is tried once and given up after at most 4 s.
        database: where the shared budget is, if KLINE_DATABASE_URL is set.
        clock_ms: the clock of this machine, UTC milliseconds.
        clock_s: a clock that only goes forward, seconds.
    """

    def __init__(
        self,
        settings: Settings,
        database: LateDatabase,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock_s = clock_s
        self._settings = settings
        self._database = database
        self._clock_ms = clock_ms
        self._opening = threading.Lock()
        self._opened: tuple[Database | None, BybitClient, Patience] | None = None

    def time_look(self) -> Callable[[], Look]:
        """Return a look whether the exchange answers, and how far this machine's clock is from its own."""

        def ask(client: BybitClient, patience: Patience) -> Look:
            began_s = self.clock_s()
            server_ms = client.server_time_ms()
            latency_s = self._latency_s(began_s, patience)
            skew_s = self._skew_s(self._clock_ms(), latency_s, server_ms)
            facts = {"latency_ms": round(latency_s * 1000), "clock_skew_s": round(skew_s, 3)}
            readings = (Reading(EXCHANGE_UP, 1.0), Reading(CLOCK_SKEW, skew_s))
            return _with_skew("it answers", skew_s, facts, readings)

        return self._look(ask, down=EXCHANGE_DOWN)

    def series_look(self, series: Series) -> Callable[[], Look]:
        """Return a look at the newest candles of a series."""
        label = (("series", str(series)),)

        def ask(client: BybitClient, patience: Patience) -> Look:
            now_ms = max(client.server_time_ms_seen, 0) or self._clock_ms()
            interval = series.interval
            end_ms = interval.shift(interval.floor(now_ms), 1)
            began_s = self.clock_s()
            page = client.kline_page(series, Window(interval.shift(end_ms, -_NEWEST), end_ms))
            latency_s = self._latency_s(began_s, patience)
            skew_s = self._skew_s(page.receive_time_ms, latency_s, page.server_time_ms)
            facts = {**_newest(page), "latency_ms": round(latency_s * 1000), "clock_skew_s": round(skew_s, 3)}
            readings = (Reading(PROBE_SECONDS, latency_s, label),)
            if not page.rows.num_rows:
                return Look("degraded", f"it has none of the {_NEWEST} newest candles", facts, readings)
            return _with_skew("its newest candles came", skew_s, facts, readings)

        return self._look(ask, down=())

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()

    def _look(self, ask: Callable[[BybitClient, Patience], Look], *, down: tuple[Reading, ...]) -> Callable[[], Look]:
        last: Look | None = None

        def look() -> Look:
            nonlocal last
            began_s = self.clock_s()
            try:
                with self._client() as (client, patience):
                    last = ask(client, patience)
            except DatabaseUnavailable as exc:
                seen = "nobody can tell: the shared request budget is in the database, which does not answer"
                return Look("degraded", seen, reason=str(exc))
            except Banned as exc:
                return Look("degraded", "it is not asked, as a cool-down is in force", reason=str(exc))
            except RateLimited as exc:
                if exc.http_status is not None or exc.ret_code is not None:
                    seen = "it answers that it was asked too often"
                    return Look("degraded", seen, readings=[Reading(one.metric, 1.0) for one in down], reason=str(exc))
                return self._not_asked(last, str(exc))
            except ExchangeError as exc:
                return Look("failed", _words(exc), readings=down, reason=str(exc))
            last = Look(last.status, last.seen, last.facts, last.readings, asked_s=began_s)
            return Look(last.status, last.seen, last.facts, last.readings)

        return look

    def _not_asked(self, last: Look | None, reason: str) -> Look:
        if last is not None and last.asked_s is not None and self.clock_s() - last.asked_s < _ANSWER_KEPT_S:
            return last
        return Look("degraded", "it was not asked: no turn in the request budget came in time", reason=reason)

    @contextmanager
    def _client(self) -> Iterator[tuple[BybitClient, Patience]]:
        """Give the client, opened anew where the database of the budget is another one."""
        database = self._database.current() if self._settings.database_url is not None else None
        with self._opening:
            if self._opened is None or self._opened[0] is not database:
                patience = Patience(budget_of(self._settings, database))
                bybit = self._settings.bybit
                timeout_s = min(_TIMEOUT_S, bybit.timeout_s)
                once = bybit.model_copy(update={"retry_max_attempts": 1, "timeout_s": timeout_s})
                client = BybitClient(once, budget=patience, clock_ms=self._clock_ms)
                self._opened = database, client, patience
            _, client, patience = self._opened
        yield client, patience

    def _latency_s(self, began_s: float, patience: Patience) -> float:
        return max(0.0, self.clock_s() - began_s - patience.waited_s)

    @staticmethod
    def _skew_s(received_ms: int, latency_s: float, server_ms: int) -> float:
        # The exchange wrote its time somewhere on the way; half of the way is the best guess.
        return (received_ms - server_ms) / 1000 - latency_s / 2


def _newest(page: Page) -> dict[str, Fact]:
    rows = page.rows.sort_by("open_time_ms")
    if not rows.num_rows:
        return {"candles": 0, "newest_open_time": None, "last_price": None}
    return {
        "candles": rows.num_rows,
        "newest_open_time": iso(rows["open_time_ms"][-1].as_py()),
        "last_price": rows["close"][-1].as_py(),
    }


def _with_skew(seen: str, skew_s: float, facts: Mapping[str, Fact], readings: tuple[Reading, ...]) -> Look:
    if abs(skew_s) <= _SKEW_S:
        return Look("ok", seen, facts, readings)
    side = "ahead of" if skew_s > 0 else "behind"
    told = f"{seen}, and this machine's clock is {abs(skew_s):,.1f} s {side} the exchange's; set it, as by NTP"
    return Look("degraded", told, facts, readings)


def _words(error: ExchangeError) -> str:
    if isinstance(error, CountryBlocked):
        return "it refuses the country of this network; set BYBIT_BASE_URL to a host that serves it"
    if isinstance(error, BadRequest):
        return "it does not know this series; check KLINE_PROBE_SERIES"
    return f"it gave no usable answer ({type(error).__name__}); the log of the service says more"
