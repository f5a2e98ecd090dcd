"""When an instrument really had candles: its lives, found by probes; never from fetched partitions.

launchTime is not the first candle and spot has none (bybit-v5.md 2.1), so monthly and daily candles
say on which days a life begins and ends, and edges finds the exact candle near those days. What was
asked and answered is kept as evidence. A hole without a whole UTC day in it is not seen here.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.edges import Edge, Prober, first_edge, last_edge
from kline_pipeline.bybit.instruments import Instrument
from kline_pipeline.bybit.pages import MAX_SLOTS
from kline_pipeline.bybit.side_by_side import side_by_side
from kline_pipeline.errors import BadInterval, BadSymbol, MalformedAnswer
from kline_pipeline.log.about import AboutThreads
from kline_pipeline.market.interval import INTERVAL_CODES, Interval
from kline_pipeline.market.listing import NEVER_MS, Listing
from kline_pipeline.market.window import Window, iso, windows_of

_DAY: Final = Interval("D")
_MONTH: Final = Interval("M")
BEGINNING_MS: Final = 1_483_228_800_000  # 2017-01-01; Bybit's candles begin in 2018 (bybit-v5.md 5.1)
_OTHER_STATUSES: Final = ("Closed", "PreLaunch", "Delivering")
_GOING_ON: Final = frozenset({"PreLaunch", "Trading"})
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Life:
    """One listing of an instrument, UTC milliseconds.

    Attributes:
        from_ms: open time of the first candle.
        until_ms: close of the last candle, exclusive; None while it goes on.
    """

    from_ms: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Lives:
    """Every listing of an instrument under one name.

    Attributes:
        category, symbol: its name.
        lives: ascending and disjoint; empty for one that is known and has no candle yet.
        instrument: as instruments-info describes it, None where it does not know it.
        probed_at_ms: server time of the newest answer, UTC.
        evidence: what was asked and answered, ready for JSON.
    """

    category: str
    symbol: str
    lives: tuple[Life, ...]
    instrument: Instrument | None
    probed_at_ms: int
    evidence: dict[str, Any]

    @property
    def listing(self) -> Listing:
        """The lives as windows; empty for an instrument without a candle yet."""
        windows = (Window(life.from_ms, NEVER_MS if life.until_ms is None else life.until_ms) for life in self.lives)
        return Listing(tuple(windows), self.probed_at_ms)


def probe_lives(client: BybitClient, category: str, symbol: str, *, grace_ms: int) -> Lives:
    """Return the lives of an instrument, asked of the exchange: 7 requests for linear BTCUSDT, in 4 rounds.

    Args:
        client: of the exchange.
        category: linear, inverse or spot.
        symbol: as the exchange spells it.
        grace_ms: a candle counts as closed this long after its end.

    Raises:
        BadSymbol: instruments-info does not know it, and it is not spot or has no candle.
        MalformedAnswer: daily and monthly candles contradict each other.
        ExchangeError: no usable answer after all attempts.
    """
    prober = Prober(client, category, symbol)
    now_ms = client.server_time_ms_seen or client.server_time_ms()
    with AboutThreads(1, "months") as threads:
        asked = threads.submit(prober.times, _MONTH, Window(BEGINNING_MS, _MONTH.shift(_MONTH.floor(now_ms), 1)))
        instrument = find_instrument(client, category, symbol)
    # Candles of an unknown name prove something for spot alone: inverse answers for a linear
    # symbol with linear candles (bybit-v5.md 1.3).
    known = instrument is not None
    ends = _ends(prober, instrument, now_ms, asked.result) if known or category == "spot" else []
    if not ends and not known:
        msg = f"{client.host} knows no {category} instrument {symbol}, listed or delisted"
        raise BadSymbol(f"{msg}; check the symbol and its category")
    lives = [Life(first.time_ms, last.time_ms) for first, last in ends]
    if lives and _goes_on(instrument, ends[-1][1], now_ms - grace_ms):
        lives[-1] = Life(lives[-1].from_ms, None)
    evidence = {
        "host": client.host,
        "instrument": asdict(instrument) if instrument else None,
        "candle_requests": prober.asked,
        "edges": [[_told(first), _told(last)] for first, last in ends],
    }
    return Lives(category, symbol, tuple(lives), instrument, client.server_time_ms_seen, evidence)


def find_instrument(client: BybitClient, category: str, symbol: str) -> Instrument | None:
    """Return what instruments-info says of a symbol, of whatever status; None if it knows none.

    Raises:
        ExchangeError: no usable answer after all attempts.
    """
    # Spot offers Trading only (bybit-v5.md 2.1).
    for status in (None,) if category == "spot" else (None, *_OTHER_STATUSES):
        try:
            found = client.instruments(category, symbol=symbol, status=status)
        except BadSymbol:
            continue
        for instrument in found:
            if instrument.symbol == symbol:
                return instrument
    return None


def _ends(
    prober: Prober, instrument: Instrument | None, now_ms: int, months: Callable[[], Times]
) -> list[tuple[Edge, Edge]]:
    """Return the first and last candle of each life, ascending; where one goes on, its day."""
    try:
        days = _days(prober, now_ms, months)
    except BadInterval:
        return _ends_without_days(prober, instrument, now_ms)
    except BadSymbol:
        return []
    trades = instrument is not None and instrument.status in _GOING_ON
    spans = windows_of(days, _DAY)
    ends: list[tuple[Edge, Edge]] = []
    for span in spans:
        last_day = Window(_DAY.shift(span.end_ms, -1), span.end_ms)
        first = first_edge(prober, Window(span.start_ms, _DAY.shift(span.start_ms, 1)))
        goes_on = trades and span == spans[-1]
        last = Edge(span.end_ms, _DAY) if goes_on else last_edge(prober, last_day)
        if ends and first.time_ms <= ends[-1][1].time_ms:
            first = ends.pop()[0]  # a day without a daily candle whose finer ones are all there
        ends.append((first, last))
    return ends


def _days(prober: Prober, now_ms: int, answered: Callable[[], Times]) -> Times:
    """Return the open times of all daily candles; those absent in between were asked for twice."""
    try:
        months = answered()
    except BadInterval:
        return _asked_again(prober, _backwards(prober, _DAY, _DAY.shift(_DAY.floor(now_ms), 1)))
    if not len(months):
        return months
    # A month further, as its own candle may be what the exchange leaves out.
    end_ms = min(_DAY.shift(_DAY.floor(now_ms), 1), _MONTH.shift(int(months[-1]), 2))
    days = _asked_again(prober, _since(prober, _DAY, int(months[0]), end_ms))
    # A month whose own candle is left out is seen by its days, and missing where it is asked for; the other way round
    # nobody knows which days there are.
    without_days = np.setdiff1d(months, _MONTH.floors(days))
    if len(without_days):
        msg = (
            f"{prober.name} has a monthly candle of {iso(int(without_days[0]))[:7]} and no daily one: "
            "when it was listed cannot be told; try again later"
        )
        raise MalformedAnswer(msg)
    return days


def _since(prober: Prober, interval: Interval, begin_ms: int, end_ms: int) -> Times:
    """Return all open times before `end_ms`, to a page that reaches past `begin_ms`: what the months lack is seen."""
    ends_ms = [end_ms]
    while (start_ms := interval.shift(ends_ms[-1], -MAX_SLOTS)) >= begin_ms:
        ends_ms.append(start_ms)
    pages = (Window(interval.shift(one, -MAX_SLOTS), one) for one in ends_ms)
    return np.unique(np.concatenate(side_by_side(partial(prober.times, interval), pages, len(ends_ms))))


def _backwards(prober: Prober, interval: Interval, end_ms: int) -> Times:
    """Return all open times before `end_ms`, asked for in full pages, the newest first.

    The walk ends with an empty page before which the exchange has nothing older, or in 2017.
    """
    found = []
    while True:
        start_ms = interval.shift(end_ms, -MAX_SLOTS)
        times, older = prober.times_and_older(interval, Window(start_ms, end_ms))
        found.append(times)
        if start_ms <= BEGINNING_MS or (not len(times) and not older):
            return np.unique(np.concatenate(found))
        end_ms = start_ms


def _asked_again(prober: Prober, days: Times) -> Times:
    """Return the days with those that only a second question shows; the others bound holes."""
    if not len(days):
        return days
    grid = _DAY.grid(int(days[0]), int(days[-1]))
    absent = grid[~np.isin(grid, days)]
    while len(absent):
        start_ms = int(absent[0])
        end_ms = min(_DAY.shift(int(absent[-1]), 1), _DAY.shift(start_ms, MAX_SLOTS))
        days = np.union1d(days, prober.times(_DAY, Window(start_ms, end_ms)))
        absent = absent[absent >= end_ms]
    return days


def _ends_without_days(prober: Prober, instrument: Instrument | None, now_ms: int) -> list[tuple[Edge, Edge]]:
    """Return the ends of the life that instruments-info claims, by the finest interval served.

    Only recordings lack daily candles, such as a folder of weekly ones.
    """
    launch_ms = instrument.launch_time_ms if instrument else None
    delivery_ms = (instrument.delivery_time_ms if instrument else None) or now_ms

    def tail_of(interval: Interval) -> Window:
        end_ms = interval.shift(interval.floor(min(delivery_ms, now_ms)), 1)
        return Window(interval.shift(end_ms, -MAX_SLOTS), end_ms)

    interval, times = prober.first_served(INTERVAL_CODES, tail_of)
    tail = tail_of(interval)
    if launch_ms is None:
        times = np.union1d(times, _backwards(prober, interval, tail.start_ms))
    elif launch_ms < tail.start_ms:
        start_ms = interval.floor(launch_ms)
        head = Window(start_ms, interval.shift(start_ms, MAX_SLOTS))
        times = np.union1d(times, prober.times(interval, head))
    if not len(times):
        return []
    until_ms = interval.shift(int(times[-1]), 1)
    return [(Edge(int(times[0]), interval), Edge(until_ms, interval))]


def _goes_on(instrument: Instrument | None, last: Edge, closed_ms: int) -> bool:
    if instrument is not None and instrument.status in _GOING_ON:
        return True
    if instrument is not None and instrument.status == "Closed":
        return False
    # Spot that instruments-info does not know: its newest candle is open or has just closed.
    return last.interval.shift(last.interval.floor(last.time_ms), 1) > closed_ms


def _told(edge: Edge) -> dict[str, str]:
    return {"time": iso(edge.time_ms), "interval": edge.interval.code}
