"""Which of our errors a refusal of the exchange is; how a good answer is read is told in messages.

The HTTP status decides first, then retCode, then retMsg: business errors come with HTTP 200, and 10001 alone stands
for a bad symbol, interval, category and more (bybit-v5.md 3.2 to 3.4).
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

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
    RateLimited,
    ServerBusy,
    UnexpectedAnswer,
)

if TYPE_CHECKING:
    from kline_pipeline.bybit.messages import Answer

_COUNTRY: Final = "configured to block access from your country"
_TOO_FREQUENT: Final = "access too frequent"

_SLOWER: Final = "lower BYBIT_REQUESTS_PER_SECOND if it stays so"
_LATER: Final = "try again later"
_ELSEWHERE: Final = "this account or network may not use it, see BYBIT_BASE_URL for another host"
_V5_HOST: Final = "check BYBIT_BASE_URL, it must be a v5 host"
_NO_KEY: Final = "or unset BYBIT_API_KEY and BYBIT_API_SECRET: market data needs no key"
_KEY: Final = f"check BYBIT_API_KEY and BYBIT_API_SECRET, {_NO_KEY}"
_UNKNOWN_KEY: Final = f"set BYBIT_API_KEY to a key of the exchange of BYBIT_BASE_URL (testnet has its own), {_NO_KEY}"
_SECRET: Final = f"set BYBIT_API_SECRET to the secret of the key in BYBIT_API_KEY, {_NO_KEY}"
_EXPIRED: Final = f"make a new key and set BYBIT_API_KEY and BYBIT_API_SECRET to it, {_NO_KEY}"
_RIGHTS: Final = f"give the key in BYBIT_API_KEY the right to read, {_NO_KEY}"
_ADDRESS: Final = f"add the address of this machine to those of the key in BYBIT_API_KEY, {_NO_KEY}"
_ACCOUNT: Final = f"set BYBIT_API_KEY and BYBIT_API_SECRET to a key of an account that may, {_NO_KEY}"
_CLOCK: Final = (
    f"set the clock of this machine, as by NTP; tries are signed with the exchange's clock. If they stay refused, "
    f"{_NO_KEY.removeprefix('or ')}"
)
_CODES: Final[Mapping[int, tuple[type[ExchangeError], str]]] = {
    **dict.fromkeys((429, 5004, 10000, 10016, 170001, 170007, 170234), (ServerBusy, _LATER)),
    **dict.fromkeys((10006, 170222), (RateLimited, _SLOWER)),
    10018: (Banned, ""),
    **dict.fromkeys((10009, 10024), (CountryBlocked, _ELSEWHERE)),
    10002: (ClockSkew, _CLOCK),
    10003: (BadKey, _UNKNOWN_KEY),
    10004: (BadSignature, _SECRET),
    **dict.fromkeys((10005, 10029), (KeyNotAllowed, _RIGHTS)),
    10010: (KeyNotAllowed, _ADDRESS),
    **dict.fromkeys((10008, 10027, 10028), (KeyNotAllowed, _ACCOUNT)),
    10007: (AuthenticationRefused, _KEY),  # "user authentication failed" and no reason
    **dict.fromkeys((33004, -2015), (KeyExpired, _EXPIRED)),
    10017: (UnexpectedAnswer, _V5_HOST),
}
# Which errors a retCode may make of an HTTP status; at others it is a fact beside the status.
_EXACT: Final[Mapping[int, tuple[type[ExchangeError], ...]]] = {
    403: (Banned, RateLimited, CountryBlocked, AuthenticationRefused),
    401: (AuthenticationRefused,),
    400: (BadRequest, AuthenticationRefused),
    404: (BadRequest,),
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


class _Told(msgspec.Struct, rename="camel"):
    ret_code: int
    ret_msg: str = ""


def http_refusal(answer: "Answer") -> ExchangeError:
    """Return the error for an answer whose HTTP status is not 200; a retCode in its body says it more exactly."""
    error = _by_status(answer)
    try:
        told = msgspec.json.decode(answer.body, type=_Told)
    except msgspec.MsgspecError:
        return error
    exact = code_refusal(answer, told.ret_code, told.ret_msg)
    if isinstance(exact, _EXACT.get(answer.status, ())) and not isinstance(error, Banned | CountryBlocked):
        return exact
    error.ret_code = told.ret_code
    return error


def _by_status(answer: "Answer") -> ExchangeError:
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
    return answer.error(UnexpectedAnswer, came, _V5_HOST)


def code_refusal(answer: "Answer", code: int, message: str) -> ExchangeError:
    """Return the error for an answer whose retCode is not 0.

    Args:
        answer: whose body has it.
        code: its retCode.
        message: its retMsg.
    """
    came = f"retCode {code} ({answer.hide(message)[:120]})"
    if code == 10001:  # noqa: PLR2004
        text = message.lower()
        kind, advice = next((kind, told) for part, kind, told in _PARAMETERS if part in text)
        return answer.error(kind, came, advice, ret_code=code)
    unknown = (
        UnexpectedAnswer,
        "no rule knows this code, nothing of it was used; look it up in the documentation of v5, and report it",
    )
    known, advice = _CODES.get(code, unknown)
    if known is Banned:
        return _banned(answer, came, code)
    return answer.error(known, came, advice, ret_code=code, retry_after_s=_hint_s(answer))


def _forbidden(answer: "Answer", came: str) -> ExchangeError:
    # ccxt reports every 403 as a rate limit; the body tells (bybit-v5.md 3.2).
    text = answer.text.lower()
    if _COUNTRY in text:
        return answer.error(CountryBlocked, "HTTP 403, this country is blocked", _ELSEWHERE)
    if _TOO_FREQUENT in text:
        return _banned(answer, came)
    advice = "it is neither the ban nor the country block: see what refuses this network"
    return answer.error(UnexpectedAnswer, came, advice)


def _banned(answer: "Answer", came: str, code: int | None = None) -> ExchangeError:
    advice = f"no request may be sent for {answer.cool_down_s:.0f} s; then {_SLOWER}"
    return answer.error(Banned, came, advice, ret_code=code, retry_after_s=answer.cool_down_s)


def _hint_s(answer: "Answer") -> float | None:
    """Return the seconds the answer asks to wait; Bybit documents no such header: mostly None."""
    text = answer.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _short(answer: "Answer") -> str:
    words = re.sub(r"<[^>]*>|\s+", " ", answer.text)
    return " ".join(words.split())[:120] or "no text"
