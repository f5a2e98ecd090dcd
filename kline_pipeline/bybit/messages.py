"""What Bybit sends: its bodies as typed values, and its refusals as our errors.

An answer is judged by HTTP status first, then retCode, then retMsg: business errors come with HTTP
200, and 10001 alone stands for a bad symbol, interval, category and more (bybit-v5.md 3.2 to 3.4).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kline_pipeline.errors import (
    AuthenticationRefused,
    BadCategory,
    BadInterval,
    BadRequest,
    BadSymbol,
    Banned,
    CountryBlocked,
    ExchangeError,
    MalformedAnswer,
    RateLimited,
    ServerBusy,
    UnexpectedAnswer,
)
from kline_pipeline.market.schema import CANDLE_SCHEMA, NUMBER_COLUMNS

BAN_S: Final = 600.0  # "wait at least 10 minutes", with no traffic at all (bybit-v5.md 3.1)
_COLUMNS: Final = 1 + len(NUMBER_COLUMNS)
_OPEN_TIME: Final = "^[0-9]{1,15}$"
_PLAIN_DECIMAL: Final = r"^[0-9]+(\.[0-9]+)?$"
_COUNTRY: Final = "configured to block access from your country"
_TOO_FREQUENT: Final = "access too frequent"

_SLOWER: Final = "lower BYBIT_REQUESTS_PER_SECOND if it stays so"
_LATER: Final = "try again later"
_BANNED: Final = f"no request may be sent for {BAN_S:.0f} s; then {_SLOWER}"
_KEY: Final = "check the API key and its rights"
_ELSEWHERE: Final = "this account or network may not use it, see BYBIT_BASE_URL for another host"
_CODES: Final[Mapping[int, tuple[type[ExchangeError], str]]] = {
    **dict.fromkeys((429, 5004, 10000, 10016, 170001, 170007, 170234), (ServerBusy, _LATER)),
    **dict.fromkeys((10006, 170222), (RateLimited, _SLOWER)),
    10018: (Banned, _BANNED),
    **dict.fromkeys((10009, 10024), (CountryBlocked, _ELSEWHERE)),
    **dict.fromkeys((10003, 10004, 10005, 10007, 10008, 10010), (AuthenticationRefused, _KEY)),
    **dict.fromkeys((10027, 10028, 10029, 33004, -2015), (AuthenticationRefused, _KEY)),
    10017: (UnexpectedAnswer, "check BYBIT_BASE_URL, it must be a v5 host"),
}
# 10001 by its text, the first that occurs. Seen: "Not supported symbols", "params error: symbol
# invalid", "params error: Symbol Invalid", "Invalid period!", "params error: intervalTime is
# invalid", "Illegal category", "params error: Category is invalid".
_PARAMETERS: Final[Sequence[tuple[str, type[BadRequest], str]]] = (
    ("interval", BadInterval, "ask for an interval that it serves"),
    ("period", BadInterval, "ask for an interval that it serves"),
    ("category", BadCategory, "ask for linear, inverse or spot"),
    ("symbol", BadSymbol, "check the symbol and its category"),
    ("", BadRequest, "the request is wrong as it is, repeating it does not help"),
)


class Envelope(msgspec.Struct, rename="camel"):
    """The outer shape of every answer; `time` is the server's clock in UTC milliseconds."""

    ret_code: int
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: int | None = None


