"""The days of one synthetic instrument: which shape, how stretched, from which price.

Every day opens at the close of the day before, so the price of a day follows from all days before
it; that chain is one short loop per instrument, made once and kept.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from kline_pipeline.simulator.grid import DAY_MS
from kline_pipeline.simulator.nature import Entry
from kline_pipeline.simulator.templates import (
    AMPLITUDES,
    BUSY,
    MEAN_DAY_VOLUME,
    PER_AMPLITUDE,
    QUIET,
    Library,
    Whole,
)

# Below this many ticks a day may only end higher, so that prices stay positive.
FLOOR_TICKS = 2_000
# A price further from its anchor than this (in e-foldings) is led back.
STRAY = 0.25
# Days are laid out this far ahead of need, so that a running server seldom has to do it again.
AHEAD_DAYS = 400


@dataclass(frozen=True, slots=True)
class Days:
    """Consecutive UTC days of an instrument, all arrays int64 of the same length.

    Attributes:
        first: number of the first day (days since 1970-01-01).
        shape: row of the template library.
        stretch: factor on price offsets, in ticks; negative mirrors the day.
        base: opening price in ticks.
        volume_factor: factor on volumes, in size steps.
    """

    first: int
    shape: Whole
    stretch: Whole
    base: Whole
    volume_factor: Whole

    def __len__(self) -> int:
        """Return the number of days laid out."""
        return len(self.shape)


def lay_out(entry: Entry, seed: int, library: Library, until_day: int) -> Days:
    """Return the days of an instrument from its first life to its end, or past `until_day`.

    The days of a longer layout begin with those of a shorter one.
    """
    first = entry.instrument.lives[0][0] // DAY_MS
    end = entry.instrument.lives[-1][1]
    last = until_day + AHEAD_DAYS if end is None else end // DAY_MS
    bits = _bits(f"{seed}:{entry.instrument.category}:{entry.instrument.symbol}", first, last)
    shape, stretch, base = _chain(entry, library, bits)
    decimals, step = entry.instrument.volume_step
    lots = entry.nature.daily_volume * 10**decimals / step / MEAN_DAY_VOLUME
    mood = 0.4 + ((bits >> np.uint64(40)) & np.uint64(0xFFF)).astype(np.float64) / 0xFFF * 1.2
    factor = np.maximum(1, np.rint(lots * mood)).astype(np.int64)
    return Days(first, shape, stretch, base, factor)


def _chain(entry: Entry, library: Library, bits: np.ndarray) -> tuple[Whole, Whole, Whole]:
    nature, (decimals, step) = entry.nature, entry.instrument.price_step
    start = nature.price * 10**decimals / step
    price, shapes, stretches, bases = round(start), [], [], []
    for day, word in enumerate(bits.tolist()):
        years = day / 365.25
        anchor = start * math.exp(nature.growth * years + 0.5 * math.sin(years * 1.7))
        reach = price * (0.03 + (word >> 16 & 0xFF) / 0xFF * 0.03)
        size = max((i for i, a in enumerate(AMPLITUDES) if a <= reach), default=0)
        kind = BUSY + word % QUIET if nature.quiet else word % BUSY
        shape = size * PER_AMPLITUDE + kind
        stretch = max(1, round(reach / AMPLITUDES[size]))
        net = library.day_close[shape]
        if price < FLOOR_TICKS or abs(math.log(price / anchor)) > STRAY:
            up = price < anchor or price < FLOOR_TICKS
        else:
            up = bool(word >> 24 & 1)
        if (net < 0) == up:
            stretch = -stretch
        shapes.append(shape)
        stretches.append(stretch)
        bases.append(price)
        price += stretch * net
    return (
        np.array(shapes, dtype=np.int64),
        np.array(stretches, dtype=np.int64),
        np.array(bases, dtype=np.int64),
    )


def _bits(name: str, first: int, last: int) -> np.ndarray:
    # splitmix64 over the day number, keyed by the name: a day's word depends on nothing else.
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    word = np.arange(first, last + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    word = word + np.uint64(key)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))
