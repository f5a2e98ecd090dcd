"""What goes into a sink and what it holds afterwards; how it is written is told by each sink."""

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from kline_pipeline.candles.derive import Generation
from kline_pipeline.errors import CorruptFile
from kline_pipeline.market.schema import sha256_of
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ToLand:
    """The candles of one partition that may land.

    Attributes:
        series, date, window: the partition.
        candles: CANDLE_SCHEMA, ascending and unique by open time.
        sha256: of the candles.
        generation: of the raw batches they were derived from.
        sinks: all sinks of the dataset: the partition has landed when each holds it.
        proved: the candles are known to have that sha256, as they were not read from anywhere since it was taken.
    """

    series: Series
    date: date
    window: Window
    candles: pa.Table
    sha256: str
    generation: Generation
    sinks: tuple[str, ...]
    proved: bool = False

    def prove(self) -> None:
        """Return if the candles are those that were judged; who writes them, or compares with them, asks first.

        Raises:
            CorruptFile: the working candles that were read are not what was written.
        """
        if not self.proved and sha256_of(self.candles) != self.sha256:
            told = f"the working candles of {self.series} {self.date} are not those judged"
            raise CorruptFile(f"{told}; backfill or rebuild it")

    @property
    def rows(self) -> int:
        """How many candles."""
        return len(self.candles)

    @property
    def first_ms(self) -> int | None:
        """Open time of the first candle, None without candles."""
        return self.candles["open_time_ms"][0].as_py() if len(self.candles) else None

    @property
    def last_ms(self) -> int | None:
        """Open time of the last candle, None without candles."""
        return self.candles["open_time_ms"][-1].as_py() if len(self.candles) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a sink holds of one partition, read back from it.

    Attributes:
        rows: candles.
        first_ms, last_ms: open times, None without candles.
        sha256: of the candles in canonical text.
        written: rows that this landing inserted, updated or deleted; 0 when all was there.
        size_bytes: of the file, None for a table.
        stepped_back: a higher generation had landed, and nothing was written.
        fingerprint: by which the sink tells cheaply whether it still holds the same, empty where none was taken.
    """

    rows: int
    first_ms: int | None
    last_ms: int | None
    sha256: str
    written: int = 0
    size_bytes: int | None = None
    stepped_back: bool = False
    fingerprint: str = ""


def steps_back(known_generation: str | None, mine: Generation) -> bool:
    """Return whether a sink already holds what newer answers say."""
    return known_generation is not None and Generation.parse(known_generation) > mine
