"""How a synthetic instrument behaves, besides what the exchange says about it.

Which instruments there are stands in catalogue.
"""

from dataclasses import dataclass

from kline_pipeline.simulator.instruments import Instrument, Life


@dataclass(frozen=True, slots=True)
class Nature:
    """How a synthetic instrument behaves.

    Attributes:
        price: its price on its first day.
        growth: how many e-foldings its price drifts a year.
        daily_volume: mean volume of a day, in the unit of the volume column.
        quiet: some of its minutes have no trade: flat candles of volume zero.
    """

    price: float
    growth: float
    daily_volume: float
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """An instrument and how it behaves."""

    instrument: Instrument
    nature: Nature


def make_entry(  # noqa: PLR0917 - a table of symbols reads best in columns
    category: str,
    base: str,
    lives: list[Life],
    tick_size: str,
    qty_step: str,
    nature: Nature,
    *,
    launch_ms: int | None = None,
    delivering_ms: int = 0,
    vanished: bool = False,
    supported: bool = True,
) -> Entry:
    """Return the entry of base coin `base`, quoted in USD (inverse) or USDT."""
    quote = "USD" if category == "inverse" else "USDT"
    instrument = Instrument(
        category=category,
        symbol=base + quote,
        base_coin=base,
        quote_coin=quote,
        lives=tuple(lives),
        launch_ms=lives[0][0] if launch_ms is None else launch_ms,
        tick_size=tick_size,
        qty_step=qty_step,
        delivering_ms=delivering_ms,
        vanished=vanished,
        supported=supported,
    )
    return Entry(instrument, nature)
