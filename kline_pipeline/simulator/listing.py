"""GET /v5/market/instruments-info: filters, paging, and the different ways to say no."""

from collections.abc import Mapping
from urllib.parse import parse_qs, quote, unquote

from kline_pipeline.simulator import wire
from kline_pipeline.simulator.history import CATEGORIES, History
from kline_pipeline.simulator.instruments import STATUSES, Instrument
from kline_pipeline.simulator.wire import Response

DEFAULT_LIMIT, MAX_LIMIT = 500, 1000


def instruments_info(history: History, query: Mapping[str, str], now_ms: int) -> Response:
    """Answer as Bybit does: Trading only unless a status is asked for; spot knows no pages.

    Options exist as a category, but none is listed here: an empty list, as clients that load all
    markets expect.
    """
    category = query.get("category", "")
    if category not in {*CATEGORIES, "option"}:
        return wire.refusal(10001, now_ms, message="params error: Category is invalid")
    wanted = query.get("status") or "Trading"
    if wanted not in STATUSES:
        return wire.refusal(10001, now_ms, message="params error: status invalid")
    known = [i for i in history.instruments(category, now_ms) if not i.vanished]
    symbol = query.get("symbol", "")
    if symbol and category in {"linear", "inverse"} and all(i.symbol != symbol for i in known):
        result = {"category": "", "list": [], "nextPageCursor": ""}
        return wire.refusal(10001, now_ms, message="params error: symbol invalid", result=result)
    found = [
        i
        for i in known
        if i.status(now_ms) == wanted
        and (not symbol or i.symbol == symbol)
        and query.get("baseCoin", "") in {"", i.base_coin}
    ]
    if category == "spot":
        # Spot offers Trading only: what was delisted is simply not there.
        found = found if wanted == "Trading" else []
        listed = [i.wire(now_ms) for i in found]
        return wire.ok({"category": category, "list": listed}, now_ms, empty=not listed)
    return _page(category, found, query, now_ms)


def _page(category: str, found: list[Instrument], query: Mapping[str, str], now_ms: int) -> Response:
    text = query.get("limit", "") or str(DEFAULT_LIMIT)
    if not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        return wire.refusal(10001, now_ms, message="params error: limit invalid")
    # Clients send the cursor as it came or decoded once more: both are understood.
    after = parse_qs(unquote(query.get("cursor", ""))).get("last", [""])[0]
    page = [i for i in found if i.symbol > after][: int(text)]
    cursor = ""
    if len(page) == int(text) or (page and query.get("status")):
        # A full page, or one by status, carries a cursor even if it is the last (official sample).
        cursor = quote(f"first={page[0].symbol}&last={page[-1].symbol}", safe="")
    listed = [i.wire(now_ms) for i in page]
    result = {"category": category, "list": listed, "nextPageCursor": cursor}
    return wire.ok(result, now_ms, empty=not listed)
