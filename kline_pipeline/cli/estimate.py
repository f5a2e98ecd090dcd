"""What a backfill would cost, for --dry-run: requests, time, rows and bytes; no candle is fetched."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from kline_pipeline.bybit.pages import plan
from kline_pipeline.cli.ranges import Selection
from kline_pipeline.market.window import Window, merge

if TYPE_CHECKING:
    from kline_pipeline.pipeline import Pipeline

# Measured on 262,080 simulated minutes: 24 in raw batches, 23 in working candles, 40 in snapshots, 137 in the table and
# its key.
_BYTES_PER_ROW: Final = 224


@dataclass(frozen=True, slots=True)
class Estimate:
    """What fetching would take.

    Attributes:
        partitions: that the range has, of which `to_fetch` lack something.
        requests: pages of candles.
        seconds: of those requests at the budget.
        rows: candles to come.
        size_bytes: roughly, in all stores together.
    """

    partitions: int
    to_fetch: int
    requests: int
    seconds: float
    rows: int
    size_bytes: int

    def as_json(self) -> dict[str, float]:
        """Return it ready for JSON."""
        return {**asdict(self), "dry_run": True}

    def sentence(self) -> str:
        """Return it for people."""
        return (
            f"{self.to_fetch} of {self.partitions} partitions lack candles: about {self.requests:,} requests "
            f"({self.seconds:,.0f} s at the budget), {self.rows:,} rows, {self.size_bytes / 1e6:,.1f} MB in all stores"
        )


def estimate(
    pipeline: "Pipeline", selections: Sequence[Selection], *, now_ms: int, requests_per_second: float
) -> Estimate:
    """Return what `fill` would fetch of the selections."""
    partitions = to_fetch = requests = rows = 0
    for selection in selections:
        interval = selection.dataset.interval
        missing = pipeline.missing(selection.dataset, selection.cells, now_ms=now_ms)
        partitions += len(missing)
        to_fetch += sum(bool(windows) for windows in missing.values())
        for symbol in selection.symbols:
            own = merge(window for cell, windows in missing.items() if cell.symbol == symbol for window in windows)
            requests += sum(len(plan(span, interval)) for span in own)
            rows += sum(_count(selection, window) for window in own)
    return Estimate(partitions, to_fetch, requests, requests / requests_per_second, rows, rows * _BYTES_PER_ROW)


def _count(selection: Selection, window: Window) -> int:
    return selection.dataset.interval.count(window.start_ms, window.end_ms)
