"""Probes: each looks at one thing again and again, in a thread of its own; looks and exchange_looks say at what.

An answer of the service never waits for a look. It tells the newest result with its age, and a look that has not come
back in time counts as failed. The number of threads is fixed: a look that hangs keeps its own thread busy and no other.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from kline_pipeline.errors import KlineError
from kline_pipeline.metrics import Reading

logger: Final = logging.getLogger(__name__)
Status = Literal["ok", "degraded", "failed"]
Fact = str | int | float | None
_OVERSEE_S: Final = 0.5
_AGAIN_S: Final = 2.0  # after a look that failed: a return is to be seen soon
_LATE_S: Final = 5.0  # that a busy machine may begin a look late


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has seen.

    Attributes:
        status: ok; degraded: it works and something should be done, or nobody can tell; failed: it does not work.
        seen: one sentence for everybody: no path, host, user or text of an error.
        facts: shown beside it, by name with unit.
        readings: of the metrics that it is about.
        asked_s: when what it tells was asked for, where that was at an earlier look.
        reason: why, with everything that helps; for the log alone.
    """

    status: Status
    seen: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    readings: Sequence[Reading] = ()
    asked_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a probe at one moment.

    Attributes:
        name: of what is looked at.
        status, seen, facts: of the newest look, or that there is none in time.
        age_s: seconds since that look began; None before the first has come back.
        readings: none where the newest look is too old.
    """

    name: str
    status: Status
    seen: str
    age_s: float | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    readings: Sequence[Reading] = ()


class Probe:
    """One thing that is looked at.

    Args:
        name: of it.
        look: one look; what it raises is a failure, and is told in the log alone.
        period_s: from one look to the next.
        deadline_s: a look that takes longer counts as hanging.
        give_up: breaks off a look that hangs, called from another thread, any number of times.
        unknown: readings while looks fail, or none has come back in time.
        clock_s: a clock that only goes forward, seconds.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Look],
        *,
        period_s: float,
        deadline_s: float,
        give_up: Callable[[], None] = lambda: None,
        unknown: Sequence[Reading] = (),
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.period_s = period_s
        self._look = look
        self._deadline_s = deadline_s
        self._give_up = give_up
        self._unknown = unknown
        self._clock_s = clock_s
        self._began_s: float | None = None
        self._last: tuple[Look, float] | None = None  # with the time of its beginning

    def run_once(self) -> Look:
        """Look once, in this thread, and return what was seen."""
        began_s = self._began_s = self._clock_s()
        try:
            look = self._look()
        except KlineError as exc:
            look = self._failed(exc)
            self._tell(look)
        except Exception as exc:  # noqa: BLE001 - what a probe did not expect is told too, and it looks again
            look = self._failed(exc)
            self._tell(look, exc)
        else:
            self._tell(look)
        self._last = look, began_s if look.asked_s is None else look.asked_s
        self._began_s = None
        return look

    def wait_s(self) -> float:
        """Return how long to wait before the next look."""
        failed = self._last is not None and self._last[0].status == "failed"
        return min(_AGAIN_S, self.period_s) if failed else self.period_s

    def state(self) -> State:
        """Return what is known now; never waits."""
        last, began_s, now_s = self._last, self._began_s, self._clock_s()
        age_s = None if last is None else max(0.0, now_s - last[1])
        if began_s is not None and now_s - began_s > self._deadline_s:
            seen = f"a look at it has not come back for {now_s - began_s:.0f} s: it hangs"
            return State(self.name, "failed", seen, age_s, readings=self._unknown)
        if last is None or age_s is None:
            return State(self.name, "failed", "it has not been looked at yet", readings=self._unknown)
        oldest_s = self.period_s + self._deadline_s + _LATE_S
        if last[0].asked_s is None and age_s > oldest_s:
            seen = f"the last look is {age_s:.0f} s old, and no newer one has come back: it hangs"
            return State(self.name, "failed", seen, age_s, readings=self._unknown)
        return State(self.name, last[0].status, last[0].seen, age_s, last[0].facts, last[0].readings)

    def oversee(self) -> None:
        """Break off a look that hangs."""
        began_s = self._began_s
        if began_s is not None and self._clock_s() - began_s > self._deadline_s:
            self._give_up()

    def _failed(self, error: Exception) -> Look:
        seen = f"the look at it failed ({type(error).__name__}); the log of the service says more"
        return Look("failed", seen, readings=self._unknown, reason=str(error))

    def _tell(self, look: Look, defect: Exception | None = None) -> None:
        """Log what is news, once: a look that fails for an hour is one line."""
        if self._last is not None and self._last[0].status == look.status:
            return
        why = (look.reason or look.seen).partition("\n")[0]
        fields = {"probe": self.name, "status": look.status, "reason": why}
        level = logging.INFO if look.status == "ok" else logging.WARNING
        logger.log(level, "%s is %s: %s", self.name, look.status, why, extra=fields, exc_info=defect)


class Probes:
    """All probes of a service: a thread for each, and one that breaks off what hangs; a context manager.

    Attributes:
        parts: what the health of the service is made of, by name.
        series: a probe per series that is asked for.
    """

    def __init__(self, parts: Sequence[Probe], series: Sequence[Probe] = ()) -> None:
        """Prepare; nothing is looked at."""
        self.parts = {probe.name: probe for probe in parts}
        self.series = tuple(series)
        self._end = threading.Event()

    def __enter__(self) -> Self:
        """Begin to look, without waiting for a result."""
        # Daemon threads: one that hangs must not keep the process.
        for probe in self._all():
            threading.Thread(target=self._go_on, args=(probe,), name=f"probe {probe.name}", daemon=True).start()
        threading.Thread(target=self._oversee, name="probe overseer", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Begin no further look; what hangs is left alone."""
        self._end.set()

    def run_once(self) -> None:
        """Look at everything once, in this thread."""
        for probe in self._all():
            probe.run_once()

    def readings(self) -> list[Reading]:
        """Return the readings of what is known now; never waits."""
        return [reading for probe in self._all() for reading in probe.state().readings]

    def _all(self) -> list[Probe]:
        return [*self.parts.values(), *self.series]

    def _go_on(self, probe: Probe) -> None:
        while not self._end.is_set():
            probe.run_once()
            self._end.wait(probe.wait_s())

    def _oversee(self) -> None:
        while not self._end.wait(_OVERSEE_S):
            for probe in self._all():
                probe.oversee()
