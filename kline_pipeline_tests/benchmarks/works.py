"""The named works W1 to W4 and growth: which series and range each has. Measuring is told elsewhere."""

from dataclasses import dataclass
from typing import Final

from kline_pipeline.market.series import Series
from kline_pipeline.market.times import end_of, start_of
from kline_pipeline.market.window import Window
from kline_pipeline_tests.benchmarks.world import LATENCY_MS, RATE

BTC: Final = "linear:BTCUSDT:1"
MONTH: Final = ("2024-01-01", "2024-01-31")
YEAR: Final = ("2023-01-01", "2023-12-31")
FOUR_YEARS: Final = ("2021-01-01", "2024-12-31")


@dataclass(frozen=True)
class Work:
    """A range of series, for the core or through `backfill`.

    Attributes:
        name: W1 ...
        keys, start, end: what is asked for; `end` is the last day.
        options: of `simulate`.
    """

    name: str
    keys: tuple[str, ...]
    start: str
    end: str
    options: tuple[str, ...] = ()

    @property
    def series(self) -> list[Series]:
        """All series."""
        return [Series.parse(key) for key in self.keys]

    @property
    def window(self) -> Window:
        """The whole range."""
        now_ms = 2**43
        return Window(start_of(self.start, now_ms), end_of(self.end, now_ms))

    @property
    def candles(self) -> int:
        """How many there are, all series together."""
        return len(self.keys) * self.series[0].interval.count(self.window.start_ms, self.window.end_ms)

    @property
    def pages(self) -> int:
        """How many full pages that is; each series begins one of its own."""
        return len(self.keys) * -(-self.candles // len(self.keys) // 1000)

    @property
    def floor_s(self) -> float:
        """The least time in which so many pages can come, computed: the rate, and one round trip."""
        return self.pages / RATE + LATENCY_MS / 1000


WORKS: Final = {
    work.name: work
    for work in (
        Work("W1", (BTC,), *MONTH),
        Work("W2", (BTC,), *YEAR),
        Work("W3", (BTC, "linear:ETHUSDT:1", "linear:SOLUSDT:1"), *MONTH),
        Work("W4", tuple(f"linear:SYM{number:03}USDT:60" for number in range(1, 51)), *MONTH, ("--symbols", "50")),
        Work("growth", (BTC,), *FOUR_YEARS),
    )
}
