"""Which rows a kline request brings: every line of bybit-v5.md 1.3."""

from collections.abc import Callable

import pytest

from kline_pipeline.simulator.grid import DAY_MS, MINUTE_MS, utc_ms
from kline_pipeline_tests.simulator.conftest import NOW_MS, Ask

Opens = Callable[..., list[int]]
AT = utc_ms(2024, 2, 10, 12, 0)
LISTED = utc_ms(2020, 3, 25, 10, 36)
HOLE_FROM, HOLE_UNTIL = utc_ms(2021, 11, 29, 6, 12), utc_ms(2021, 12, 7)
SHIB = {"category": "spot", "symbol": "SHIBUSDT"}


def minutes(first: int, last: int) -> list[int]:
    """Open_times from `last` down to `first`, both included."""
    return list(range(last, first - 1, -MINUTE_MS))


def test_both_ends_are_inclusive_and_the_newest_row_comes_first(opens: Opens) -> None:
    assert opens(start=AT, end=AT + 2 * MINUTE_MS) == minutes(AT, AT + 2 * MINUTE_MS)


def test_the_old_side_is_cut_at_the_limit(opens: Opens) -> None:
    end = AT + 9 * MINUTE_MS

    assert opens(start=AT, end=end, limit=3) == minutes(end - 2 * MINUTE_MS, end)


def test_a_start_inside_a_candle_brings_that_candle(opens: Opens) -> None:
    assert opens(start=AT + 8_000, end=AT + MINUTE_MS) == minutes(AT, AT + MINUTE_MS)


def test_an_end_inside_a_candle_brings_that_candle(opens: Opens) -> None:
    assert opens(start=AT, end=AT + 61_000) == minutes(AT, AT + MINUTE_MS)


def test_an_end_alone_brings_the_newest_rows_up_to_it(opens: Opens) -> None:
    assert opens(end=AT, limit=4) == minutes(AT - 3 * MINUTE_MS, AT)


def test_a_start_alone_brings_rows_forward_from_it(opens: Opens) -> None:
    assert opens(start=AT, limit=4) == minutes(AT, AT + 3 * MINUTE_MS)


def test_a_start_alone_near_now_ends_with_the_open_candle(opens: Opens) -> None:
    open_now = NOW_MS // MINUTE_MS * MINUTE_MS

    assert opens(start=open_now - MINUTE_MS, limit=1000) == minutes(open_now - MINUTE_MS, open_now)


def test_neither_end_brings_the_newest_rows_with_the_open_candle_first(opens: Opens) -> None:
    open_now = NOW_MS // MINUTE_MS * MINUTE_MS

    assert opens(limit=3) == minutes(open_now - 2 * MINUTE_MS, open_now)


def test_a_future_end_is_no_error(opens: Opens) -> None:
    assert opens(end=NOW_MS + 400 * DAY_MS, limit=1) == [NOW_MS // MINUTE_MS * MINUTE_MS]


@pytest.mark.parametrize(("limit", "rows"), [(None, 200), (1000, 1000), (5000, 1000), (0, 0)])
def test_the_limit_is_200_by_default_and_clamped_to_1000(opens: Opens, limit: int | None, rows: int) -> None:
    asked = {} if limit is None else {"limit": limit}

    assert len(opens(end=AT, **asked)) == rows


def test_1001_slots_lose_the_oldest(opens: Opens) -> None:
    found = opens(start=AT, end=AT + 1000 * MINUTE_MS, limit=1000)

    assert found == minutes(AT + MINUTE_MS, AT + 1000 * MINUTE_MS)


def test_a_window_before_the_listing_is_empty(opens: Opens) -> None:
    assert opens(start=LISTED - DAY_MS, end=LISTED - MINUTE_MS, limit=1000) == []


def test_a_start_alone_before_the_listing_is_empty_too(opens: Opens) -> None:
    assert opens(start=LISTED - DAY_MS, limit=10) == []


def test_a_window_over_the_listing_begins_with_the_first_candle(opens: Opens) -> None:
    found = opens(start=LISTED - 5 * MINUTE_MS, end=LISTED + MINUTE_MS)

    assert found == minutes(LISTED, LISTED + MINUTE_MS)


def test_a_window_inside_a_listing_hole_brings_older_rows(opens: Opens) -> None:
    start = utc_ms(2021, 12, 5)

    found = opens(**SHIB, start=start, end=start + 99 * MINUTE_MS, limit=200)

    assert found == minutes(HOLE_FROM - 200 * MINUTE_MS, HOLE_FROM - MINUTE_MS)


@pytest.mark.parametrize("start", [utc_ms(2021, 11, 29, 6, 11), HOLE_FROM, utc_ms(2021, 12, 5), utc_ms(2021, 12, 6)])
def test_a_start_alone_that_runs_into_a_hole_brings_the_last_rows_before_it(opens: Opens, start: int) -> None:
    found = opens(**SHIB, start=start, limit=200)

    assert found == minutes(utc_ms(2021, 11, 29, 2, 52), utc_ms(2021, 11, 29, 6, 11))


def test_the_second_listing_begins_on_time(opens: Opens) -> None:
    found = opens(**SHIB, start=HOLE_UNTIL, limit=200)

    assert found == minutes(HOLE_UNTIL, utc_ms(2021, 12, 7, 3, 19))


def test_a_window_across_a_hole_holds_both_sides_of_it(opens: Opens) -> None:
    found = opens(**SHIB, interval="D", start=HOLE_FROM - DAY_MS, end=HOLE_UNTIL)

    assert found == [HOLE_UNTIL, utc_ms(2021, 11, 29), utc_ms(2021, 11, 28)]


def test_a_delisted_linear_symbol_still_answers_and_later_windows_bring_its_last_rows(
    opens: Opens,
) -> None:
    until = utc_ms(2022, 5, 13, 8, 1)

    found = opens(symbol="LUNAUSDT", start=AT, end=AT + 9 * MINUTE_MS, limit=10)

    assert found == minutes(until - 10 * MINUTE_MS, until - MINUTE_MS)


@pytest.mark.parametrize(
    ("interval", "first"),
    [("60", utc_ms(2020, 3, 25, 10)), ("D", utc_ms(2020, 3, 25)), ("W", utc_ms(2020, 3, 23)),
     ("M", utc_ms(2020, 3, 1))],
)  # fmt: skip
def test_the_first_candle_of_a_listing_opens_on_the_grid_before_it(opens: Opens, interval: str, first: int) -> None:
    assert opens(interval=interval, end=LISTED + 1, limit=5) == [first]


def test_an_end_before_the_start_brings_nothing(opens: Opens) -> None:
    assert opens(start=AT, end=AT - MINUTE_MS) == []


def test_a_usdt_symbol_under_inverse_brings_linear_candles_labelled_inverse(ask: Ask) -> None:
    asked = {"symbol": "BTCUSDT", "interval": "D", "end": AT, "limit": 2}
    linear, inverse = ask(category="linear", **asked), ask(category="inverse", **asked)

    assert inverse["result"]["list"] == linear["result"]["list"]
    assert inverse["result"]["category"] == "inverse"
