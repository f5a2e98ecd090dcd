"""The request budget in PostgreSQL, a row per venue, shared by all processes; its file form is in bybit/ratelimit.

Requests are granted one by one at an even pace by the clock of the database, so the rate is exceeded in no second,
whatever processes start, stop or are killed. It has a connection of its own, never inside a sink's transaction.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Engine, text

from kline_pipeline.bybit.ratelimit import no_turn, refused_by_cool_down
from kline_pipeline.database.engine import Database

_ADD: Final = text(
    "insert into kline.rate_budget (venue, next_at) values (:venue, clock_timestamp()) on conflict do nothing"
)
# 2 % below the rate, as the file form: a request leaves a little after its grant.
_SHARE: Final = 0.98
_GRANT: Final = text(
    "update kline.rate_budget set next_at = clock_timestamp() + make_interval(secs => :step_s) "
    "where venue = :venue and next_at <= clock_timestamp() "
    "and coalesce(cool_down_until <= clock_timestamp(), true) returning true"
)
_WAIT: Final = text(
    "select extract(epoch from greatest(next_at, cool_down_until) - clock_timestamp())::float8 as wait_s, "
    "cool_down_until > clock_timestamp() as cooling, reason from kline.rate_budget where venue = :venue"
)
_COOL: Final = text(
    "update kline.rate_budget "
    "set cool_down_until = clock_timestamp() + make_interval(secs => :seconds), reason = :reason "
    "where venue = :venue and coalesce(cool_down_until < clock_timestamp() + make_interval(secs => :seconds), true)"
)


class DatabaseBudget:
    """A budget in the database; safe in threads, which queue so that one per process asks the table.

    Args:
        database: migrated.
        venue: the exchange whose budget it is.
        requests_per_second: of all processes together.
        sleep: how to wait, seconds.
    """

    def __init__(
        self, database: Database, venue: str, requests_per_second: float, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._database = database
        self._venue = venue
        self._step_s = 1 / (requests_per_second * _SHARE)
        self._sleep = sleep
        self._turnstile = threading.Lock()
        self._connection: Connection | None = None

    def acquire(self, timeout_s: float) -> None:
        """Return when one request may be sent.

        Raises:
            RateLimited: no turn came within `timeout_s`.
            Banned: a cool-down lasts longer than `timeout_s`.
            DatabaseUnavailable: the database went away; no request may be sent.
        """
        until_s = time.monotonic() + timeout_s
        if not self._turnstile.acquire(timeout=max(0.0, timeout_s)):
            raise no_turn(timeout_s)
        try:
            with self._database.translate_errors():
                self._wait_for_grant(until_s, timeout_s)
        except BaseException:
            self._forget()
            raise
        finally:
            self._turnstile.release()

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds` from now on; a longer cool-down that runs already stays."""
        values = {"venue": self._venue, "seconds": seconds, "reason": reason[:200]}
        # Not on the connection of the turnstile: who waits there may do so for long, and this must be known at once.
        with self._database.translate_errors(), self._autocommit().connect() as connection:
            connection.execute(_ADD, {"venue": self._venue})
            connection.execute(_COOL, values)

    def close(self) -> None:
        """Close the connection; a later `acquire` opens another one."""
        with self._turnstile:
            self._forget()

    def _wait_for_grant(self, until_s: float, timeout_s: float) -> None:
        connection = self._connected()
        key = {"venue": self._venue}
        while not connection.execute(_GRANT, {**key, "step_s": self._step_s}).scalar():
            row = connection.execute(_WAIT, key).one()
            wait_s = max(0.001, row.wait_s)
            if time.monotonic() + wait_s > until_s:
                raise refused_by_cool_down(wait_s, row.reason) if row.cooling else no_turn(timeout_s)
            self._sleep(wait_s)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._autocommit().connect()
            self._connection.execute(_ADD, {"venue": self._venue})
        return self._connection

    def _autocommit(self) -> Engine:
        return self._database.engine.execution_options(isolation_level="AUTOCOMMIT")

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
