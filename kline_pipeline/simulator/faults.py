"""What goes wrong on purpose: a plan of faults applied to requests, answers and rows.

The wording of a plan stands in fault_plan. Chance depends on the seed, the fault, the request and
how often that request came, so it does not depend on the order in which threads ask.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from kline_pipeline.simulator import wire
from kline_pipeline.simulator.fault_plan import ROW_KINDS, Fault, parse_plan
from kline_pipeline.simulator.history import Row
from kline_pipeline.simulator.wire import Response


@dataclass(frozen=True, slots=True)
class Request:
    """What faults and statistics need to know of a request; `text` is its sorted query."""

    kind: str
    category: str
    symbol: str
    interval: str
    text: str


class FaultPlan:
    """The faults in force; empty at first. Safe to change and use from many threads."""

    def __init__(self, seed: int = 0) -> None:
        """Begin without faults; `seed` decides what probability does."""
        self._seed = seed
        self._lock = threading.RLock()
        self._faults: list[Fault] = []
        self._hits: list[int] = []
        self._asked: Counter[tuple[int, str]] = Counter()
        self._banned_until_ms = 0

    def replace(self, plan: Any) -> None:
        """Put this plan (a list as in fault_plan) in the place of what was in force.

        Raises:
            FaultPlanError: the plan cannot be read; then nothing changes.
        """
        faults = parse_plan(plan)
        with self._lock:
            self._faults, self._hits = faults, [0] * len(faults)
            self._asked.clear()
            self._banned_until_ms = 0

    def add(self, plan: Any) -> None:
        """Put these faults in force besides the others.

        Raises:
            FaultPlanError: the plan cannot be read; then nothing changes.
        """
        faults = parse_plan(plan)
        with self._lock:
            self._faults.extend(faults)
            self._hits.extend([0] * len(faults))

    def clear(self) -> None:
        """Take all faults away and lift a ban."""
        self.replace([])

    def plan(self) -> list[dict[str, Any]]:
        """Return the faults as they were given, each with the number of its hits so far."""
        with self._lock:
            pairs = zip(self._faults, self._hits, strict=True)
            return [{**fault.source, "hits": hits} for fault, hits in pairs]

    def answer(self, request: Request, now_ms: int) -> Response | None:
        """Return what is answered instead of the truth, None to go on."""
        with self._lock:
            if now_ms < self._banned_until_ms:
                return wire.http_error(403)
            fault = self._hit(request, ("http", "ret_code", "ban", "country_block"))
            if fault is None:
                return None
            if fault.kind == "ban":
                self._banned_until_ms = now_ms + round(fault.details["seconds"] * 1000)
                return wire.http_error(403)
        if fault.kind == "http":
            return wire.http_error(fault.details["status"])
        if fault.kind == "ret_code":
            code, message = fault.details["code"], fault.details.get("message", "")
            return wire.refusal(code, now_ms, message=message)
        return wire.country_block()

    def dropped(self, request: Request) -> frozenset[str]:
        """Return the open_times, as in a row, that do not exist in the series of `request`."""
        if not self._faults:
            return frozenset()
        with self._lock:
            chosen = [i for i, fault in enumerate(self._faults) if fault.kind == "drop" and self._active(i, request)]
            return frozenset(str(self._faults[i].open_time_ms) for i in chosen)

    def disturbed_page(self, request: Request, rows: list[Row]) -> tuple[str, list[Row]]:
        """Return result.symbol and the rows after duplicates, contradictions and corrections."""
        if not self._faults:
            return request.symbol, rows
        with self._lock:
            self._count_drops(request, rows)
            for kind in ROW_KINDS[1:]:
                rows = self._changed_rows(kind, request, rows)
            fault = self._hit(request, ("wrong_symbol",))
        if fault is None:
            return request.symbol, rows
        other = "ETHUSDT" if request.symbol != "ETHUSDT" else "BTCUSDT"
        return fault.details.get("answer", other), rows

    def disturbed(self, request: Request, response: Response) -> Response:
        """Return the answer after what happens to it on the way."""
        if not self._faults:
            return response
        with self._lock:
            slow = self._hit(request, ("slow",))
            broken = self._hit(request, ("reset", "truncate"))
        if slow is not None:
            response = replace(response, delay_s=float(slow.details["seconds"]))
        if broken is None:
            return response
        if broken.kind == "reset":
            return replace(response, reset=True, outcome="reset", candles=0)
        half = response.body[: len(response.body) // 2]
        return replace(response, body=half, outcome="truncated", candles=0)

    def _active(self, index: int, request: Request) -> bool:
        fault = self._faults[index]
        return (
            fault.path in {None, request.kind}
            and fault.category in {None, request.category}
            and fault.symbol in {None, request.symbol}
            and fault.interval in {None, request.interval}
            and (fault.times is None or self._hits[index] < fault.times)
        )

    def _hit(self, request: Request, kinds: Iterable[str]) -> Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.kind in kinds and self._active(index, request):
                if not self._by_chance(index, request):
                    continue
                self._hits[index] += 1
                return fault
        return None

    def _by_chance(self, index: int, request: Request) -> bool:
        probability = self._faults[index].probability
        if probability is None:
            return True
        asked = (index, f"{request.kind}?{request.text}")
        self._asked[asked] += 1
        word = f"{self._seed}:{index}:{asked[1]}:{self._asked[asked]}".encode()
        drawn = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "big")
        return drawn / 2.0**64 < probability

    def _changed_rows(self, kind: str, request: Request, rows: list[Row]) -> list[Row]:
        for index, fault in enumerate(self._faults):
            if fault.kind != kind or not self._active(index, request):
                continue
            at = next((i for i, r in enumerate(rows) if r[0] == str(fault.open_time_ms)), None)
            if at is None or not self._by_chance(index, request):
                continue
            self._hits[index] += 1
            put = {
                "duplicate": [rows[at], rows[at]],
                "contradict": [rows[at], _different(rows[at], fault)],
                "correct": [_different(rows[at], fault)],
            }[kind]
            rows = [*rows[:at], *put, *rows[at + 1 :]]
        return rows

    def _count_drops(self, request: Request, rows: list[Row]) -> None:
        if not rows:
            return
        newest, oldest = int(rows[0][0]), int(rows[-1][0])
        for index, fault in enumerate(self._faults):
            if fault.kind == "drop" and self._active(index, request):
                self._hits[index] += oldest <= (fault.open_time_ms or 0) <= newest


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
