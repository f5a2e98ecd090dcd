"""The request budget in PostgreSQL, a row per venue, shared by all processes; its file form is bybit/file_budget.

The arithmetic is that of bybit/pace, here in SQL: one statement per question, judged by the clock of the database, so
that the row is never locked over the network. It has a connection of its own, never inside a sink's transaction.
"""

import random
import time
from collections.abc import Callable
from math import ceil
from typing import Final

from sqlalchemy import Connection, Engine, TextClause, text

from kline_pipeline.bybit.pace import (
    LAG_BASE_S,
    LAG_FACTOR,
    LAG_KEPT_S,
    LAG_LEAST_S,
    LAG_REQUESTS,
    LEAST_SHARE,
    QUIET_MS,
    SHARE_DOUBLES_S,
    SLOW_COOL_S,
    SLOW_ONCE_S,
    SLOW_REPEATED_S,
    Reply,
    brief,
    is_quiet,
    pace,
    repeated,
)
from kline_pipeline.bybit.ratelimit import Lag, Standing, Turns, no_lag, tell_slow_down
from kline_pipeline.database.engine import Database

# ruff: noqa: S608 - what is put into the statements is written here.
# clock_timestamp() is called anew when the row had to be waited for, unlike now(); a test sets the clock.
_NOW: Final = "coalesce(to_timestamp(cast(:now_s as float8)), clock_timestamp())"
_LAG_SHARE: Final = (
    f"case when lag_s >= {LAG_LEAST_S} and lag_until > {_NOW} "
    f"then {LAG_REQUESTS} / ({LAG_BASE_S} + {LAG_FACTOR} * lag_s) * :step_s else 1 end"
)
_SLOW_SHARE: Final = (
    "least(1, slow_share * power(2, least(10, greatest(0, "
    f"extract(epoch from {_NOW} - slow_at)::float8 / {SHARE_DOUBLES_S}))))"
)
_SHARE: Final = f"least({_LAG_SHARE}, {_SLOW_SHARE})"
_TOLERANCE: Final = f"make_interval(secs => case when {_SHARE} >= 1 then :tolerance_s else 0 end)"
_COOL_UNTIL: Final = f"greatest(cool_down_until, {_NOW} + make_interval(secs => :seconds))"
_REPEATED: Final = f"coalesce(slow_before_at >= {_NOW} - make_interval(secs => {SLOW_REPEATED_S}), false)"

_ADD: Final = text(f"insert into kline.rate_budget (venue, next_at) values (:venue, {_NOW}) on conflict do nothing")
_GRANT: Final = text(
    f"update kline.rate_budget set next_at = greatest(next_at, {_NOW}) + make_interval(secs => :step_s / {_SHARE}) "
    f"where venue = :venue and next_at <= {_NOW} + {_TOLERANCE} and coalesce(cool_down_until <= {_NOW}, true) "
    f"and (:reserved or coalesce(slot_at <= {_NOW}, true)) "
    f"and mod(extract(epoch from {_NOW}), 3600) >= {QUIET_MS / 1000} returning extract(epoch from {_NOW})::float8"
)
# The first instant that nobody has reserved; who finds no grant comes back then, see bybit/pace.
_INSTANT: Final = f"greatest(slot_at, next_at - {_TOLERANCE}, {_NOW})"
_RESERVE: Final = text(
    f"update kline.rate_budget set slot_at = {_INSTANT} + make_interval(secs => :step_s / {_SHARE}) "
    f"where venue = :venue returning extract(epoch from slot_at - {_NOW})::float8 - :step_s / {_SHARE}"
)
_WAIT: Final = text(
    f"select extract(epoch from {_NOW})::float8 as now_s, "
    f"extract(epoch from next_at - {_TOLERANCE} - {_NOW})::float8 as wait_s, "
    f"extract(epoch from cool_down_until - {_NOW})::float8 as cool_s, "
    "extract(epoch from cool_down_until)::float8 as cool_until_s, reason from kline.rate_budget where venue = :venue"
)
_LAG: Final = text(
    f"update kline.rate_budget set lag_s = :lag_s, lag_until = {_NOW} + make_interval(secs => {LAG_KEPT_S}) "
    f"where venue = :venue and (lag_until is null or lag_until <= {_NOW} or lag_s <= :lag_s)"
)
_STANDING: Final = text(
    f"select greatest(0, coalesce(extract(epoch from cool_down_until - {_NOW}), 0))::float8 as cool_s, "
    f"coalesce({_SLOW_SHARE}, 1)::float8 as share from kline.rate_budget where venue = :venue"
)
_COOL: Final = text(
    f"update kline.rate_budget set cool_down_until = {_COOL_UNTIL}, reason = :reason "
    f"where venue = :venue and {_COOL_UNTIL} is distinct from cool_down_until"
)
_SLOW: Final = text(
    f"update kline.rate_budget set slow_share = greatest({LEAST_SHARE}, {_SLOW_SHARE} / 2), "
    f"slow_at = {_NOW}, slow_before_at = slow_at, "
    f"cool_down_until = case when {_REPEATED} then {_COOL_UNTIL} else cool_down_until end, "
    f"reason = case when {_REPEATED} and {_COOL_UNTIL} is distinct from cool_down_until then :reason else reason end "
    f"where venue = :venue and coalesce(slow_at <= {_NOW} - make_interval(secs => {SLOW_ONCE_S}), true) "
    "returning slow_share"
)


