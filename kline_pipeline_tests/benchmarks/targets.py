"""The targets, all in this one place: how large or small a figure may be. Whether they hold changes no exit code.

Figures are named in measuring, parts and results; a target that names one which is not there is a defect and raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Target:
    """What one figure of one line should be.

    Attributes:
        name, way: of the line.
        figure: by its name, a median or a ratio.
        limit: that it should keep.
        at_least: it should not be smaller, instead of not larger.
    """

    name: str
    way: str
    figure: str
    limit: float
    at_least: bool = False

    def holds(self, found: float) -> bool:
        """Say whether a figure keeps the limit."""
        return found >= self.limit if self.at_least else found <= self.limit


_BOTH: Final = ("core", "backfill")

TARGETS: Final = (
    Target("fetch", "alone", "wall_to_computed", 1.15),
    Target("W1", "core", "wall_s", 2.0),
    Target("W2", "core", "wall_to_computed", 1.5),
    Target("W2", "core", "peak_mb", 400),
    Target("W2", "backfill", "wall_to_computed", 2.5),
    Target("W3", "backfill", "wall_s", 12),
    *(Target("W2", way, "own_cpu_s_per_million", 12) for way in _BOTH),
    *(Target("W5", way, "wall_to_w2", 0.5) for way in _BOTH),
    *(Target("W5", way, f"rows_{kind}", 0) for way in _BOTH for kind in ("inserted", "updated", "deleted")),
    Target("W6", "snapshots", "median_s", 0.35),
    Target("W6", "postgres", "median_s", 3),
    # Exact are both: the text that is landed and hashed, and the decimals of the snapshots.
    Target("decode", "exact text", "to_orjson", 4),
    Target("decode", "decimal128", "to_orjson", 4),
    Target("store", "new", "wall_to_copy", 1.5),
    Target("store", "new", "bytes_per_candle", 140),
    Target("store", "identical", "wall_to_copy", 0.2),
    Target("store", "identical", "wal_bytes_per_row", 5),
    Target("stream", "paced", "share_of_pace", 0.95, at_least=True),
    Target("stream", "paced", "cores", 0.8),
    Target("stream", "unpaced", "candles_per_s", 240_000, at_least=True),
    *(Target("growth", way, ratio, 1.2) for way in _BOTH for ratio in ("s_per_candle_to_w2", "peak_to_w2")),
    Target("start", "--help", "wall_s", 0.3),
)


@dataclass(frozen=True)
class Verdict:
    """A target, what was found, and whether it holds."""

    target: Target
    found: float
    holds: bool

    def __str__(self) -> str:
        bound = "at least" if self.target.at_least else "at most"
        told = "holds" if self.holds else "MISSED"
        return f"target: {self.target.figure} {bound} {self.target.limit:g}, found {self.found:,.2f}: {told}"


def judge(name: str, way: str, figures: Mapping[str, float]) -> list[Verdict]:
    """Return how the targets of a line stand, in the order of TARGETS.

    Raises:
        KeyError: the line has not the figure of a target.
    """
    mine = [target for target in TARGETS if (target.name, target.way) == (name, way)]
    return [Verdict(one, figures[one.figure], one.holds(figures[one.figure])) for one in mine]
