"""The lives of an instrument as windows, and what they leave of a grid; how they are found is told in bybit/lives."""

from dataclasses import dataclass
from typing import Final

from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window, merge

# Later than any candle and still a date that every library can print: 2200-01-01.
NEVER_MS: Final = 7_258_118_400_000


@dataclass(frozen=True, slots=True)
class Listing:
    """All lives of one instrument.

    Attributes:
        lives: from the first open time to the exclusive end, disjoint and ascending; one that goes on ends in 2200.
        probed_at_ms: when the exchange was asked, UTC.
    """

    lives: tuple[Window, ...]
    probed_at_ms: int

    def windows(self, interval: Interval, within: Window) -> list[Window]:
        """Return the parts of `within` that the grid of an interval has: every candle that overlaps a life."""
        grids = (
            Window(interval.floor(life.start_ms), interval.ceil(min(life.end_ms, NEVER_MS))) for life in self.lives
        )
        # Merged: one candle may overlap the end of a life and the beginning of the next.
        return merge(grid.intersect(within) for grid in grids)

    @property
    def goes_on(self) -> bool:
        """The instrument was listed when it was probed."""
        return bool(self.lives) and self.lives[-1].end_ms == NEVER_MS

    @property
    def first_ms(self) -> int:
        """Open time of the very first candle."""
        return self.lives[0].start_ms
