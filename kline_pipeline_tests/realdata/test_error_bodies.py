"""Every recorded answer in KLINE_REALDATA/responses is what its file name says: an error of ours, or data."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kline_pipeline.bybit.instruments import instruments_page
from kline_pipeline.bybit.messages import Answer, Envelope, kline_rows, open_envelope
from kline_pipeline.errors import (
    BadCategory,
    BadInterval,
    BadRequest,
    BadSignature,
    BadSymbol,
    CountryBlocked,
    ExchangeError,
    MalformedAnswer,
    RateLimited,
    ServerBusy,
)

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif("KLINE_REALDATA" not in os.environ, reason="KLINE_REALDATA names no folder"),
]

Expectation = Callable[[Answer], None]
ROOT = Path(os.environ.get("KLINE_REALDATA", "")) / "responses"


def refused(kind: type[ExchangeError]) -> Expectation:
    """The envelope is a refusal of exactly this kind."""

    def expect(answer: Answer) -> None:
        with pytest.raises(ExchangeError) as caught:
            open_envelope(answer)
        assert type(caught.value) is kind
        assert caught.value.body_excerpt in answer.text

    return expect


def candles(category: str, symbol: str) -> Expectation:
    """Candles of seven columns, read to the last digit, and of no other symbol or category."""

    def expect(answer: Answer) -> None:
        envelope = open_envelope(answer)
        table = kline_rows(answer, envelope, category=category, symbol=symbol)
        rows = json.loads(answer.body)["result"]["list"]
        assert rows
        assert [[str(cell) for cell in row.values()] for row in table.to_pylist()] == rows
        with pytest.raises(MalformedAnswer, match="OTHERUSDT"):
            kline_rows(answer, envelope, category=category, symbol="OTHERUSDT")

    return expect


def no_candles(category: str, symbol: str) -> Expectation:
    """A good answer whose rows are of another shape, such as five columns: never taken for candles."""

    def expect(answer: Answer) -> None:
        envelope = open_envelope(answer)
        with pytest.raises(MalformedAnswer):
            kline_rows(answer, envelope, category=category, symbol=symbol)

    return expect


def instruments(category: str, *symbols: str) -> Expectation:
    """A list of instruments; no symbol: an empty one."""

    def expect(answer: Answer) -> None:
        page, _ = instruments_page(answer, open_envelope(answer), category=category)
        assert tuple(one.symbol for one in page) == symbols

    return expect


def opens(answer: Answer) -> None:
    """A good answer to a question that we do not ask."""
    envelope = open_envelope(answer)
    body: dict[str, Any] = json.loads(answer.body)
    assert (envelope.ret_code, envelope.time) == (0, body["time"])
    assert msgspec.json.decode(envelope.result) == body["result"]


NOT_V5 = refused(MalformedAnswer)
EXPECTED: Mapping[str, Expectation] = {
    "0_unknown_symbol_instruments_spot_empty_list_rec1790319460076.json": instruments("spot"),
    "10001_accountType_rec1745561386358.json": refused(BadRequest),
    "10001_illegal_category_rec1789824034328.json": refused(BadCategory),
    "10001_instruments_option_rec1790373456786.json": refused(BadSymbol),
    "10001_invalid_period_rec1762877810221.json": refused(BadInterval),
    "10001_not_supported_symbols_rec1726147060461.json": refused(BadSymbol),
    "10001_sign_params_error_null_result_rec1664789597123.json": refused(BadRequest),
    "10001_symbol_invalid_instruments_inverse_rec1790373455993.json": refused(BadSymbol),
    "10001_symbol_invalid_instruments_linear_rec1790320625451.json": refused(BadSymbol),
    "10001_symbol_invalid_orderbook_rec1789898100960.json": refused(BadSymbol),
    "10001_symbol_invalid_rec1741615413686.json": refused(BadSymbol),
    "10004_error_sign_rec1687600744856.json": refused(BadSignature),
    "10006_kline_http200_reconstructed.json": refused(RateLimited),
    "10006_rec1693924869139.json": refused(RateLimited),
    "10016_request_timeout_rec1675307914985.json": refused(ServerBusy),
    "403_cloudfront_country_block.html": refused(CountryBlocked),
    "inverse_BTCUSD_1_mark_rec1671968706092.json": no_candles("inverse", "BTCUSD"),
    "inverse_BTCUSD_60_docs_rec1672025956592.json": candles("inverse", "BTCUSD"),
    # Another API: ret_code instead of retCode.
    "legacy_spot_v1_BTCUSDT_5m_rec20220506.json": NOT_V5,
    "linear_BTCUSDT_1_unclosed_rec1687589659062.json": candles("linear", "BTCUSDT"),
    "linear_BTCUSDT_60_5col_unclosed_rec1784906263456.json": no_candles("linear", "BTCUSDT"),
    # ccxt turned the numbers of the envelope into strings, which the exchange never sent.
    "linear_BTCUSDT_60_ccxt_static_rec1706803708087_numbers_stringified.json": NOT_V5,
    "linear_BTCUSDT_60_unclosed_rec1786820637599.json": candles("linear", "BTCUSDT"),
    "linear_BTCUSDT_D_2021-09_rec1677516322292.json": candles("linear", "BTCUSDT"),
    "linear_ETHUSDT_1_index_rec1684006703286.json": no_candles("linear", "ETHUSDT"),
    "ro-soku_3_spot_btcusdt_1m_midstart.json": candles("spot", "BTCUSDT"),
    "spot_BTCUSDT_3_rec1733503221768.json": candles("spot", "BTCUSDT"),
    "spot_BTCUSDT_D_unclosed_rec1745919999317.json": candles("spot", "BTCUSDT"),
    "docs_examples/announcements.json": opens,
    "docs_examples/funding_history.json": opens,
    "docs_examples/index_price_kline.json": no_candles("inverse", "BTCUSDZ22"),
    "docs_examples/instruments_info.json": instruments("linear", "BTCUSDT"),
    "docs_examples/instruments_info_2.json": instruments("linear", "BIOUSDT"),
    "docs_examples/instruments_info_3.json": instruments("option", "BTC-27MAR26-70000-P-USDT"),
    "docs_examples/instruments_info_4.json": instruments("spot", "BTCUSDT"),
    "docs_examples/kline.json": candles("inverse", "BTCUSD"),
    "docs_examples/mark_price_kline.json": no_candles("linear", "BTCUSDT"),
    "docs_examples/open_interest.json": no_candles("inverse", "BTCUSD"),
    "docs_examples/premium_index_price_kline.json": no_candles("linear", "BTCUSDT"),
    "docs_examples/system_status.json": opens,
    "docs_examples/time.json": opens,
    # Messages of the stream, which have no envelope.
    "docs_examples/ws_kline.json": NOT_V5,
    "docs_examples/ws_system_status.json": NOT_V5,
    # Written out again by a program: results without their envelope, rows as objects.
    "testnet_series/v5-market-get-funding-rate-history.json": NOT_V5,
    "testnet_series/v5-market-get-index-price-kline.json": NOT_V5,
    "testnet_series/v5-market-get-kline.json": NOT_V5,
    "testnet_series/v5-market-get-mark-price-kline.json": NOT_V5,
    "testnet_series/v5-market-get-open-interest.json": NOT_V5,
    "testnet_series/v5-market-get-premium-index-price-kline.json": NOT_V5,
}
# Of error_bodies.jsonl, in its order.
LISTED: tuple[tuple[str, Expectation], ...] = (
    ('"category":"spot","list":[]', instruments("spot")),
    ("params error: symbol invalid", refused(BadSymbol)),
    ("params error: Symbol Invalid", refused(BadSymbol)),
    ("Not supported symbols", refused(BadSymbol)),
    ("params error: intervalTime is invalid", refused(BadInterval)),
    ("params error: Category is invalid", refused(BadCategory)),
    ("Illegal category", refused(BadCategory)),
    ("Too many visits. Exceeded the API Rate Limit.", refused(RateLimited)),
    ("Request timeout, please try again later", refused(ServerBusy)),
    ("Server Timeout", refused(ServerBusy)),
    ('"symbol":"BTCUSDT","category":"linear","list":[]', opens),
    ("CloudFront distribution", refused(CountryBlocked)),
)


def recorded(body: bytes, status: int = 200) -> Answer:
    return Answer(host="h", asked="a recorded answer", status=status, headers={}, body=body)


def test_every_recorded_file_has_an_expectation_and_every_expectation_a_file() -> None:
    files = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    assert files == {*EXPECTED, "error_bodies.jsonl"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_answer_is_what_its_file_name_says(name: str) -> None:
    EXPECTED[name](recorded((ROOT / name).read_bytes(), 403 if name.startswith("403_") else 200))


def test_every_listed_error_body_is_what_it_says() -> None:
    cases = [json.loads(line) for line in (ROOT / "error_bodies.jsonl").read_text().splitlines()]
    for case, (words, expect) in zip(cases, LISTED, strict=True):
        text = case["body_text"] if "body_text" in case else json.dumps(case["body"], separators=(",", ":"))
        assert words in text
        expect(recorded(text.encode(), case["http"]))


def test_a_recorded_empty_list_is_no_candle_and_no_error() -> None:
    lines = (ROOT / "error_bodies.jsonl").read_text().splitlines()
    body = next(json.loads(line)["body"] for line in lines if "no data in the range" in line)
    answer = recorded(json.dumps(body).encode())
    envelope: Envelope = open_envelope(answer)
    assert kline_rows(answer, envelope, category="linear", symbol="BTCUSDT").num_rows == 0
