"""Pictures of results are well-formed SVG, small whatever they show, and mark what offends."""

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

from kline_pipeline.checks.pictures import MOST_BARS, candlestick, coverage_strip, markdown
from kline_pipeline.market.schema import CANDLE_SCHEMA, empty_candles
from kline_pipeline.market.window import Window

MINUTE = 60_000
PATH = "{http://www.w3.org/2000/svg}path"


def walk(count: int, *, step: int = 1) -> pa.Table:
    """Return candles of a price that walks up and down by `step` now and then."""
    rng = np.random.default_rng(1)
    closes = 50_000 + np.cumsum(rng.integers(-50, 51, count)) * step
    opens = np.concatenate(([50_000], closes[:-1]))
    columns = [opens, np.maximum(opens, closes) + 5, np.minimum(opens, closes) - 5, closes]
    texts = [pa.array([str(value) for value in column]) for column in columns]
    ones = pa.array(["1"] * count)
    return pa.table([pa.array(np.arange(count) * MINUTE), *texts, ones, ones], schema=CANDLE_SCHEMA)


def paths(svg: str) -> list[ET.Element]:
    return ET.fromstring(svg).findall(PATH)


@pytest.mark.parametrize("count", [1, 2, 31, 48, 49, 744, 44_640])
def test_a_chart_has_at_most_48_bars_in_less_than_4_kb(count: int) -> None:
    svg = candlestick(walk(count), Window(0, count * MINUTE), [0, (count - 1) * MINUTE])
    wicks = sum(path.attrib["d"].count("M") for path in paths(svg) if path.attrib["stroke-width"] == "1")

    assert wicks == min(count, MOST_BARS)
    assert len(markdown(svg, "x")) < 4000


def test_bars_stand_where_their_candles_are_and_the_gap_stays_empty() -> None:
    candles = walk(48)
    left = candlestick(candles.slice(0, 12), Window(0, 48 * MINUTE))
    numbers = [int(line.split()[0]) for path in paths(left) for line in path.attrib["d"].split("M") if line]

    assert max(numbers) <= 12 * 10 // 4  # twelve bars are wide enough for the whole window


def test_rising_and_falling_bars_have_their_colors_and_reach_from_low_to_high() -> None:
    rows = [[0, MINUTE], ["1", "2"], ["3", "2"], ["1", "0"], ["2", "1"], ["1", "1"], ["1", "1"]]
    up, up_body, down, down_body = (
        path.attrib["d"] for path in paths(candlestick(pa.table(rows, schema=CANDLE_SCHEMA), Window(0, 2 * MINUTE)))
    )
    assert (up, up_body) == ("M5 4V79", "M5 41V79")
    assert (down, down_body) == ("M15 41V116", "M15 41V79")


def test_marks_are_drawn_inside_the_window_only() -> None:
    def marks(*times: int) -> int:
        svg = candlestick(walk(60), Window(0, 60 * MINUTE), times)
        return sum(path.attrib["d"].count("M") for path in paths(svg) if path.attrib["stroke-width"] == "2")

    assert (marks(), marks(0, 30 * MINUTE), marks(-MINUTE, 60 * MINUTE)) == (0, 2, 0)


def test_a_price_that_stands_still_is_a_line() -> None:
    rows = [[0], *[["7"]] * 6]
    svg = candlestick(pa.table(rows, schema=CANDLE_SCHEMA), Window(0, MINUTE))
    assert [path.attrib["d"] for path in paths(svg)] == [
        "M5 60V60", "M5 60V61",
    ]  # fmt: skip


def test_without_candles_or_days_there_is_no_picture() -> None:
    assert candlestick(empty_candles(), Window(0, MINUTE)) == coverage_strip([], [], []) == ""


def test_a_strip_tells_full_days_from_days_in_part_and_empty_ones() -> None:
    days = [f"2024-01-{n:02}" for n in range(1, 7)]
    full, part, empty = (
        path.attrib["d"] for path in paths(coverage_strip(days, [24, 24, 24, 24, 24, 0], [24, 24, 3, 0, 24, 0]))
    )

    assert (full, part, empty) == ("M0 8h15M32 8h7", "M16 8h7", "M24 8h7")


def test_a_year_of_days_takes_rows_of_91_days_and_stays_small() -> None:
    days = [f"day {n}" for n in range(366)]
    svg = coverage_strip(days, [24] * 366, [24, 0] * 183)

    assert ET.fromstring(svg).attrib["height"] == "94"  # five rows and the caption
    assert len(markdown(svg, "x")) < 8000
    assert len(markdown(coverage_strip(days, [24] * 366, [24] * 366), "x")) < 800


def test_the_markdown_is_an_image_with_its_data_inside() -> None:
    head, data = markdown("<svg/>", "a chart").split(",")
    assert head == "![a chart](data:image/svg+xml;base64"
    assert base64.b64decode(data.removesuffix(")")) == b"<svg/>"
