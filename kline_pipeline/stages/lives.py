"""The lives of the instruments that a filling meets, each found out once; how one is probed is told in bybit/lives."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.side_by_side import side_by_side
from kline_pipeline.errors import BadRequest
from kline_pipeline.evidence import listings
from kline_pipeline.market.listing import Listing
from kline_pipeline.stages.stores import Stores

_AT_ONCE: Final = 8  # each has a connection of the database's pool now and then


@dataclass(slots=True)
class KnownLives:
    """What one filling knows of the instruments of a category; for any number of threads.

    Attributes:
        stores: where listings are kept.
        client: of the exchange.
        category: of the instruments.
        now_ms: the exchange's time when the filling began.
    """

    stores: Stores
    client: BybitClient
    category: str
    now_ms: int
    _known: dict[str, Listing | str] = field(default_factory=dict)

    def learn(self, symbols: Iterable[str]) -> None:
        """Find out about instruments side by side: a probe is seven requests, one after the other.

        Raises:
            ExchangeError: one could not be asked for.
        """
        side_by_side(self.of, dict.fromkeys(symbols), _AT_ONCE)

    def of(self, symbol: str, *, again: bool = False) -> Listing | str:
        """Return the lives of an instrument, or why the exchange refuses to speak of it.

        Args:
            symbol: as the exchange spells it.
            again: ask whatever is known.

        Raises:
            ExchangeError: it could not be asked for.
        """
        if again or symbol not in self._known:
            try:
                self._known[symbol] = listings.known_or_probed(
                    self.stores.database,
                    self.client,
                    self.category,
                    symbol,
                    grace_ms=self.stores.grace_ms,
                    now_ms=self.now_ms,
                    again=again,
                )
            except BadRequest as exc:
                self._known[symbol] = str(exc)
        return self._known[symbol]
