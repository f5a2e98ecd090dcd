"""What one page proves: its closed candles, and the open times it lacks; what was listed is not known here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kline_pipeline.bybit.pages import Page
from kline_pipeline.checks import well_formed
from kline_pipeline.errors import Contradiction, MalformedAnswer
from kline_pipeline.market.schema import canonical_candles, empty_candles
from kline_pipeline.market.window import Window, absent_of, iso, merge

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """What a page proves.

    Attributes:
        candles: wanted ones, CANDLE_SCHEMA, canonical text, ascending and unique by open time, closed by the page's
            server time.
        absent_ms: wanted open times that have no such candle, ascending; those not yet closed included.
    """

    candles: pa.Table
    absent_ms: Times


def judge(page: Page, wanted: Sequence[Window], grace_ms: int) -> Proof:
    """Return what a page proves of what is wanted; whatever else is on it, nobody asked for.

    Args:
        page: of the exchange, or of the cache.
        wanted: windows, disjoint and ascending, which may reach beyond the page.
        grace_ms: a candle counts as closed this long after its end.

    Raises:
        Contradiction: two different closed candles for one open time.
        MalformedAnswer: a candle off the grid, or one that cannot be.
    """
    interval = page.series.interval
    parts = [part for part in (page.window.intersect(window) for window in wanted) if part]
    closed = page.closed_window(grace_ms)
    times = page.rows["open_time_ms"].to_numpy()
    mine = np.flatnonzero(inside(times, [closed.intersect(part) for part in parts]))
    off_grid = times[mine][interval.floors(times[mine]) != times[mine]]
    if len(off_grid):
        raise MalformedAnswer(_served(page, f"candles off the grid at {_named(off_grid)}"), window=page.window)
    candles = _candles(page, mine[np.argsort(times[mine], kind="stable")]) if len(mine) else empty_candles()
    grid = np.concatenate([np.zeros(0, np.int64), *(interval.grid(part.start_ms, part.end_ms) for part in parts)])
    return Proof(candles, absent_of(grid, candles["open_time_ms"].to_numpy()))


def inside(times: Times, windows: Sequence[Window]) -> NDArray[np.bool_]:
    """Return for each time whether one of the windows holds it."""
    bounds: Times = np.array([bound for one in merge(windows) for bound in (one.start_ms, one.end_ms)], dtype=np.int64)
    found: NDArray[np.bool_] = np.searchsorted(bounds, times, side="right") % 2 == 1
    return found


def both(newer: Proof, older: Proof) -> Proof:
    """Return what two answers for the same window prove together: each candle as the newer one has it, if it has it."""
    only_older = np.isin(older.candles["open_time_ms"].to_numpy(), newer.absent_ms)
    candles = pa.concat_tables([newer.candles, older.candles.filter(pa.array(only_older))]).sort_by("open_time_ms")
    return Proof(candles.combine_chunks(), np.intersect1d(newer.absent_ms, older.absent_ms))


def _candles(page: Page, rows: NDArray[np.int64]) -> pa.Table:
    """Return some rows of a page as candles, each of which can be."""
    candles = _unique(page, canonical_candles(page.rows.take(pa.array(rows))))
    broken = well_formed.Impossible.of(candles).broken_ms()
    if len(broken):
        raise MalformedAnswer(_served(page, f"impossible candles at {_named(broken)}"), window=page.window)
    return candles


def _unique(page: Page, candles: pa.Table) -> pa.Table:
    """Return the candles (ascending) without exact repetitions."""
    times = candles["open_time_ms"].to_numpy()
    again = np.flatnonzero(times[1:] == times[:-1]) + 1
    if not len(again):
        return candles
    same = candles.take(pa.array(again)).equals(candles.take(pa.array(again - 1)))
    if not same:
        contradicting = np.unique(times[[n for n in again if candles.slice(n, 1) != candles.slice(n - 1, 1)]])
        raise Contradiction(
            _served(page, f"two different candles at {_named(contradicting)}"),
            open_times_ms=[int(one) for one in contradicting],
            window=page.window,
        )
    return candles.filter(pa.array(~np.isin(np.arange(len(times)), again)))


def _served(page: Page, what: str) -> str:
    return f"asked {page.host} for candles of {page.series} in {page.window} and got {what}; none was used, try again"


def _named(times: Times) -> str:
    more = f" and {len(times) - 3} more" if len(times) > 3 else ""  # noqa: PLR2004 - three names fit a line
    return ", ".join(iso(int(one)) for one in times[:3]) + more
