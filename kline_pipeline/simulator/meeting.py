"""One request and the faults that meet it: what they do to its answer, its rows and its way.

Which faults meet a request is decided in faults, before any of this.
"""

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from kline_pipeline.simulator import wire
from kline_pipeline.simulator.fault_plan import COLUMNS, ROW_KINDS, Fault
from kline_pipeline.simulator.history import Row
from kline_pipeline.simulator.wire import Response


@dataclass(frozen=True, slots=True)
class Request:
    """What faults and statistics need to know of a request; `query` is as it was sent, `text` the same sorted."""

    kind: str
    category: str
    symbol: str
    interval: str
    query: Mapping[str, str]
    text: str


@dataclass(slots=True)
class Ban:
    """Until when, by the true clock, everything is answered 403."""

    until_ms: int = 0


class ActiveFault:
    """A fault in force and how often it has hit."""

    def __init__(self, fault: Fault) -> None:
        """Begin without hits."""
        self.fault = fault
        self.hits = 0
        self._lock = threading.Lock()

    def spent(self) -> bool:
        """Say whether it has hit as often as it may."""
        return self.fault.times is not None and self.hits >= self.fault.times

    def take(self) -> bool:
        """Count a hit and return True, False where the fault is spent."""
        with self._lock:
            if self.spent():
                return False
            self.hits += 1
            return True


