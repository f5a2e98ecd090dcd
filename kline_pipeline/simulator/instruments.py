"""An instrument: its lives under one name, its steps, and its shape in instruments-info.

Which instruments exist is said by catalogue (synthetic) or replay (recorded).
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from kline_pipeline.simulator.grid import DAY_MS

# UTC ms, half-open; None: still alive.
Life = tuple[int, int | None]
STATUSES = ("PreLaunch", "Trading", "Delivering", "Closed")
# An instrument is announced, as PreLaunch, this long before its first candle.
ANNOUNCED_MS = 31 * DAY_MS


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """One instrument of one category.

    Attributes:
        lives: when it had candles, oldest first.
        launch_ms: what instruments-info claims as launchTime (not always the first candle).
        tick_size: price step, e.g. "0.1".
        qty_step: size step in the unit of the volume column, e.g. "0.001".
        delivering_ms: how long it stays Delivering after its last life.
        vanished: missing from instruments-info though its candles are served.
        supported: False: the kline endpoint answers "Not supported symbols".
    """

    category: str
    symbol: str
    base_coin: str
    quote_coin: str
    lives: tuple[Life, ...]
    launch_ms: int
    tick_size: str
    qty_step: str
    delivering_ms: int = 0
    vanished: bool = False
    supported: bool = True

    @cached_property
    def price_step(self) -> tuple[int, int]:
        """Decimals of the price and the tick in units of the last decimal: ("0.5") -> (1, 5)."""
        return _step(self.tick_size)

    @cached_property
    def volume_step(self) -> tuple[int, int]:
        """Decimals of the volume and the size step in units of the last decimal."""
        return _step(self.qty_step)

    def known(self, now_ms: int) -> bool:
        """Say whether the exchange has announced it by `now_ms`."""
        return now_ms >= min(self.launch_ms, self.lives[0][0]) - ANNOUNCED_MS

    def status(self, now_ms: int) -> str:
        """Return one of STATUSES; between two lives it is Closed."""
        if now_ms < self.lives[0][0]:
            return "PreLaunch"
        if any(start <= now_ms and (end is None or now_ms < end) for start, end in self.lives):
            return "Trading"
        last = self.lives[-1][1]
        if last is not None and last <= now_ms < last + self.delivering_ms:
            return "Delivering"
        return "Closed"

    def wire(self, now_ms: int) -> dict[str, Any]:
        """Return its entry in instruments-info as served at `now_ms`."""
        return self._spot() if self.category == "spot" else self._derivative(now_ms)

    def _spot(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "baseCoin": self.base_coin,
            "quoteCoin": self.quote_coin,
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "utaOnly",
            "stTag": "0",
            "lotSizeFilter": {
                "basePrecision": self.qty_step,
                "quotePrecision": "0.0000001",
                "minOrderQty": self.qty_step,
                "maxOrderQty": "100000000",
                "minOrderAmt": "5",
                "maxOrderAmt": "8000000",
            },
            "priceFilter": {"tickSize": self.tick_size},
            "riskParameters": {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"},
            "symbolType": "",
        }

    def _derivative(self, now_ms: int) -> dict[str, Any]:
        status = self.status(now_ms)
        last = self.lives[-1][1]
        settle = self.base_coin if self.category == "inverse" else self.quote_coin
        contract = "InversePerpetual" if self.category == "inverse" else "LinearPerpetual"
        return {
            "symbol": self.symbol,
            "contractType": contract,
            "status": status,
            "baseCoin": self.base_coin,
            "quoteCoin": self.quote_coin,
            "launchTime": str(self.launch_ms),
            "deliveryTime": str(last) if last is not None and now_ms >= last else "0",
            "deliveryFeeRate": "",
            "priceScale": str(self.price_step[0]),
            "leverageFilter": {"minLeverage": "1", "maxLeverage": "50.00", "leverageStep": "0.01"},
            "priceFilter": {
                "minPrice": self.tick_size,
                "maxPrice": "1999999.80",
                "tickSize": self.tick_size,
            },
            "lotSizeFilter": {
                "maxOrderQty": "100000000",
                "minOrderQty": self.qty_step,
                "qtyStep": self.qty_step,
                "minNotionalValue": "5",
            },
            "unifiedMarginTrade": True,
            "fundingInterval": 480,
            "settleCoin": settle,
            "copyTrading": "none",
            "upperFundingRate": "0.00375",
            "lowerFundingRate": "-0.00375",
            "isPreListing": status == "PreLaunch",
            "preListingInfo": None,
            "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
            "symbolType": "",
        }


def _step(text: str) -> tuple[int, int]:
    exponent = Decimal(text).normalize().as_tuple().exponent
    decimals = max(0, -exponent) if isinstance(exponent, int) else 0
    return decimals, int(Decimal(text).scaleb(decimals))
