"""The wording of a fault plan: a JSON list of objects, each with one kind of fault as its key.

    {"drop":      {"category": "linear", "symbol": "BTCUSDT", "interval": "1",
                   "open_time": "2024-02-10T00:05"}}        the candle does not exist
    {"duplicate": {... open_time}}                          its row comes twice
    {"contradict": {... open_time}}                         twice, with different numbers
    {"correct":   {... open_time, "close": "1", "volume": "2"}}    a late correction
    {"wrong_symbol": {..., "answer": "ETHUSDT"}}            result.symbol is another one
    {"http": {"status": 503}}   {"ret_code": {"code": 10006}}   {"ban": {"seconds": 600}}
    {"country_block": {}}   {"slow": {"seconds": 3}}   {"reset": {}}   {"truncate": {}}

Every fault takes category, symbol, interval and path (kline, instruments-info, time, query-api) to
say which requests it meets; what is left out matches all (without interval a dropped candle is
missing from every interval that has one at that open_time; with it, the others stay as they are).
`times` ends it after so many hits, `probability` lets chance decide, the same way for the same seed.
A ban happens once unless it says otherwise. What faults do stands in faults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kline_pipeline.simulator.grid import INTERVALS, parse_time_ms
from kline_pipeline.simulator.history import CATEGORIES

ROW_KINDS = ("drop", "duplicate", "contradict", "correct")
# What each kind needs, and what it may have besides the words that every kind takes.
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ROW_KINDS, ("category", "symbol", "open_time")),
    "wrong_symbol": (),
    "http": ("status",),
    "ret_code": ("code",),
    "ban": ("seconds",),
    "country_block": (),
    "slow": ("seconds",),
    "reset": (),
    "truncate": (),
}
EXTRAS: dict[str, tuple[str, ...]] = {
    "correct": ("close", "volume"),
    "contradict": ("close", "volume"),
    "wrong_symbol": ("answer",),
    "ret_code": ("message",),
}
COMMON = ("category", "symbol", "interval", "path", "times", "probability")
PATHS = ("kline", "instruments-info", "time", "query-api")


class FaultPlanError(ValueError):
    """A fault plan cannot be read; the message is one sentence that says what to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One line of a plan; None matches everything, `details` are the words of its kind."""

    kind: str
    category: str | None
    symbol: str | None
    interval: str | None
    path: str | None
    open_time_ms: int | None
    times: int | None
    probability: float | None
    details: Mapping[str, Any]
    source: Mapping[str, Any]


def parse_plan(plan: Any) -> list[Fault]:
    """Return the faults of a plan given as parsed JSON, in its order.

    Raises:
        FaultPlanError: the plan is not a list of faults as the module's docstring describes them.
    """
    if not isinstance(plan, Sequence) or isinstance(plan, str | bytes):
        raise FaultPlanError("A fault plan must be a JSON list of faults.")
    return [_parse(item) for item in plan]


def _parse(item: Any) -> Fault:
    if not isinstance(item, Mapping) or len(item) != 1:
        raise FaultPlanError(f'Each fault must be an object like {{"drop": {{...}}}}, not {item!r}.')
    ((kind, words),) = item.items()
    if kind not in NEEDS:
        raise FaultPlanError(f"Unknown fault {kind!r}: use one of {', '.join(NEEDS)}.")
    if not isinstance(words, Mapping):
        raise FaultPlanError(f"The fault {kind} must have an object as its value, not {words!r}.")
    allowed = {*COMMON, *NEEDS[kind], *EXTRAS.get(kind, ())}
    unknown = sorted(set(words) - allowed)
    if unknown:
        raise FaultPlanError(f"The fault {kind} does not take {', '.join(unknown)}.")
    absent = [name for name in NEEDS[kind] if name not in words]
    if absent:
        raise FaultPlanError(f"The fault {kind} needs {', '.join(absent)}.")
    _check(kind, words)
    return Fault(
        kind=kind,
        category=words.get("category"),
        symbol=words.get("symbol"),
        interval=words.get("interval"),
        path=words.get("path"),
        open_time_ms=_open_time(kind, words),
        times=words.get("times", 1 if kind == "ban" else None),
        probability=words.get("probability"),
        details={name: words[name] for name in words if name not in COMMON},
        source=item,
    )


def _check(kind: str, words: Mapping[str, Any]) -> None:
    for name, choices in (("category", CATEGORIES), ("interval", INTERVALS), ("path", PATHS)):
        if name in words and words[name] not in choices:
            raise FaultPlanError(f"The fault {kind} has {name} {words[name]!r}: use one of {', '.join(choices)}.")
    for name in ("symbol", "answer", "message", "close", "volume"):
        if name in words and not isinstance(words[name], str):
            raise FaultPlanError(f"The fault {kind} needs {name} as text, not {words[name]!r}.")
    for name, low, high in (("times", 1, 10**9), ("status", 400, 599), ("code", 1, 10**6)):
        if name in words and not (type(words[name]) is int and low <= words[name] <= high):
            raise FaultPlanError(
                f"The fault {kind} needs {name} as a whole number from {low} to {high}, not {words[name]!r}."
            )
    for name, top in (("probability", 1.0), ("seconds", 86_400.0)):
        if name in words and not (type(words[name]) in {int, float} and 0 < float(words[name]) <= top):
            raise FaultPlanError(f"The fault {kind} needs {name} above 0 and at most {top:g}, not {words[name]!r}.")


def _open_time(kind: str, words: Mapping[str, Any]) -> int | None:
    if "open_time" not in words:
        return None
    try:
        return parse_time_ms(str(words["open_time"]))
    except ValueError as error:
        raise FaultPlanError(
            f"The fault {kind} has open_time {words['open_time']!r}: "
            "give milliseconds or an ISO time such as 2024-02-10T00:05."
        ) from error
