"""The synthetic candles: exact aggregates, an unbroken chain, the same for the same seed."""

import itertools
from collections import defaultdict
from decimal import Decimal

import pytest

from kline_pipeline.simulator.catalogue import catalogue
from kline_pipeline.simulator.grid import DAY_MS, INTERVALS, MINUTE_MS, floor_ms, shift_ms, utc_ms
from kline_pipeline.simulator.history import Row
from kline_pipeline.simulator.instruments import Instrument
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline_tests.simulator.conftest import NOW_MS

# A life's beginning, a hole over weeks, a hole inside one day, an end, and today.
STRETCHES = [
    ("linear", "BTCUSDT", utc_ms(2020, 4, 8), 20),
    ("linear", "ZKJUSDT", utc_ms(2024, 6, 20), 12),
    ("linear", "LUNAUSDT", utc_ms(2022, 5, 20), 16),
    ("linear", "NEW2405USDT", NOW_MS, 30),
    ("spot", "SHIBUSDT", utc_ms(2021, 12, 12), 20),
    ("spot", "BTCUSDT", NOW_MS, 52),
    ("inverse", "BTCUSD", NOW_MS, 52),
    ("inverse", "EOSUSD", utc_ms(2025, 6, 1), 12),
]
LATE_MS = utc_ms(2025, 7, 1, 5, 7)


@pytest.fixture(scope="module")
def late() -> SyntheticHistory:
    return SyntheticHistory(7, now_ms=LATE_MS)


def numbers(row: Row) -> list[Decimal]:
    return [Decimal(cell) for cell in row[1:]]


def candles(history: SyntheticHistory, instrument: Instrument, interval: str, **asked: int) -> dict[int, list[int]]:
    """Whole-number candles by open_time."""
    columns = history.columns(instrument, interval, **asked)
    opens, *rest = (column.tolist() for column in columns.arrays())
    return dict(zip(opens, map(list, zip(*rest, strict=True)), strict=True))


def aggregate(minutes: list[list[int]]) -> list[int]:
    """One candle from candles that are oldest first."""
    opened, high, low, close, volume, turnover = zip(*minutes, strict=True)
    return [opened[0], max(high), min(low), close[-1], sum(volume), sum(turnover)]


def find(history: SyntheticHistory, category: str, symbol: str) -> Instrument:
    found = history.find(category, symbol, LATE_MS)
    assert found is not None
    return found


@pytest.mark.parametrize(("category", "symbol", "until", "days"), STRETCHES)
def test_every_interval_is_the_exact_aggregate_of_its_minutes(
    late: SyntheticHistory, category: str, symbol: str, until: int, days: int
) -> None:
    instrument, now = find(late, category, symbol), max(until, NOW_MS)
    minutes = candles(late, instrument, "1", until_ms=until, limit=days * 1440, now_ms=now)
    first, last = min(minutes), max(minutes)
    for interval in INTERVALS[1:]:
        groups: dict[int, list[list[int]]] = defaultdict(list)
        for opened, minute in minutes.items():
            groups[floor_ms(interval, opened)].append(minute)
        # Groups of which the minutes asked for are only a part prove nothing.
        if first > instrument.lives[0][0]:
            del groups[floor_ms(interval, first)]
        if until < now and last + MINUTE_MS > until:
            groups.pop(floor_ms(interval, last), None)
        found = candles(late, instrument, interval, until_ms=until, limit=10**6, now_ms=now)

        assert groups or interval == "M"
        for opened, group in groups.items():
            assert found[opened] == aggregate(group), (interval, opened)
        span = range(min(groups, default=0) + 1, max(groups, default=0))
        assert not [t for t in found if t in span and t not in groups]


@pytest.mark.parametrize(
    ("category", "symbol", "interval", "opened"),
    [
        ("linear", "LUNAUSDT", "M", utc_ms(2022, 5, 1)),
        ("spot", "SHIBUSDT", "W", utc_ms(2021, 11, 29)),
        ("linear", "ZKJUSDT", "D", utc_ms(2024, 6, 10)),
        ("inverse", "BTCUSD", "M", utc_ms(2024, 4, 1)),
    ],
)
def test_a_candle_cut_by_a_listing_holds_the_minutes_that_exist(
    late: SyntheticHistory, category: str, symbol: str, interval: str, opened: int
) -> None:
    instrument, now = find(late, category, symbol), LATE_MS
    end = shift_ms(interval, opened, 1) - 1
    minutes = candles(late, instrument, "1", until_ms=end, limit=31 * 1440, now_ms=now)
    inside = [minute for t, minute in minutes.items() if t >= opened]
    found = candles(late, instrument, interval, until_ms=end, limit=1, now_ms=now)

    assert found == {opened: aggregate(inside)}


@pytest.mark.parametrize("entry", catalogue(NOW_MS), ids=lambda e: f"{e.instrument.category}-{e.instrument.symbol}")
def test_days_continue_each_other_and_keep_order_for_the_whole_life(late: SyntheticHistory, entry: object) -> None:
    instrument = entry.instrument  # type: ignore[attr-defined]
    rows = late.newest(instrument, "D", until_ms=LATE_MS, limit=10**6, now_ms=LATE_MS)[::-1]
    for before, after in itertools.pairwise(rows):
        if int(after[0]) == int(before[0]) + DAY_MS:
            assert after[1] == before[4]
    for row in rows:
        opened, high, low, close, volume, turnover = numbers(row)
        assert 0 < low <= min(opened, close) <= max(opened, close) <= high
        assert volume > 0
        assert turnover > 0


