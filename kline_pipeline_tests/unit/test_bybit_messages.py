"""What an answer means: refusals become the right error, and only candles become candles."""

import json
import re
from typing import Any

import pytest

from kline_pipeline.bybit.messages import Answer, kline_rows, open_envelope
from kline_pipeline.errors import (
    AuthenticationRefused,
    BadCategory,
    BadInterval,
    BadKey,
    BadRequest,
    BadSignature,
    BadSymbol,
    Banned,
    ClockSkew,
    CountryBlocked,
    ExchangeError,
    KeyExpired,
    KeyNotAllowed,
    MalformedAnswer,
    RateLimited,
    ServerBusy,
    UnexpectedAnswer,
)

ROW = '["1712752440000","1.50","2","1","1.5","10","15.25"]'


def answer(body: str, status: int = 200, **headers: str) -> Answer:
    return Answer(host="h", asked="a page", status=status, headers=headers, body=body.encode())


def refused(code: int, message: str = "no") -> Answer:
    return answer(f'{{"retCode":{code},"retMsg":"{message}","result":{{}},"time":1}}')


def candles(rows: str, symbol: str = "BTCUSDT", category: str = "linear") -> Answer:
    result = f'{{"list":[{rows}],"category":"{category}","symbol":"{symbol}"}}'
    return answer(f'{{"retCode":0,"retMsg":"OK","result":{result},"time":1712752496000}}')


def rows_of(given: Answer) -> Any:
    return kline_rows(given, open_envelope(given), category="linear", symbol="BTCUSDT")


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (10001, "Not supported symbols", BadSymbol),
        (10001, "params error: symbol invalid", BadSymbol),
        (10001, "params error: Symbol Invalid", BadSymbol),
        (10001, "params error: intervalTime is invalid", BadInterval),
        (10001, "Invalid period!", BadInterval),
        (10001, "params error: Category is invalid", BadCategory),
        (10001, "Illegal category", BadCategory),
        (10001, "accountType only support UNIFIED.", BadRequest),
        (10006, "Too many visits. Exceeded the API Rate Limit.", RateLimited),
        (10018, "ip", Banned),
        (10016, "Request timeout, please try again later", ServerBusy),
        (10000, "Server Timeout", ServerBusy),
        (5004, "Server Timeout", ServerBusy),
        (429, "busy", ServerBusy),
        (10002, "invalid request, please check your server timestamp", ClockSkew),
        (10003, "API key is invalid.", BadKey),
        (10004, "error sign!", BadSignature),
        (33004, "Your api key has expired.", KeyExpired),
        (-2015, "Your api key has expired.", KeyExpired),
        (10005, "Permission denied", KeyNotAllowed),
        (10008, "User had been banned", KeyNotAllowed),
        (10010, "Unmatched IP", KeyNotAllowed),
        (10027, "Transactions are banned", KeyNotAllowed),
        (10028, "only unified account", KeyNotAllowed),
        (10029, "symbol is not whitelisted", KeyNotAllowed),
        (10007, "User authentication failed", AuthenticationRefused),
        (10024, "compliance", CountryBlocked),
        (10017, "Route not found.", UnexpectedAnswer),
        (123456, "never seen", UnexpectedAnswer),
    ],
)
def test_a_ret_code_becomes_the_error_that_says_what_to_do(code: int, message: str, kind: type[ExchangeError]) -> None:
    with pytest.raises(ExchangeError) as caught:
        open_envelope(refused(code, message))
    assert type(caught.value) is kind
    assert caught.value.ret_code == code
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, "access too frequent, please try again later", Banned),
        (403, "<H1>403 ERROR</H1> configured to block access from your country.", CountryBlocked),
        (403, "<html>corporate proxy</html>", UnexpectedAnswer),
        (429, "slow down", RateLimited),
        (500, "", ServerBusy),
        (503, "<html>maintenance</html>", ServerBusy),
        (401, "", AuthenticationRefused),
        (404, "404 page not found", UnexpectedAnswer),
        (302, "", UnexpectedAnswer),
        # The status comes first: a good body does not make a bad answer good.
        (502, '{"retCode":0,"retMsg":"OK","result":{},"time":1}', ServerBusy),
    ],
)
def test_an_http_status_decides_before_the_body(status: int, body: str, kind: type[ExchangeError]) -> None:
    with pytest.raises(ExchangeError) as caught:
        open_envelope(answer(body, status))
    assert type(caught.value) is kind
    assert caught.value.http_status == status


def test_a_ban_asks_for_ten_minutes_without_a_request() -> None:
    with pytest.raises(Banned) as caught:
        open_envelope(answer("Access Too Frequent", 403))
    assert caught.value.retry_after_s == 600


@pytest.mark.parametrize(("status", "body"), [(403, "Access Too Frequent"), (200, '{"retCode":10018}')])
def test_a_ban_is_told_with_the_cool_down_that_is_set(status: int, body: str) -> None:
    given = Answer(host="h", asked="a page", status=status, headers={}, body=body.encode(), cool_down_s=90)
    with pytest.raises(Banned, match="for 90 s") as caught:
        open_envelope(given)
    assert caught.value.retry_after_s == 90


