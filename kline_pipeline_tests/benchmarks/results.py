"""What several runs of one work say together: medians, largest figures, and ratios, which are the result. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

# Of these the worst run counts: one that fits into memory says nothing of another that does not.
LARGEST: Final = ("peak_mb", "rows_inserted", "rows_updated", "rows_deleted", "refused")

# A ratio's name: what is divided by which floor of the same run.
TO_FLOORS: Final = {
    "wall_to_computed": ("wall_s", "floor_computed_s"),
    "wall_to_fetched": ("wall_s", "floor_fetched_s"),
    "wall_to_copy": ("wall_s", "floor_copy_s"),
    "wall_to_parquet": ("wall_s", "floor_parquet_s"),
    "own_cpu_to_orjson": ("own_cpu_s", "floor_orjson_cpu_s"),
}

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """One work done in one way, several times.

    Attributes:
        name: of the work or part, such as W1.
        way: core, backfill, or what was done instead.
        runs: the figures of each, by name, with the unit at the end of the name; all have the same names.
        ratios: by name; nothing where there is nothing to be compared with.
    """

    name: str
    way: str
    runs: Sequence[Figures]
    ratios: Figures = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, float]:
        """The median of each figure over the runs; of those in LARGEST the largest."""
        return {name: self._over_runs(name) for name in self.runs[0]}

    @property
    def figures(self) -> dict[str, float]:
        """Medians and ratios, by name."""
        return {**self.medians, **self.ratios}

    def _over_runs(self, name: str) -> float:
        found = [run[name] for run in self.runs]
        return max(found) if name in LARGEST else median(found)


def within_runs(runs: Sequence[Figures], pairs: Mapping[str, tuple[str, str]]) -> dict[str, float]:
    """Return the median over the runs of each ratio of two figures of the same run, by the names of `pairs`."""
    return {name: median(run[above] / run[below] for run in runs) for name, (above, below) in pairs.items()}


def again_to_first(again: Sequence[Figures], first: Sequence[Figures]) -> dict[str, float]:
    """Return the ratio of W5 to W2: the median over pairs of runs, each pair of one KLINE_HOME."""
    return {"wall_to_w2": median(two["wall_s"] / one["wall_s"] for two, one in zip(again, first, strict=True))}


def grown_to_year(grown: Figures, year: Figures) -> dict[str, float]:
    """Return the ratios of growth to W2, of medians (memory: of the largest), as their runs are not paired."""
    per_candle = (grown["wall_s"] / grown["candles"]) / (year["wall_s"] / year["candles"])
    return {"s_per_candle_to_w2": per_candle, "peak_to_w2": grown["peak_mb"] / year["peak_mb"]}