class DatabaseBudget:
    """A budget in the database; see bybit.ratelimit.Budget.

    Safe in threads, which queue so that one per process asks; a forked child needs one of its own.

    Args:
        database: migrated.
        venue: the exchange whose budget it is.
        requests_per_second: of all processes together.
        clock_ms: UTC milliseconds; None is the clock of the database.
        sleep: how to wait, seconds.
        source: of the instants after the start of an hour; None is one that no two processes share.
    """

    def __init__(
        self,
        database: Database,
        venue: str,
        requests_per_second: float,
        *,
        clock_ms: Callable[[], int] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        source: random.Random | None = None,
    ) -> None:
        at = pace(requests_per_second)
        self._database = database
        self._venue = venue
        self._pace = {"step_s": at.step_s, "tolerance_s": at.tolerance_s}
        self._clock_ms = clock_ms
        self._turns = Turns(self._ask, clock_ms=clock_ms, sleep=sleep, source=source)
        self._connection: Connection | None = None

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        """Return when one request may be sent; see Budget.

        Raises:
            RateLimited: no turn came within `timeout_s`.
            Banned: a cool-down lasts longer than `timeout_s`.
            DatabaseUnavailable: the database went away; no request may be sent.
        """
        self._turns.acquire(timeout_s, lag_s)

    def standing(self) -> Standing:
        """Return how it stands; see Budget."""
        with self._database.translate_errors(), self._autocommit().connect() as connection:
            row = connection.execute(_STANDING, {"venue": self._venue, **self._now()}).one_or_none()
        return Standing(0.0, 1.0) if row is None else Standing(row.cool_s, row.share)

    def cool_down(self, seconds: float, reason: str) -> None:
        """Let nobody send a request for `seconds`; see Budget."""
        self._change(_COOL, seconds, reason)

    def slow_down(self, reason: str) -> None:
        """Halve the pace of everybody; see Budget."""
        share = self._change(_SLOW, SLOW_COOL_S, repeated(reason))
        if share is not None:
            tell_slow_down(share, reason)

    def close(self) -> None:
        """Close the connection; a later `acquire` opens another one."""
        self._forget()

    def _ask(self, lag_s: float, reserved: bool) -> Reply:  # noqa: FBT001 - as Turns asks
        try:
            with self._database.translate_errors():
                connection = self._connected()
                key = {"venue": self._venue, **self._now()}
                if lag_s >= LAG_LEAST_S:
                    connection.execute(_LAG, {**key, "lag_s": lag_s})
                asked = {**key, **self._pace, "reserved": reserved}
                granted_s: float | None = connection.execute(_GRANT, asked).scalar()
                if granted_s is not None:
                    return Reply(granted=True, now_ms=int(granted_s * 1000))
                row = connection.execute(_WAIT, asked).one()
                now_ms, cooling = int(row.now_s * 1000), row.cool_s is not None and row.cool_s > 0
                wait_s = row.wait_s
                if not (cooling or reserved or is_quiet(now_ms)):
                    wait_s, reserved = connection.execute(_RESERVE, asked).scalar_one(), True
        except BaseException:
            self._forget()
            raise
        if not cooling:
            return Reply(granted=False, now_ms=now_ms, wait_ms=ceil(wait_s * 1000), reserved=reserved)
        until_ms = round(row.cool_until_s * 1000)
        wait_ms = ceil(row.cool_s * 1000)
        return Reply(False, now_ms, wait_ms, cool_until_ms=until_ms, reason=row.reason or "")  # noqa: FBT003

    def _change(self, statement: TextClause, seconds: float, reason: str) -> float | None:
        values = {"venue": self._venue, "seconds": seconds, "reason": brief(reason), **self._now()}
        # Not on the connection of who waits for a turn, possibly for long: this must be known at once.
        with self._database.translate_errors(), self._autocommit().connect() as connection:
            connection.execute(_ADD, values)
            result = connection.execute(statement, values)
            return result.scalar() if result.returns_rows else None

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._autocommit().connect()
            self._connection.execute(_ADD, {"venue": self._venue, **self._now()})
        return self._connection

    def _autocommit(self) -> Engine:
        return self._database.engine.execution_options(isolation_level="AUTOCOMMIT")

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _now(self) -> dict[str, float | None]:
        return {"now_s": None if self._clock_ms is None else self._clock_ms() / 1000}
