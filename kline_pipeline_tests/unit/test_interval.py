"""The grid of every interval Bybit serves, in UTC whatever the machine's zone."""

from datetime import UTC, datetime

import numpy as np
import pytest

from kline_pipeline.errors import UnknownSeries
from kline_pipeline.market.interval import INTERVAL_CODES, Interval
from kline_pipeline.market.window import iso, to_ms


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("code", "time", "floor"),
    [
        ("1", "2024-02-29 12:34:56", "2024-02-29 12:34"),
        ("3", "2024-02-29 12:34:56", "2024-02-29 12:33"),
        ("240", "2024-02-29 12:34:56", "2024-02-29 12:00"),
        ("720", "2024-02-29 23:59:59", "2024-02-29 12:00"),
        ("D", "2024-02-29 23:59:59", "2024-02-29"),
        ("W", "2024-12-31 23:59:59", "2024-12-30"),
        ("M", "2024-02-29 23:59:59", "2024-02-01"),
    ],
)
def test_a_time_belongs_to_the_candle_that_contains_it(code: str, time: str, floor: str) -> None:
    assert iso(Interval(code).floor(ms(time))) == iso(ms(floor))


@pytest.mark.parametrize("code", INTERVAL_CODES)
def test_grid_count_and_close_times_tell_the_same_candles(code: str) -> None:
    interval = Interval(code)
    start, end = ms("2023-12-30 05:17"), ms("2024-03-02 01:00")

    grid = interval.grid(start, end)

    assert len(grid) == interval.count(start, end)
    assert np.array_equal(interval.close_times(grid)[:-1], grid[1:])
    assert np.array_equal(interval.floors(interval.close_times(grid) - 1), grid)
    assert np.array_equal(grid, np.array([interval.floor(int(time)) for time in grid]))
    assert interval.shift(int(grid[0]), len(grid) - 1) == grid[-1]


def test_months_have_their_own_lengths() -> None:
    grid = Interval("M").grid(ms("2023-12-15"), ms("2024-04-01"))

    assert [iso(int(time))[:10] for time in grid] == ["2024-01-01", "2024-02-01", "2024-03-01"]


def test_a_candle_is_closed_only_after_its_end_and_the_grace() -> None:
    minute = Interval("1")

    assert minute.closed_end(ms("2024-01-01 00:05:09"), 10_000) == ms("2024-01-01 00:04")
    assert minute.closed_end(ms("2024-01-01 00:05:10"), 10_000) == ms("2024-01-01 00:05")


@pytest.mark.parametrize(
    ("text", "code"), [("1m", "1"), ("1h", "60"), ("4h", "240"), ("1d", "D"), ("1w", "W"), ("1M", "M")]
)
def test_people_may_write_intervals_their_way(text: str, code: str) -> None:
    assert Interval.parse(text).code == code


@pytest.mark.parametrize("text", ["8h", "1s", "", "m", "60min"])
def test_an_interval_bybit_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(UnknownSeries, match="1 3 5 15"):
        Interval.parse(text)
