"""A fixed library of day shapes per seed, with their aggregates for every interval up to a day.

A day of a symbol is one shape, stretched and shifted (see days). Because stretching by whole
numbers is linear, the aggregate of a stretched day is the stretched aggregate: any interval of any
day costs the same and is exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.simulator.grid import MINUTES

MINUTES_OF_DAY = 1440
# How far a day of a shape typically ranges, in its own units: cheap coins have few ticks a day.
AMPLITUDES = (150, 1_500, 15_000)
BUSY, QUIET = 32, 16
PER_AMPLITUDE = BUSY + QUIET
# Mean of the volume column of a day; a symbol multiplies it to its own.
MEAN_DAY_VOLUME = 3_000_000
# Share of the minutes of a quiet day that have no trade.
FLAT_SHARE = 0.25
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Candles of all day shapes at one interval: arrays of (shape, candle of the day), int64.

    Prices are offsets from the day's opening price. `weighted` is the sum of volume x price offset
    of the trades, so that weighted / volume lies between low and high in every candle.
    """

    open: Whole
    high: Whole
    low: Whole
    close: Whole
    volume: Whole
    weighted: Whole


class Library:
    """The day shapes of one seed: by interval, 48 for each amplitude, the last 16 of them quiet."""

    def __init__(self, seed: int) -> None:
        """Draw the shapes; takes about 0.1 s."""
        # RandomState's streams are frozen for good; those of Generator may change with numpy.
        random = np.random.RandomState(seed % 2**32)
        parts = [_draw(random, amplitude) for amplitude in AMPLITUDES]
        minutes = Shapes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        self.by_minutes: dict[int, Shapes] = {
            size: _aggregate(minutes, size) for size in MINUTES.values() if MINUTES_OF_DAY % size == 0
        }
        day = self.by_minutes[MINUTES_OF_DAY]
        self.day_close: list[int] = day.close[:, 0].tolist()


def _draw(random: np.random.RandomState, amplitude: int) -> tuple[Whole, ...]:
    shape = (PER_AMPLITUDE, MINUTES_OF_DAY)
    clock = np.linspace(0, 2 * np.pi, MINUTES_OF_DAY, endpoint=False)
    # Days are livelier around 14:00 UTC, and every day has storms of its own.
    activity = 1 + 0.4 * np.cos(clock - 2 * np.pi * 14 / 24)
    storm = np.exp(0.5 * np.repeat(random.normal(size=(PER_AMPLITUDE, 48)), 30, axis=1))
    move = random.normal(size=shape) * activity * storm
    flat = random.random_sample(shape) < FLAT_SHARE
    flat[:BUSY] = False
    move[flat] = 0
    unit = amplitude * 0.35 / np.sqrt(MINUTES_OF_DAY)
    close = np.rint(np.cumsum(move, axis=1) * unit).astype(np.int64)
    open_ = np.concatenate([np.zeros((PER_AMPLITUDE, 1), np.int64), close[:, :-1]], axis=1)
    close[flat] = open_[flat]  # equal already but for rounding of the running sum
    wick = np.floor(np.abs(random.normal(size=(2, *shape))) * unit * 0.7).astype(np.int64)
    wick[:, flat] = 0
    high, low = np.maximum(open_, close) + wick[0], np.minimum(open_, close) - wick[1]
    volume = 1 + np.rint(np.exp(0.7 * random.normal(size=shape)) * 1000 * activity * (0.4 + np.abs(move))).astype(
        np.int64
    )
    volume[flat] = 0
    inside = low + (high - low) * random.random_sample(shape)
    weighted = np.clip(np.rint(volume * inside).astype(np.int64), volume * low, volume * high)
    return open_, high, low, close, volume, weighted


def _aggregate(minutes: Shapes, size: int) -> Shapes:
    def cut(column: Whole) -> Whole:
        return column.reshape(len(column), -1, size)

    return Shapes(
        open=cut(minutes.open)[:, :, 0].copy(),
        high=cut(minutes.high).max(axis=2),
        low=cut(minutes.low).min(axis=2),
        close=cut(minutes.close)[:, :, -1].copy(),
        volume=cut(minutes.volume).sum(axis=2),
        weighted=cut(minutes.weighted).sum(axis=2),
    )
