"""The key of one candle history, category:symbol:interval; whether the exchange knows it is not decided here."""

import re
from dataclasses import dataclass
from typing import Final

from kline_pipeline.errors import UnknownSeries
from kline_pipeline.market.interval import Interval

CATEGORIES: Final = ("linear", "inverse", "spot")
# Upper case only on the wire; dated contracts have a dash (BTCUSDT-26DEC25): bybit-v5.md 1.1 and 5.5.
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Series:
    """One candle history.

    Attributes:
        category: linear, inverse or spot.
        symbol: as the exchange spells it, upper case.
        interval: the candle interval.

    Raises:
        UnknownSeries: no such category, or a symbol that Bybit cannot have.
    """

    category: str
    symbol: str
    interval: Interval

    def __post_init__(self) -> None:
        check_category(self.category)
        if not _SYMBOL.fullmatch(self.symbol):
            msg = f"symbol {self.symbol!r} is not one: Bybit's symbols are upper-case letters and digits, e.g. BTCUSDT"
            raise UnknownSeries(msg)

    def __str__(self) -> str:
        return f"{self.category}:{self.symbol}:{self.interval.code}"

    @classmethod
    def parse(cls, text: str) -> "Series":
        """Return the series of a key such as linear:BTCUSDT:1; the interval may also be 1m, 1h, 1d.

        Raises:
            UnknownSeries: the text is not category:symbol:interval, or one of the three is unknown.
        """
        parts = text.split(":")
        if len(parts) != 3:  # noqa: PLR2004 - category, symbol, interval
            msg = f"{text!r} is not a series: write category:symbol:interval, e.g. linear:BTCUSDT:1"
            raise UnknownSeries(msg)
        return cls(parts[0], parts[1], Interval.parse(parts[2]))


def check_category(category: str) -> str:
    """Return the category as given.

    Raises:
        UnknownSeries: it is not one that has candles.
    """
    if category not in CATEGORIES:
        msg = f"category {category!r} is not one that has candles here: {', '.join(CATEGORIES)}"
        raise UnknownSeries(msg)
    return category
