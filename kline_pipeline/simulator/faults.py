"""The faults in force and which of them meet a request.

The wording of a plan stands in fault_plan, what a fault does to an answer in meeting. Chance depends
on the seed, the fault, the request and how often that request came, so it does not depend on the
order in which threads ask.
"""

import hashlib
import threading
from collections import Counter
from typing import Any

from kline_pipeline.simulator.fault_plan import Fault, parse_plan
from kline_pipeline.simulator.meeting import ActiveFault, Ban, Meeting, Request


class FaultPlan:
    """The faults in force; empty at first. Safe to change and use from many threads."""

    def __init__(self, seed: int = 0) -> None:
        """Begin without faults; `seed` decides what probability and shuffle do."""
        self._seed = seed
        self._lock = threading.RLock()
        self._active: list[_Counted] = []
        self._ban = Ban()

    def replace(self, plan: Any) -> None:
        """Put this plan (a list as in fault_plan) in the place of what was in force.

        Raises:
            FaultPlanError: the plan cannot be read; then nothing changes.
        """
        faults = parse_plan(plan)
        with self._lock:
            self._active = [_Counted(fault, number) for number, fault in enumerate(faults)]
            self._ban = Ban()

    def add(self, plan: Any) -> None:
        """Put these faults in force besides the others.

        Raises:
            FaultPlanError: the plan cannot be read; then nothing changes.
        """
        faults = parse_plan(plan)
        with self._lock:
            added = [_Counted(fault, number) for number, fault in enumerate(faults, len(self._active))]
            self._active = [*self._active, *added]

    def clear(self) -> None:
        """Take all faults away and lift a ban."""
        self.replace([])

    def plan(self) -> list[dict[str, Any]]:
        """Return the faults as they were given, each with the number of its hits so far."""
        with self._lock:
            return [{**one.fault.source, "hits": one.hits} for one in self._active]

    def meet(self, request: Request, arrived_ms: int) -> Meeting:
        """Count a request that came at `arrived_ms` of the true clock and return what meets it."""
        with self._lock:
            met: list[_Counted] = []
            now_ms = arrived_ms
            if self._active and arrived_ms >= self._ban.until_ms:
                skews = [one for one in self._active if one.fault.kind == "clock_skew"]
                others = [one for one in self._active if one.fault.kind != "clock_skew"]
                skewed = [one for one in skews if one.meets(request, self._seed, arrived_ms)]
                skew_s = next((one.fault.details["seconds"] for one in skewed if one.take()), 0.0)
                now_ms = arrived_ms + round(skew_s * 1000)
                met = [one for one in others if one.meets(request, self._seed, now_ms)]
            return Meeting(request, met, arrived_ms=arrived_ms, now_ms=now_ms, ban=self._ban, seed=self._seed)


class _Counted(ActiveFault):
    """A fault in force that counts the requests it could meet."""

    def __init__(self, fault: Fault, number: int) -> None:
        super().__init__(fault)
        self._number = number
        self._met = 0
        self._asked: Counter[str] = Counter()

    def meets(self, request: Request, seed: int, now_ms: int) -> bool:
        """Count the request if the fault names it and say whether it is one of those to hit."""
        fault = self.fault
        if not _named(fault, request) or (fault.after_ms is not None and now_ms < fault.after_ms):
            return False
        self._met += 1
        if fault.nth is not None and self._met not in fault.nth:
            return False
        return not self.spent() and self._by_chance(request, seed)

    def _by_chance(self, request: Request, seed: int) -> bool:
        if self.fault.probability is None:
            return True
        asked = f"{request.kind}?{request.text}"
        self._asked[asked] += 1
        word = f"{seed}:{self._number}:{asked}:{self._asked[asked]}".encode()
        drawn = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "big")
        return drawn / 2.0**64 < self.fault.probability


def _named(fault: Fault, request: Request) -> bool:
    return (
        fault.path in {None, request.kind}
        and fault.category in {None, request.category}
        and fault.symbol in {None, request.symbol}
        and fault.interval in {None, request.interval}
        and all(request.query.get(name) == value for name, value in fault.query.items())
    )
