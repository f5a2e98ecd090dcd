"""What the service says of the health of the pipeline, and with which HTTP status; how it is asked is told in app.

503 only where traffic should stop: without the database nothing here can work. Without the exchange, a daemon or
room much still can: that is degraded, and 200.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from kline_pipeline.service.probes import Probes, State, Status

_STOPS: Final = "database"
_OK, _UNAVAILABLE = 200, 503


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status, and what is written as JSON."""

    status: int
    content: dict[str, Any]


@cache
def release() -> str:
    """Return the release of the package."""
    try:
        return version("kline-pipeline")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def live() -> Answer:
    """Return that the process answers; nothing else is looked at, as a restart would mend nothing else."""
    return Answer(_OK, {"status": "ok", "version": release()})


def ready(probes: Probes) -> Answer:
    """Return whether the database answers with our tables at the newest revision."""
    state = probes.parts[_STOPS].state()
    return Answer(_code(state), {"status": "ok" if state.status == "ok" else "failed", "parts": {_STOPS: _told(state)}})


def health(probes: Probes) -> Answer:
    """Return the state of every part."""
    states = [probe.state() for probe in probes.parts.values()]
    code = max(_code(state) for state in states)
    process = {"status": "ok", "age_s": 0.0, "seen": "it answers"}
    parts = {"process": process, **{state.name: _told(state) for state in states}}
    return Answer(code, {"status": _worst(states, code), "version": release(), "parts": parts})


def bybit(probes: Probes) -> Answer:
    """Return the state of the exchange and of each series that is asked for; 200 also where they fail."""
    exchange, series = probes.parts["exchange"].state(), [probe.state() for probe in probes.series]
    content = {
        "status": _worst([exchange, *series], _OK),
        "exchange": _told(exchange),
        "series": {state.name: _told(state) for state in series},
    }
    return Answer(_OK, content)


def _code(state: State) -> int:
    return _UNAVAILABLE if state.name == _STOPS and state.status == "failed" else _OK


def _worst(states: Iterable[State], code: int) -> Status:
    if code != _OK:
        return "failed"
    return "ok" if all(state.status == "ok" for state in states) else "degraded"


def _told(state: State) -> dict[str, Any]:
    age_s = None if state.age_s is None else round(state.age_s, 1)
    return {"status": state.status, "age_s": age_s, "seen": state.seen, **state.facts}
