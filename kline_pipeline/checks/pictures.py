"""Small pictures for results: a partition as a candlestick chart, a strip of days; SVG text of a few kB, nothing more.

Pixels need no exact numbers: floats are enough here, and nowhere else.
"""

import base64
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.market.window import Window, iso

MOST_BARS: Final = 48
_STEP, _HEIGHT, _MARGIN = 10, 120, 4
_DAY, _STRIP_HEIGHT, _WEEKS_PER_ROW = 8, 16, 13
_RISING, _FALLING, _MARK = "#2a9d63", "#d1495b", "#e07a00"
_CAPTION_WIDTH: Final = 380
_CAPTION_HEIGHT: Final = 14


def candlestick(candles: pa.Table, window: Window, marked_ms: Sequence[int] = ()) -> str:
    """Return SVG of at most 48 bars over a window, with a line at every marked time; empty without candles.

    Args:
        candles: CANDLE_SCHEMA, ascending and unique by open time; neighbours are joined to one bar when there are more.
        window: that the width stands for; what lies outside is not shown.
        marked_ms: open times that offend.
    """
    times = candles["open_time_ms"].to_numpy()
    bars = min(MOST_BARS, len(times))
    if not bars or not window:
        return ""
    span_ms = window.end_ms - window.start_ms
    slot = np.clip((times - window.start_ms) * bars // span_ms, 0, bars - 1)
    first = np.flatnonzero(np.concatenate(([True], slot[1:] != slot[:-1])))
    price = {name: pc.cast(candles[name], pa.float64()).to_numpy() for name in ("open", "high", "low", "close")}
    last = np.concatenate((first[1:], [len(slot)])) - 1
    high, low = np.maximum.reduceat(price["high"], first), np.minimum.reduceat(price["low"], first)
    top, bottom = float(high.max()), float(low.min())

    def y(values: NDArray[np.float64]) -> NDArray[np.int64]:
        share = (top - values) / (top - bottom) if top > bottom else np.full(len(values), 0.5)
        return np.asarray(np.rint(_MARGIN + share * (_HEIGHT - 2 * _MARGIN)), dtype=np.int64)

    x = slot[first] * _STEP + _STEP // 2
    opened, closed = y(price["open"][first]), y(price["close"][last])
    rising = price["close"][last] >= price["open"][first]
    paths = [
        path
        for up, color in ((True, _RISING), (False, _FALLING))
        for path in (
            _path(x[rising == up], y(high)[rising == up], y(low)[rising == up], color, 1),
            _path(x[rising == up], *_body(opened[rising == up], closed[rising == up]), color, 6),
        )
    ]
    inside = np.unique([(time - window.start_ms) * bars * _STEP // span_ms for time in marked_ms if time in window])
    edge = np.full(len(inside), 0)
    paths.append(_path(inside.astype(np.int64), edge, edge + _HEIGHT, _MARK, 2))
    return _svg(bars * _STEP, _HEIGHT, f"{iso(window.start_ms)} to {iso(window.end_ms)}", paths)


def coverage_strip(days: Sequence[str], expected: Sequence[int], present: Sequence[int]) -> str:
    """Return SVG of one square per day: full, in part, or empty by the share of candles; empty without days.

    Args:
        days: dates as text, ascending; the first and last are named in the picture.
        expected, present: candles of each day; a day of which nothing is expected is left out.
    """
    whole: list[int] = []
    part: list[int] = []
    none: list[int] = []
    for place, (wanted, there) in enumerate(zip(expected, present, strict=True)):
        if wanted:
            (whole if there >= wanted else part if there else none).append(place)
    if not days:
        return ""
    per_row = 7 * _WEEKS_PER_ROW
    rows = -(-len(days) // per_row)
    paths = [_squares(places, per_row, color) for places, color in ((whole, _RISING), (part, _MARK), (none, _FALLING))]
    width = max(min(len(days), per_row) * _DAY, _CAPTION_WIDTH)
    span, height = f"{days[0]} to {days[-1]}", rows * _STRIP_HEIGHT
    words = f"{span}: a square per day, green whole, orange in part, red empty"
    caption = f'<text y="{height + 11}" font-size="10">{words}</text>'
    return _svg(width, height + _CAPTION_HEIGHT, span, [*paths, caption])


def markdown(svg: str, words: str) -> str:
    """Return SVG as an inline image of a markdown text; `words` stand in its place where it cannot be shown."""
    encoded = base64.b64encode(svg.encode()).decode()
    return f"![{words}](data:image/svg+xml;base64,{encoded})"


def _body(opened: NDArray[np.int64], closed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    top, bottom = np.minimum(opened, closed), np.maximum(opened, closed)
    return top, np.maximum(bottom, top + 1)


def _path(x: NDArray[np.int64], top: NDArray[np.int64], bottom: NDArray[np.int64], color: str, width: int) -> str:
    # A loop: at most 48 bars.
    lines = "".join(f"M{a} {b}V{c}" for a, b, c in zip(x, top, bottom, strict=True))
    return f'<path d="{lines}" stroke="{color}" stroke-width="{width}"/>' if lines else ""


def _squares(places: Sequence[int], per_row: int, color: str) -> str:
    """Return one line per run of neighbouring days in a row, broken into squares by its dashes."""
    if not places:
        return ""
    breaks = [n + 1 for n, (a, b) in enumerate(pairwise(places)) if b != a + 1 or b % per_row == 0]
    runs = [places[start:end] for start, end in pairwise([0, *breaks, len(places)])]
    lines = "".join(
        f"M{run[0] % per_row * _DAY} {run[0] // per_row * _STRIP_HEIGHT + _STRIP_HEIGHT // 2}h{len(run) * _DAY - 1}"
        for run in runs
    )
    dashes = f'stroke-dasharray="{_DAY - 1} 1"'
    return f'<path d="{lines}" stroke="{color}" stroke-width="{_STRIP_HEIGHT - 2}" {dashes}/>'


def _svg(width: int, height: int, title: str, paths: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{title}</title>{''.join(paths)}</svg>"
    )
