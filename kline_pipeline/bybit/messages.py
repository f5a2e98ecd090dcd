"""What Bybit sends: its bodies as typed values; which error a refusal is, is told in refusals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kline_pipeline.bybit.refusals import code_refusal, http_refusal
from kline_pipeline.errors import ExchangeError, MalformedAnswer
from kline_pipeline.market.schema import CANDLE_SCHEMA, NUMBER_COLUMNS

BAN_S: Final = 600.0  # "wait at least 10 minutes", with no traffic at all (bybit-v5.md 3.1)
_COLUMNS: Final = 1 + len(NUMBER_COLUMNS)
_OPEN_TIME: Final = "^[0-9]{1,15}$"
_PLAIN_DECIMAL: Final = r"^[0-9]+(\.[0-9]+)?$"


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
        cool_down_s: how long nobody may ask after the ban, if this is it.
        hide: puts *** for the API key and its secret, which answers may echo.
    """

    host: str
    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    cool_down_s: float = BAN_S
    hide: Callable[[str], str] = field(default=str, repr=False)

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
            f"asked {self.host} for {self.asked} and got {self.hide(came)}; {advice}",
            http_status=self.status,
            ret_code=ret_code,
            retry_after_s=retry_after_s,
            body_excerpt=self.text,
        )

    @property
    def text(self) -> str:
        """The first 4096 characters of the body, secrets hidden."""
        # Hidden before it is cut, or half a secret might be left.
        return self.hide(self.body.decode("utf-8", errors="replace"))[:4096]


def open_envelope(answer: Answer) -> Envelope:
    """Return the envelope of a good answer: HTTP 200, retCode 0, with the server's time.

    Raises:
        ExchangeError: the class that refusals gives to it, MalformedAnswer for what is no v5 answer.
    """
    if answer.status != 200:  # noqa: PLR2004 - HTTP OK
        raise http_refusal(answer)
    try:
        envelope = msgspec.json.decode(answer.body, type=Envelope)
    except msgspec.MsgspecError as exc:
        raise malformed(answer, f"a body that is no v5 answer ({exc})") from exc
    if envelope.ret_code != 0:
        raise code_refusal(answer, envelope.ret_code, envelope.ret_msg)
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
        raise malformed(answer, f"{what} ({answer.hide(offender)[:40]!r})")