@pytest.mark.parametrize(("category", "symbol", "until", "days"), STRETCHES)
def test_minutes_continue_each_other_and_trade_inside_their_range(
    late: SyntheticHistory, category: str, symbol: str, until: int, days: int
) -> None:
    instrument = find(late, category, symbol)
    rows = late.newest(instrument, "1", until_ms=until, limit=min(days, 8) * 1440, now_ms=LATE_MS)[::-1]
    ends = {end for _, end in instrument.lives}
    for before, after in itertools.pairwise(rows):
        joined = int(before[0]) + MINUTE_MS not in ends
        assert not joined or (after[1] == before[4] and int(after[0]) == int(before[0]) + MINUTE_MS)
    for row in rows:
        opened, high, low, close, volume, turnover = numbers(row)
        assert 0 < low <= min(opened, close) <= max(opened, close) <= high
        if volume == 0:
            assert opened == high == low == close
            assert turnover == 0
        elif category == "inverse":
            slack = Decimal("0.000000005")
            assert low * (turnover - slack) <= volume <= high * (turnover + slack)
        else:
            assert low * volume <= turnover <= high * volume


def test_equal_seeds_and_any_start_give_equal_candles(late: SyntheticHistory) -> None:
    other, third = SyntheticHistory(7, now_ms=NOW_MS), SyntheticHistory(8, now_ms=NOW_MS)
    instrument = find(late, "linear", "ETHUSDT")
    asked = {"until_ms": NOW_MS - DAY_MS, "limit": 500}
    rows = late.newest(instrument, "15", now_ms=LATE_MS, **asked)

    assert rows == other.newest(instrument, "15", now_ms=NOW_MS, **asked)
    assert rows != third.newest(instrument, "15", now_ms=NOW_MS, **asked)


def test_numbered_symbols_are_there_when_asked_for_and_change_no_other(late: SyntheticHistory) -> None:
    many = SyntheticHistory(7, now_ms=LATE_MS, numbered=3)
    names = {instrument.symbol for instrument in many.instruments("linear", LATE_MS)}
    assert names - {instrument.symbol for instrument in late.instruments("linear", LATE_MS)} == {
        "SYM001USDT",
        "SYM002USDT",
        "SYM003USDT",
    }
    asked = {"until_ms": LATE_MS, "limit": 50, "now_ms": LATE_MS}
    btc = find(late, "linear", "BTCUSDT")
    assert many.newest(btc, "60", **asked) == late.newest(btc, "60", **asked)
    one, two = (candles(many, find(many, "linear", f"SYM00{number}USDT"), "60", **asked) for number in (1, 2))
    assert len(one) == len(two) == 50
    assert one != two


def test_a_closed_candle_never_changes_and_the_open_one_grows_into_it(
    history: SyntheticHistory,
) -> None:
    instrument = find(history, "linear", "BTCUSDT")
    opened = NOW_MS // MINUTE_MS * MINUTE_MS
    first, half, last = (
        history.newest(instrument, "1", until_ms=now, limit=3, now_ms=now)
        for now in (opened, opened + 30_000, opened + MINUTE_MS - 1)
    )
    (closed,) = history.newest(instrument, "1", until_ms=opened, limit=1, now_ms=opened + DAY_MS)
    again = history.newest(instrument, "1", until_ms=opened, limit=3, now_ms=opened + 9 * DAY_MS)

    assert first[1:] == half[1:] == last[1:] == again[1:]
    assert again[0] == closed
    assert first[0][1] == first[0][4] == closed[1]
    assert first[0][5] == "0"
    volumes = [Decimal(rows[0][5]) for rows in (first, half, last)]
    assert volumes == sorted(volumes)
    assert volumes[2] < Decimal(closed[5])


@pytest.mark.parametrize(
    ("category", "symbol", "decimals"),
    [
        ("linear", "BTCUSDT", (1, 3, 4)),
        ("linear", "DOGEUSDT", (5, 0, 5)),
        ("linear", "1000PEPEUSDT", (7, 0, 5)),
        ("spot", "BTCUSDT", (2, 6, 8)),
        ("inverse", "BTCUSD", (1, 0, 8)),
    ],
)
def test_digits_are_those_of_bybit_with_zeros_stripped(
    history: SyntheticHistory, category: str, symbol: str, decimals: tuple[int, int, int]
) -> None:
    instrument = find(history, category, symbol)
    rows = history.newest(instrument, "5", until_ms=NOW_MS, limit=1000, now_ms=NOW_MS)
    cells = [[cell for row in rows for cell in row[1:5]], *([r[c] for r in rows] for c in (5, 6))]
    found = tuple(max(len(cell.partition(".")[2]) for cell in column) for column in cells)

    assert found == decimals
    assert not [cell for column in cells for cell in column if "." in cell and cell[-1] in "0."]


def test_a_first_candle_is_served_by_its_open_time_though_its_minutes_begin_later() -> None:
    now_ms = utc_ms(2024, 5, 1, 8, 10)  # NEW2405USDT was listed at 08:00 of that day
    market = SyntheticHistory(7, now_ms=now_ms)
    instrument = market.find("linear", "NEW2405USDT", now_ms)
    assert instrument is not None
    rows = market.newest(instrument, "D", until_ms=utc_ms(2024, 5, 1), limit=5, now_ms=now_ms)
    assert [row[0] for row in rows] == [str(utc_ms(2024, 5, 1))]
