"""What a source of candles offers to the exchange, and how its numbers become text.

Sources are market (synthetic) and replay (recorded). No range semantics here: those are Bybit's
and live in exchange.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.simulator.instruments import Instrument

CATEGORIES = ("linear", "inverse", "spot")
# Arrow writes what is smaller than 0.000001 with an exponent.
_PLAIN_DECIMALS = 6
# open_time in ms, open, high, low, close, volume, turnover, as Bybit spells them.
Row = tuple[str, str, str, str, str, str, str]
Numbers = NDArray[Any]


class HistoryError(Exception):
    """A history cannot be served; the message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Candles as columns of whole numbers, oldest first.

    Prices, volume and turnover are exact: the value is the number times ten to the power of minus
    its decimals. `open_time` is UTC milliseconds. int64, or Python integers where
    that is too narrow.
    """

    open_time: Numbers
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers
    turnover: Numbers

    def __len__(self) -> int:
        """Return the number of candles."""
        return len(self.open_time)

    def take(self, which: Any) -> "Columns":
        """Return the candles selected by a slice, a mask or positions."""
        return Columns(*(column[which] for column in self.arrays()))

    def arrays(self) -> tuple[Numbers, ...]:
        """Return the seven columns in wire order."""
        return (
            self.open_time,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.turnover,
        )

    def grouped(self, starts: Numbers, open_times: Numbers) -> "Columns":
        """Return one candle for each run of candles that begins at a position of `starts`."""
        if not len(starts):
            return self.take(slice(0, 0))
        ends = np.append(starts[1:], len(self)) - 1
        return Columns(
            open_times,
            self.open[starts],
            np.maximum.reduceat(self.high, starts),
            np.minimum.reduceat(self.low, starts),
            self.close[ends],
            np.add.reduceat(self.volume, starts),
            np.add.reduceat(self.turnover, starts),
        )


def joined(parts: Sequence[Columns]) -> Columns:
    """Return several columns end to end; there must be at least one."""
    if len(parts) == 1:
        return parts[0]
    return Columns(*(np.concatenate(pieces) for pieces in zip(*(p.arrays() for p in parts), strict=True)))


def rows_newest_first(columns: Columns, decimals: tuple[int, int, int]) -> list[Row]:
    """Return wire rows, newest first; `decimals` are those of price, volume and turnover."""
    price, volume, turnover = decimals
    places = (0, price, price, price, price, volume, turnover)
    texts = [_texts(column[::-1], digits) for column, digits in zip(columns.arrays(), places, strict=True)]
    return list(zip(*texts, strict=True))


def _texts(values: Numbers, decimals: int) -> list[str]:
    """Return numbers as Bybit spells them: trailing zeros and ".0" are stripped in every column."""
    small = decimals > _PLAIN_DECIMALS and bool(np.any(values * 10.0**_PLAIN_DECIMALS < 10.0**decimals))
    if values.dtype == np.int64 and not small:
        # By columns: a page has 7000 numbers, and Python takes a microsecond for each.
        words = np.ascontiguousarray(np.stack([values, values >> 63], axis=1))
        exact = pa.Array.from_buffers(pa.decimal128(38, decimals), len(values), [None, pa.py_buffer(words)])
        texts = pc.cast(exact, pa.string())
        plain: list[str] = (pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".") if decimals else texts).to_pylist()
        return plain
    scale = 10**decimals
    spelled = []
    for value in values.tolist():
        whole, rest = divmod(value, scale)
        spelled.append(f"{whole}.{rest:0{decimals}d}".rstrip("0") if rest else str(whole))
    return spelled


class History(Protocol):
    """A source of candles; a pure function of its arguments, safe to call from many threads."""

    @property
    def venue(self) -> str:
        """Name of what is served: two equal names serve equal candles."""

    @property
    def seed(self) -> int | None:
        """Seed of a synthetic history, None of a recorded one."""

    def instruments(self, category: str, now_ms: int) -> list[Instrument]:
        """Return every instrument known at `now_ms`, of any status, by symbol."""

    def find(self, category: str, symbol: str, now_ms: int) -> Instrument | None:
        """Return the instrument whose candles are served under this name, None if there is none."""

    def has(self, instrument: Instrument, interval: str) -> bool:
        """Say whether candles of this interval exist for the instrument."""

    def newest(self, instrument: Instrument, interval: str, *, until_ms: int, limit: int, now_ms: int) -> list[Row]:
        """Return the newest `limit` candles whose open_time is <= `until_ms`, newest first.

        The candle that is open at `now_ms` is among them; empty means nothing opened by then.
        """
