"""Instruments as the exchange describes them, over all its pages."""

import pytest

from kline_pipeline.errors import MalformedAnswer
from kline_pipeline_tests.exchanges import NOW_MS, answers, canned, ok, simulated


def test_instruments_come_over_all_pages_each_once() -> None:
    with simulated() as (asked, exchange):
        found = asked.client.instruments("linear")
    names = [instrument.symbol for instrument in found]
    known = exchange.history.instruments("linear", NOW_MS)
    assert sorted(names) == [i.symbol for i in known if i.status(NOW_MS) == "Trading"]
    bitcoin = found[names.index("BTCUSDT")]
    assert (bitcoin.status, bitcoin.tick_size, bitcoin.qty_step) == ("Trading", "0.1", "0.001")
    assert (bitcoin.base_coin, bitcoin.quote_coin, bitcoin.delivery_time_ms) == (
        "BTC",
        "USDT",
        None,
    )
    assert bitcoin.launch_time_ms == 1_585_526_400_000  # 2020-03-30


def test_a_cursor_is_followed_until_it_repeats() -> None:
    def page(symbol: str, cursor: str) -> dict[str, object]:
        row: dict[str, object] = {
            "symbol": symbol,
            "status": "Trading",
            "baseCoin": "A",
            "quoteCoin": "USDT",
        }
        row |= {"priceFilter": {"tickSize": "1"}, "lotSizeFilter": {"qtyStep": "1"}}
        return ok({"category": "linear", "list": [row], "nextPageCursor": cursor})

    with canned(answers(page("A", "x"), page("B", "y"), page("B", "y"))) as asked:
        found = asked.client.instruments("linear")
    assert [instrument.symbol for instrument in found] == ["A", "B"]
    assert [request.url.params.get("cursor") for request in asked.sent] == [None, "x", "y"]


def test_spot_has_no_launch_time_and_calls_its_step_base_precision() -> None:
    with simulated() as (asked, _):
        (found,) = asked.client.instruments("spot", symbol="BTCUSDT")
        assert asked.client.instruments("spot", symbol="NOPEUSDT") == []
    assert (found.launch_time_ms, found.qty_step) == (None, "0.000001")


@pytest.mark.parametrize(
    "result",
    [
        {"category": "spot", "list": []},
        {"category": "linear"},
        {"category": "linear", "list": [{"symbol": "BTCUSDT"}]},
    ],
)
def test_another_category_or_shape_is_malformed(result: dict[str, object]) -> None:
    with canned(answers(ok(result))) as asked, pytest.raises(MalformedAnswer):
        asked.client.instruments("linear")
