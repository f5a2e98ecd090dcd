"""Recorded refusals of the real exchange, read from KLINE_REALDATA, become the right errors."""

import json
import os
from pathlib import Path

import pytest

from kline_pipeline.bybit.messages import Answer, kline_rows, open_envelope
from kline_pipeline.errors import (
    AuthenticationRefused,
    BadCategory,
    BadInterval,
    BadRequest,
    BadSymbol,
    CountryBlocked,
    ExchangeError,
    ExchangeUnavailable,
    MalformedAnswer,
    RateLimited,
)

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif("KLINE_REALDATA" not in os.environ, reason="KLINE_REALDATA names no folder"),
]

KINDS = {
    "10001_accountType": BadRequest,
    "10001_illegal_category": BadCategory,
    "10001_instruments_option": BadSymbol,
    "10001_invalid_period": BadInterval,
    "10001_not_supported_symbols": BadSymbol,
    "10001_sign_params_error": BadRequest,
    "10001_symbol_invalid": BadSymbol,
    "10004_": AuthenticationRefused,
    "10006_": RateLimited,
    "10016_": ExchangeUnavailable,
    "403_cloudfront": CountryBlocked,
}
LINES = {
    "symbol invalid": BadSymbol,
    "Symbol Invalid": BadSymbol,
    "Not supported symbols": BadSymbol,
    "intervalTime is invalid": BadInterval,
    "Category is invalid": BadCategory,
    "Illegal category": BadCategory,
    "Too many visits": RateLimited,
    "Request timeout": ExchangeUnavailable,
    "Server Timeout": ExchangeUnavailable,
    "CloudFront": CountryBlocked,
}


def responses() -> Path:
    return Path(os.environ["KLINE_REALDATA"]) / "responses"


def answer(body: bytes, status: int = 200) -> Answer:
    return Answer(host="h", asked="a recorded answer", status=status, headers={}, body=body)


@pytest.mark.parametrize("start", KINDS)
def test_a_recorded_refusal_becomes_its_error(start: str) -> None:
    files = sorted(responses().glob(f"{start}*"))
    assert files
    for file in files:
        with pytest.raises(ExchangeError) as caught:
            open_envelope(answer(file.read_bytes(), 403 if start.startswith("403") else 200))
        assert type(caught.value) is KINDS[start], file.name


def test_the_listed_error_bodies_become_their_errors() -> None:
    for line in (responses() / "error_bodies.jsonl").read_text().splitlines():
        case = json.loads(line)
        text = case["body_text"] if "body_text" in case else json.dumps(case["body"])
        expected = next((kind for words, kind in LINES.items() if words in text), None)
        given = answer(text.encode(), case["http"])
        if expected is None:
            assert open_envelope(given).ret_code == 0  # an empty list is an answer
            continue
        with pytest.raises(ExchangeError) as caught:
            open_envelope(given)
        assert type(caught.value) is expected, text


@pytest.mark.parametrize(
    ("name", "category", "symbol"),
    [
        ("linear_BTCUSDT_1_unclosed_rec1687589659062.json", "linear", "BTCUSDT"),
        ("linear_BTCUSDT_60_unclosed_rec1786820637599.json", "linear", "BTCUSDT"),
        ("linear_BTCUSDT_D_2021-09_rec1677516322292.json", "linear", "BTCUSDT"),
        ("spot_BTCUSDT_3_rec1733503221768.json", "spot", "BTCUSDT"),
        ("spot_BTCUSDT_D_unclosed_rec1745919999317.json", "spot", "BTCUSDT"),
        ("inverse_BTCUSD_60_docs_rec1672025956592.json", "inverse", "BTCUSD"),
    ],
)
def test_recorded_candles_are_read_to_the_last_digit(name: str, category: str, symbol: str) -> None:
    body = (responses() / name).read_bytes()
    given = answer(body)
    table = kline_rows(given, open_envelope(given), category=category, symbol=symbol)
    rows = json.loads(body)["result"]["list"]
    assert [[str(cell) for cell in row.values()] for row in table.to_pylist()] == rows
    other = "ETHUSDT"
    with pytest.raises(MalformedAnswer, match=other):
        kline_rows(given, open_envelope(given), category=category, symbol=other)