@pytest.mark.parametrize("code", [10003, 10004, 10005, 10007, 10008, 10010, 10027, 10028, 10029, 33004, -2015])
def test_a_refused_key_names_the_variable_and_that_none_is_needed(code: int) -> None:
    with pytest.raises(AuthenticationRefused, match=r"BYBIT_API_(KEY|SECRET).*market data needs no key") as caught:
        open_envelope(refused(code))
    assert not caught.value.retryable


def test_a_refused_clock_is_tried_again() -> None:
    with pytest.raises(ClockSkew, match="set the clock of this machine") as caught:
        open_envelope(refused(10002))
    assert caught.value.retryable


def test_a_retry_after_header_is_passed_on_and_nonsense_in_it_is_not() -> None:
    for text, expected in (("7", 7.0), ("soon", None), ("-1", None)):
        with pytest.raises(RateLimited) as caught:
            open_envelope(answer("", 429, **{"retry-after": text}))
        assert caught.value.retry_after_s == expected


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html></html>",
        "[]",
        "null",
        '{"retCode":"0","result":{},"time":1}',
        '{"retMsg":"OK","result":{},"time":1}',
        '{"retCode":0,"retMsg":"OK","result":{}}',
        '{"retCode":0,"retMsg":"OK","result":{"list":[["17',
    ],
)
def test_a_body_that_is_no_v5_answer_is_malformed(body: str) -> None:
    with pytest.raises(MalformedAnswer):
        open_envelope(answer(body))


def test_candles_keep_their_digits_their_order_and_their_duplicates() -> None:
    older = '["1712752380000","0.00001000","0.00001","0.00001","0.00001","0","0"]'
    table = rows_of(candles(f"{older},{ROW},{ROW}"))
    assert table["open_time_ms"].to_pylist() == [1712752380000, 1712752440000, 1712752440000]
    assert table["open"].to_pylist() == ["0.00001000", "1.50", "1.50"]
    assert table["turnover"].to_pylist() == ["0", "15.25", "15.25"]


def test_an_empty_list_is_an_answer() -> None:
    assert rows_of(candles("")).num_rows == 0


@pytest.mark.parametrize(
    "row",
    [
        '["1712752440000","1","2","1","1","10"]',
        '["1712752440000","1","2","1","1","10","15","0"]',
        '[1712752440000,"1","2","1","1","10","15"]',
        '["1712752440000",1.5,"2","1","1","10","15"]',
        '["1712752440000",null,"2","1","1","10","15"]',
        '["1712752440000","1e-5","2","1","1","10","15"]',
        '["1712752440000","-1","2","1","1","10","15"]',
        '["1712752440000","","2","1","1","10","15"]',
        '["1712752440000",".5","2","1","1","10","15"]',
        '["1712752440000","5.","2","1","1","10","15"]',
        '["1712752440000","NaN","2","1","1","10","15"]',
        '["1712752440000","1,5","2","1","1","10","15"]',
        '["1712752440000"," 1","2","1","1","10","15"]',
        '["1712752440000","1\\n","2","1","1","10","15"]',
        '["1712752440000","\\u0661","2","1","1","10","15"]',
        '["1712752440000.5","1","2","1","1","10","15"]',
        '["99999999999999999999","1","2","1","1","10","15"]',
    ],
)
def test_a_row_that_is_not_seven_plain_decimals_spoils_the_page(row: str) -> None:
    with pytest.raises(MalformedAnswer):
        rows_of(candles(f"{ROW},{row}"))


def test_rows_of_another_symbol_or_category_are_not_taken() -> None:
    with pytest.raises(MalformedAnswer, match=re.escape("symbol 'ETHUSDT' instead of 'BTCUSDT'")):
        rows_of(candles(ROW, symbol="ETHUSDT"))
    with pytest.raises(MalformedAnswer, match=re.escape("category 'inverse' instead of 'linear'")):
        rows_of(candles(ROW, category="inverse"))


def test_a_result_without_symbol_or_list_is_malformed() -> None:
    for result in (
        "{}",
        "null",
        '{"symbol":"BTCUSDT","category":"linear"}',
        '{"category":"linear","list":[]}',
    ):
        given = answer(f'{{"retCode":0,"retMsg":"OK","result":{result},"time":1}}')
        with pytest.raises(MalformedAnswer):
            rows_of(given)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (403, 10018, "Out of frequency limit of IP", Banned),
        (403, 10006, "Too many visits!", RateLimited),
        (403, 10009, "region", CountryBlocked),
        (403, 10010, "Unmatched IP", KeyNotAllowed),
        (403, 99999, "who knows", UnexpectedAnswer),
        (401, 33004, "expired", KeyExpired),
        (401, 10003, "invalid", BadKey),
        (401, 10002, "timestamp", ClockSkew),
        (429, 10006, "Too many visits!", RateLimited),
        (400, 10001, "params error: symbol invalid", BadSymbol),
        (404, 10017, "route not found", UnexpectedAnswer),
        (503, 10001, "params error: symbol invalid", ServerBusy),
        (502, 0, "OK", ServerBusy),
    ],
)
def test_a_ret_code_beside_an_http_error_says_it_more_exactly(
    status: int, code: int, message: str, kind: type[ExchangeError]
) -> None:
    body = json.dumps({"retCode": code, "retMsg": message}).encode()
    with pytest.raises(kind) as caught:
        open_envelope(Answer(host="h", asked="it", status=status, headers={}, body=body))
    assert type(caught.value) is kind
    assert (caught.value.http_status, caught.value.ret_code) == (status, code)
