"""Turnover of inverse contracts in the base coin: USD volume divided by price, minute by minute.

It is not linear in the price, so it cannot be stretched like the rest: every minute is computed and
rounded to 1e-8 coin, and coarser candles add up those whole numbers. Sums over six hours are kept,
so that a page of days does not compute a million minutes each time.
"""

import numpy as np

from kline_pipeline.simulator.days import Days
from kline_pipeline.simulator.templates import MINUTES_OF_DAY, Library, Whole

BLOCK_MINUTES = 360
# So few days are computed anew rather than summing up the whole life for them.
FEW_DAYS = 2
# Days computed at once: 200 days are 2.3 MB per temporary column.
CHUNK_DAYS = 200


class Coins:
    """Base coin turnover of one inverse instrument, in whole units of 1e-8 coin."""

    def __init__(self, library: Library, price_step: tuple[int, int]) -> None:
        """Remember the shapes and the (decimals, units) of a tick; computes nothing yet."""
        minutes = library.by_minutes[1]
        self._volume = minutes.volume
        # Whole-tick average price of each minute, between low and high; the close where no trade.
        self._average = np.where(minutes.volume > 0, minutes.weighted // np.maximum(minutes.volume, 1), minutes.close)
        decimals, self._tick = price_step
        self._unit = 10 ** (8 + decimals)
        self._blocks: Whole = np.zeros((0, MINUTES_OF_DAY // BLOCK_MINUTES), dtype=np.int64)

    def turnover(self, days: Days, size: int, first: int, last: int) -> Whole:
        """Return an array (day, candle of `size` minutes) for the days `first` to `last`."""
        if size < BLOCK_MINUTES or last - first < FEW_DAYS:
            return self._sums(days, size, first - days.first, last - days.first + 1)
        blocks = self._blocks
        if len(blocks) < len(days):
            parts = [
                self._sums(days, BLOCK_MINUTES, at, min(at + CHUNK_DAYS, len(days)))
                for at in range(0, len(days), CHUNK_DAYS)
            ]
            blocks = self._blocks = np.concatenate(parts)
        chosen = blocks[first - days.first : last - days.first + 1]
        return np.asarray(chosen.reshape(len(chosen), -1, size // BLOCK_MINUTES).sum(axis=2))

    def _sums(self, days: Days, size: int, begin: int, end: int) -> Whole:
        span = slice(begin, end)
        row = days.shape[span]
        price = (days.base[span, None] + days.stretch[span, None] * self._average[row]) * self._tick
        volume = days.volume_factor[span, None] * self._volume[row]
        coins = (volume * self._unit + price // 2) // price
        return np.asarray(coins.reshape(len(row), -1, size).sum(axis=2))