class Meeting:
    """A request and the faults that meet it, in the order of the plan.

    Attributes:
        now_ms: the exchange's own clock as it shows in the answer.
    """

    def __init__(
        self, request: Request, active: Sequence[ActiveFault], *, arrived_ms: int, now_ms: int, ban: Ban, seed: int
    ) -> None:
        """Meet `request`, which came at `arrived_ms` of the true clock."""
        self.now_ms = now_ms
        self._request, self._active = request, active
        self._arrived_ms, self._ban, self._seed = arrived_ms, ban, seed

    def instead(self) -> Response | None:
        """Return what is answered instead of the truth, None to go on."""
        if self._arrived_ms < self._ban.until_ms:
            return wire.http_error(403)
        fault = self._taken("http", "ret_code", "ban", "country_block")
        if fault is None:
            return None
        if fault.kind == "ban":
            self._ban.until_ms = self._arrived_ms + round(fault.details["seconds"] * 1000)
            return wire.http_error(403)
        if fault.kind == "http":
            return wire.http_error(fault.details["status"])
        if fault.kind == "ret_code":
            return wire.refusal(fault.details["code"], self.now_ms, message=fault.details.get("message", ""))
        return wire.country_block()

    def dropped(self) -> frozenset[str]:
        """Return the open_times, as in a row, that do not exist in the series of the request."""
        return frozenset(str(one.fault.open_time_ms) for one in self._of("drop"))

    def candles_clock_ms(self) -> int:
        """Return the time by which candles are as far as they are: the exchange's own clock, or the true one."""
        return self._arrived_ms if self._taken("partial") else self.now_ms

    def last_open_ms(self, until_ms: int) -> int:
        """Return `until_ms`, or the last time before a series became stale."""
        stale = [one for one in self._of("stale") if (one.fault.after_ms or 0) <= until_ms and one.take()]
        return min([until_ms, *((one.fault.after_ms or 0) - 1 for one in stale)])

    def page(self, rows: list[Row]) -> list[Row]:
        """Return the rows after duplicates, contradictions, corrections, swaps, shuffling, and the loss of all."""
        self._count_drops(rows)
        for kind in ROW_KINDS[1:]:
            for one in self._of(kind):
                rows = _changed_rows(one, rows)
        for one in self._of("swap"):
            rows = _swapped(one, rows)
        if len(rows) > 1 and self._taken("shuffle"):
            rows = self._shuffled(rows)
        return [] if rows and self._taken("empty") else rows

    def named(self) -> tuple[str, str]:
        """Return result.symbol and result.category."""
        symbol, category = self._request.symbol, self._request.category
        other = self._taken("wrong_symbol")
        if other is not None:
            symbol = other.details.get("answer", "ETHUSDT" if symbol != "ETHUSDT" else "BTCUSDT")
        other = self._taken("wrong_category")
        if other is not None:
            category = other.details.get("answer", "spot" if category != "spot" else "linear")
        return symbol, category

    def on_the_way(self, response: Response) -> Response:
        """Return the answer after what happens to it between the exchange and the caller."""
        if not self._active:
            return response
        named = self._taken("limit_headers") if response.outcome in {"ok", "empty"} else None
        if named is not None:
            response = replace(response, headers={**response.headers, **self._limit_headers(named)})
        slow = self._taken("slow")
        if slow is not None:
            response = replace(response, delay_s=float(slow.details["seconds"]))
        broken = self._taken("reset", "truncate")
        if broken is None:
            return response
        if broken.kind == "reset":
            return replace(response, reset=True, outcome="reset", candles=0)
        half = response.body[: len(response.body) // 2]
        return replace(response, body=half, outcome="truncated", candles=0)

    def _of(self, *kinds: str) -> Iterable[ActiveFault]:
        return (one for one in self._active if one.fault.kind in kinds)

    def _taken(self, *kinds: str) -> Fault | None:
        return next((one.fault for one in self._of(*kinds) if one.take()), None)

    def _count_drops(self, rows: list[Row]) -> None:
        if rows:
            newest, oldest = int(rows[0][0]), int(rows[-1][0])
            for one in self._of("drop"):
                if oldest <= (one.fault.open_time_ms or 0) <= newest:
                    one.take()

    def _shuffled(self, rows: list[Row]) -> list[Row]:
        def drawn(row: Row) -> bytes:
            return hashlib.blake2b(f"{self._seed}:{self._request.text}:{row[0]}".encode(), digest_size=8).digest()

        mixed = sorted(rows, key=drawn)
        return mixed if mixed != rows else [*rows[1:], rows[0]]

    def _limit_headers(self, fault: Fault) -> dict[str, str]:
        return {
            "X-Bapi-Limit": str(fault.details["limit"]),
            "X-Bapi-Limit-Status": str(fault.details["remaining"]),
            "X-Bapi-Limit-Reset-Timestamp": str(fault.details.get("reset_ms", self.now_ms)),
        }


def _changed_rows(one: ActiveFault, rows: list[Row]) -> list[Row]:
    fault = one.fault
    at = next((i for i, row in enumerate(rows) if row[0] == str(fault.open_time_ms)), None)
    if at is None or not one.take():
        return rows
    put = {
        "duplicate": [rows[at], rows[at]],
        "contradict": [rows[at], _different(rows[at], fault)],
        "correct": [_different(rows[at], fault)],
    }[fault.kind]
    return [*rows[:at], *put, *rows[at + 1 :]]


def _swapped(one: ActiveFault, rows: list[Row]) -> list[Row]:
    only = one.fault.open_time_ms
    if not any(only is None or row[0] == str(only) for row in rows) or not one.take():
        return rows
    left, right = (COLUMNS.index(name) + 1 for name in one.fault.details["columns"])
    order = list(range(len(COLUMNS) + 1))
    order[left], order[right] = right, left
    # Seven cells of a row in another order are still seven.
    return [tuple(row[n] for n in order) if only is None or row[0] == str(only) else row for row in rows]  # type: ignore[misc]


def _different(row: Row, fault: Fault) -> Row:
    # Still a well-formed candle, so that only the rule about contradictions can object.
    opened, begin, high, low, close, volume, turnover = row
    close = fault.details.get("close", high if close != high else low)
    if close == row[4] and "close" not in fault.details:
        high = close = str(Decimal(close) * 2)
    if "volume" in fault.details:
        volume = fault.details["volume"]
    high = max(high, close, key=Decimal)
    low = min(low, close, key=Decimal)
    return opened, begin, high, low, close, volume, turnover
