"""The wording of a fault plan: a JSON list of objects, each with one kind of fault as its key.

    {"drop":      {"category": "linear", "symbol": "BTCUSDT", "interval": "1",
                   "open_time": "2024-02-10T00:05"}}        the candle does not exist
    {"duplicate": {... open_time}}                          its row comes twice
    {"contradict": {... open_time}}                         twice, with different numbers
    {"correct":   {... open_time, "close": "1", "volume": "2"}}    a late correction
    {"wrong_symbol": {..., "answer": "ETHUSDT"}}            result.symbol is another one
    {"wrong_category": {..., "answer": "spot"}}             result.category is another one
    {"empty": {}}                                           a page without rows: a lost page
    {"swap": {"columns": ["volume", "turnover"]}}           two columns of a row change places; of
                                                            one candle with open_time, else of all
    {"stale": {"after": "2024-02-10T00:05"}}                no candle opens from then on
    {"partial": {}}                                         candles by the true clock, see below
    {"shuffle": {}}                                         the rows of a page in another order
    {"clock_skew": {"seconds": -3}}                         the exchange's clock is off by so much
    {"limit_headers": {"limit": 50, "remaining": 2, "reset_ms": 1704067200000}}
    {"http": {"status": 503}}   {"ret_code": {"code": 10006}}   {"ban": {"seconds": 600}}
    {"country_block": {}}   {"slow": {"seconds": 3}}   {"reset": {}}   {"truncate": {}}

Every fault takes category, symbol, interval and path (kline, instruments-info, time, query-api) to
say which requests it meets, and `query`, an object of parameters that must be in the request with
exactly these values; what is left out matches all (without interval a dropped candle is missing
from every interval that has one at that open_time; with it, the others stay as they are). Of the
requests that match, `nth` (a number or a list, from 1) chooses; `times` ends a fault after so many
hits; `probability` lets chance decide, the same way for the same seed. A correction with `after`
(a time) is in force from that server time on; a stale series lacks what opens at `after` or later.
A skewed clock shows in every answer and decides
what counts as open and how far it has come; the limit per IP and a ban go by the true one. With
`partial` candles go by the true clock too: one that a clock ahead of it takes for closed comes with
the trades so far. Without reset_ms the headers
carry the time of the answer, as they do while no limit is exceeded. A ban happens once unless it
says otherwise. What faults do stands in meeting.
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
    "wrong_category": (),
    "empty": (),
    "swap": ("columns",),
    "stale": ("after",),
    "partial": (),
    "shuffle": (),
    "clock_skew": ("seconds",),
    "limit_headers": ("limit", "remaining"),
    "http": ("status",),
    "ret_code": ("code",),
    "ban": ("seconds",),
    "country_block": (),
    "slow": ("seconds",),
    "reset": (),
    "truncate": (),
}
EXTRAS: dict[str, tuple[str, ...]] = {
    "correct": ("close", "volume", "after"),
    "contradict": ("close", "volume"),
    "wrong_symbol": ("answer",),
    "wrong_category": ("answer",),
    "swap": ("open_time",),
    "limit_headers": ("reset_ms",),
    "ret_code": ("message",),
}
COMMON = ("category", "symbol", "interval", "path", "query", "nth", "times", "probability")
LONGEST_S = 86_400.0
WHOLE_NUMBERS = {
    "times": (1, 10**9),
    "status": (400, 599),
    "code": (1, 10**6),
    "limit": (1, 10**6),
    "remaining": (0, 10**6),
    "reset_ms": (0, 10**15),
}
COLUMNS = ("open", "high", "low", "close", "volume", "turnover")
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
    query: Mapping[str, str]
    open_time_ms: int | None
    after_ms: int | None
    nth: frozenset[int] | None
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
        query=words.get("query", {}),
        open_time_ms=_time_ms(kind, "open_time", words),
        after_ms=_time_ms(kind, "after", words),
        nth=_nth(kind, words),
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
    for name, (low, high) in WHOLE_NUMBERS.items():
        if name in words and not _is_whole(words[name], low, high):
            raise FaultPlanError(
                f"The fault {kind} needs {name} as a whole number from {low} to {high}, not {words[name]!r}."
            )
    for name, top in (("probability", 1.0), ("seconds", LONGEST_S)):
        number = _magnitude(words[name], signed=kind == "clock_skew") if name in words else top
        if not 0 < number <= top:
            raise FaultPlanError(f"The fault {kind} needs {name} above 0 and at most {top:g}, not {words[name]!r}.")
    _check_columns(kind, words)
    query = words.get("query", {})
    if not isinstance(query, Mapping) or not all(isinstance(value, str) for value in query.values()):
        raise FaultPlanError(f'The fault {kind} needs query as an object of texts like {{"end": "0"}}, not {query!r}.')


def _check_columns(kind: str, words: Mapping[str, Any]) -> None:
    columns = words.get("columns", list(COLUMNS[:2]))
    two = isinstance(columns, list) and len(columns) == 2  # noqa: PLR2004 - two change places
    if not two or not all(name in COLUMNS for name in columns):
        raise FaultPlanError(f"The fault {kind} needs columns as two of {', '.join(COLUMNS)}, not {columns!r}.")


def _is_whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _magnitude(value: Any, *, signed: bool) -> float:
    if type(value) not in {int, float}:
        return 0.0
    return abs(float(value)) if signed else float(value)


def _nth(kind: str, words: Mapping[str, Any]) -> frozenset[int] | None:
    if "nth" not in words:
        return None
    numbers = words["nth"] if isinstance(words["nth"], list) else [words["nth"]]
    if not numbers or not all(_is_whole(number, 1, 10**9) for number in numbers):
        raise FaultPlanError(
            f"The fault {kind} needs nth as a number from 1 on or a list of them, not {words['nth']!r}."
        )
    return frozenset(numbers)


def _time_ms(kind: str, name: str, words: Mapping[str, Any]) -> int | None:
    if name not in words:
        return None
    try:
        return parse_time_ms(str(words[name]))
    except ValueError as error:
        raise FaultPlanError(
            f"The fault {kind} has {name} {words[name]!r}: give milliseconds or an ISO time such as 2024-02-10T00:05."
        ) from error