class KlineResult(msgspec.Struct):
    """Candles as served: rows of exactly seven strings, newest first."""

    symbol: str
    category: str
    rows: list[tuple[str, str, str, str, str, str, str]] = msgspec.field(name="list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer and the question it belongs to, for the words of an error.

    Attributes:
        host: of the exchange.
        asked: what was asked for, in words: "candles of linear:BTCUSDT:1".
        status: HTTP status.
        headers: with lower-case names.
        body: decoded (not compressed).
    """

    host: str
    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(
        self,
        kind: type[ExchangeError],
        came: str,
        advice: str,
        *,
        ret_code: int | None = None,
        retry_after_s: float | None = None,
    ) -> ExchangeError:
        """Return an error of `kind` that says what was asked, what came back and what to do."""
        return kind(
            f"asked {self.host} for {self.asked} and got {came}; {advice}",
            http_status=self.status,
            ret_code=ret_code,
            retry_after_s=retry_after_s,
            body_excerpt=self.text,
        )

    @property
    def text(self) -> str:
        """The first 4096 bytes of the body as text."""
        return self.body[:4096].decode("utf-8", errors="replace")


def open_envelope(answer: Answer) -> Envelope:
    """Return the envelope of a good answer: HTTP 200, retCode 0, with the server's time.

    Raises:
        ExchangeError: the class that bybit-v5.md 3.3 and 3.4 give to the refusal.
    """
    if answer.status != 200:  # noqa: PLR2004 - HTTP OK
        raise _http_error(answer)
    try:
        envelope = msgspec.json.decode(answer.body, type=Envelope)
    except msgspec.MsgspecError as exc:
        raise malformed(answer, f"a body that is no v5 answer ({exc})") from exc
    if envelope.ret_code != 0:
        raise _code_error(answer, envelope)
    if envelope.time is None:
        raise malformed(answer, "an answer without the server's time")
    return envelope


def malformed(answer: Answer, came: str) -> ExchangeError:
    """Return the error for an answer that is not what was asked for."""
    return answer.error(MalformedAnswer, came, "nothing of it was used; if it stays so, the API has changed")


def kline_rows(answer: Answer, envelope: Envelope, *, category: str, symbol: str) -> pa.Table:
    """Return the candles of an answer with CANDLE_SCHEMA: every row, as received, digits as served.

    Raises:
        MalformedAnswer: another symbol or category, or a row that is not seven plain decimals.
    """
    try:
        result = msgspec.json.decode(envelope.result, type=KlineResult)
    except msgspec.MsgspecError as exc:
        raise malformed(answer, f"a result that holds no candles ({exc})") from exc
    if result.symbol != symbol:
        raise malformed(answer, f"candles of symbol {result.symbol!r} instead of {symbol!r}")
    if result.category != category:
        raise malformed(answer, f"candles of category {result.category!r} instead of {category!r}")
    texts = _flat(answer, result.rows)
    columns = [texts.take(pa.array(np.arange(index, len(texts), _COLUMNS))) for index in range(_COLUMNS)]
    _check(answer, columns[0], _OPEN_TIME, "an open time that is no millisecond number")
    _check(answer, texts, _PLAIN_DECIMAL, "a number that is no plain decimal")
    return pa.table([pc.cast(columns[0], pa.int64()), *columns[1:]], schema=CANDLE_SCHEMA)


def _flat(answer: Answer, rows: Sequence[tuple[str, ...]]) -> pa.StringArray:
    # By buffers, not pa.array(list): that imports pandas, a second per process (style.md).
    values = list(chain.from_iterable(rows))
    data = "".join(values).encode()
    if not data.isascii():
        raise malformed(answer, "a row with characters that no number has")
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(data))


def _check(answer: Answer, texts: pa.StringArray, pattern: str, what: str) -> None:
    good = pc.match_substring_regex(texts, pattern)
    if len(texts) and not pc.all(good).as_py():
        offender = texts.filter(pc.invert(good))[0].as_py()
        raise malformed(answer, f"{what} ({offender[:40]!r})")


def _http_error(answer: Answer) -> ExchangeError:
    status = answer.status
    came = f"HTTP {status} ({_short(answer)})"
    if status == 403:  # noqa: PLR2004
        return _forbidden(answer, came)
    if status == 429:  # noqa: PLR2004
        return answer.error(RateLimited, came, _SLOWER, retry_after_s=_hint_s(answer))
    if status >= 500:  # noqa: PLR2004
        return answer.error(ServerBusy, came, _LATER, retry_after_s=_hint_s(answer))
    if status == 401:  # noqa: PLR2004
        return answer.error(AuthenticationRefused, came, _KEY)
    return answer.error(UnexpectedAnswer, came, "check BYBIT_BASE_URL, it must be a v5 host")


def _forbidden(answer: Answer, came: str) -> ExchangeError:
    # ccxt reports every 403 as a rate limit; the body tells (bybit-v5.md 3.2).
    text = answer.text.lower()
    if _COUNTRY in text:
        return answer.error(CountryBlocked, "HTTP 403, this country is blocked", _ELSEWHERE)
    if _TOO_FREQUENT in text:
        return answer.error(Banned, came, _BANNED, retry_after_s=BAN_S)
    advice = "it is neither the ban nor the country block: see what refuses this network"
    return answer.error(UnexpectedAnswer, came, advice)


def _code_error(answer: Answer, envelope: Envelope) -> ExchangeError:
    code = envelope.ret_code
    came = f"retCode {code} ({envelope.ret_msg[:120]})"
    if code == 10001:  # noqa: PLR2004
        text = envelope.ret_msg.lower()
        kind, advice = next((kind, told) for part, kind, told in _PARAMETERS if part in text)
        return answer.error(kind, came, advice, ret_code=code)
    unknown = UnexpectedAnswer, "no rule knows this code, nothing of it was used"
    known, advice = _CODES.get(code, unknown)
    retry_after_s = BAN_S if known is Banned else _hint_s(answer)
    return answer.error(known, came, advice, ret_code=code, retry_after_s=retry_after_s)


def _hint_s(answer: Answer) -> float | None:
    """Return the seconds the answer asks to wait; Bybit documents no such header: mostly None."""
    text = answer.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _short(answer: Answer) -> str:
    words = re.sub(r"<[^>]*>|\s+", " ", answer.text)
    return " ".join(words.split())[:120] or "no text"
