"""What instruments-info says about an instrument; when it really had candles is told by lives."""

from dataclasses import dataclass

import msgspec

from kline_pipeline.bybit.messages import Answer, Envelope, malformed


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument as the exchange describes it.

    Attributes:
        category, symbol: its name.
        status: PreLaunch, Trading, Delivering or Closed.
        launch_time_ms: as claimed, UTC; not the first candle, None for spot.
        delivery_time_ms: end of its life, UTC; None while it has none.
        base_coin, quote_coin: what is traded and what it is priced in.
        tick_size: price step, a plain decimal.
        qty_step: size step in the unit of the volume column, a plain decimal.
    """

    category: str
    symbol: str
    status: str
    launch_time_ms: int | None
    delivery_time_ms: int | None
    base_coin: str
    quote_coin: str
    tick_size: str
    qty_step: str


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str


class _LotSizeFilter(msgspec.Struct, rename="camel"):
    qty_step: str = ""
    base_precision: str = ""  # spot's name for it


class _Row(msgspec.Struct, rename="camel"):
    symbol: str
    status: str
    base_coin: str
    quote_coin: str
    price_filter: _PriceFilter
    lot_size_filter: _LotSizeFilter
    launch_time: str = ""
    delivery_time: str = ""


class _Result(msgspec.Struct, rename="camel"):
    category: str
    rows: list[_Row] = msgspec.field(name="list")
    next_page_cursor: str = ""


def instruments_page(answer: Answer, envelope: Envelope, *, category: str) -> tuple[list[Instrument], str]:
    """Return the instruments of one answer and the cursor of the next; "" when there is none.

    Raises:
        MalformedAnswer: not the documented shape, or another category.
    """
    try:
        result = msgspec.json.decode(envelope.result, type=_Result)
        found = [_instrument(category, row) for row in result.rows]
    except (msgspec.MsgspecError, ValueError) as exc:
        raise malformed(answer, f"a result that holds no instruments ({exc})") from exc
    if result.category != category:
        came = f"instruments of category {result.category!r} instead of {category!r}"
        raise malformed(answer, came)
    return found, result.next_page_cursor if found else ""


def _instrument(category: str, row: _Row) -> Instrument:
    return Instrument(
        category=category,
        symbol=row.symbol,
        status=row.status,
        launch_time_ms=int(row.launch_time or 0) or None,
        delivery_time_ms=int(row.delivery_time or 0) or None,
        base_coin=row.base_coin,
        quote_coin=row.quote_coin,
        tick_size=row.price_filter.tick_size,
        qty_step=row.lot_size_filter.qty_step or row.lot_size_filter.base_precision,
    )
