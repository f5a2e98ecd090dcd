"""The client by which looks ask the exchange: one try, little patience; what is asked is told in exchange_looks."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.ratelimit import Budget, Lag, Standing, no_lag
from kline_pipeline.config import Settings
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.opening import budget_of

if TYPE_CHECKING:
    from kline_pipeline.database.engine import Database

_TURN_S: Final = 2.0  # for a turn in the budget
_TIMEOUT_S: Final = 4.0


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

    def standing(self) -> Standing:
        """Return how it stands; see Budget."""
        return self._budget.standing()


class Exchange:
    """The exchange, for any number of threads, also while the database of its budget is away.

    A request is tried once, and given up after at most 4 s, or BYBIT_TIMEOUT_S where that is less.

    Args:
        settings: host, budget, time-out.
        database: where the shared budget is, if KLINE_DATABASE_URL is set.
        clock_ms: the clock of this machine, UTC milliseconds.
        clock_s: a clock that only goes forward, seconds.
        budget: opens the budget that pays, of settings and of the database if that has it.
    """

    def __init__(
        self,
        settings: Settings,
        database: LateDatabase,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock_s: Callable[[], float] = time.monotonic,
        budget: "Callable[[Settings, Database | None], Budget]" = budget_of,
    ) -> None:
        self.clock_ms = clock_ms
        self.clock_s = clock_s
        self._settings = settings
        self._database = database
        self._budget_of = budget
        self._opening = threading.Lock()
        self._client: BybitClient | None = None
        self._patience: Patience | None = None
        self._of: Database | None = None

    def opened(self) -> tuple[BybitClient, Patience]:
        """Return the client and its budget, not to be closed; opened anew where the database is another one.

        Raises:
            DatabaseUnavailable: the budget is in the database, which did not answer when it was last looked at.
        """
        database = self._database.current() if self._settings.database_url is not None else None
        with self._opening:
            if self._client is None or self._patience is None or self._of is not database:
                bybit = self._settings.bybit
                once = {"retry_max_attempts": 1, "timeout_s": min(_TIMEOUT_S, bybit.timeout_s)}
                self._patience = Patience(self._budget_of(self._settings, database))
                self._client = BybitClient(
                    bybit.model_copy(update=once),
                    budget=self._patience,
                    clock_ms=self.clock_ms,
                    tally=self._database.tally,
                )
                self._of = database
            return self._client, self._patience

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if self._client is not None:
                self._client.close()
            self._client = self._patience = None
