"""What Bybit sends: its bodies as typed values; which error a refusal is, is told in refusals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from kline_pipeline.bybit.digits import NotPlain, NotRows, columns
from kline_pipeline.bybit.refusals import code_refusal, http_refusal
from kline_pipeline.errors import ExchangeError, MalformedAnswer
from kline_pipeline.market.schema import CANDLE_SCHEMA

BAN_S: Final = 600.0  # "wait at least 10 minutes", with no traffic at all (bybit-v5.md 3.1)


class Envelope(msgspec.Struct, rename="camel"):
    """The outer shape of every answer; `time` is the server's clock in UTC milliseconds."""

    ret_code: int
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")
    time: int | None = None


class KlineResult(msgspec.Struct):
    """Candles as served; `rows` is the JSON list of lists of exactly seven texts, newest first."""

    symbol: str
    category: str
    rows: msgspec.Raw = msgspec.field(name="list")


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
    names = CANDLE_SCHEMA.names
    try:
        texts = columns(bytes(result.rows), len(names))
    except NotRows as exc:
        raise malformed(answer, f"a list that holds no rows of {len(names)} texts") from exc
    except NotPlain as exc:
        kind = "a number that is no plain decimal" if exc.column else "an open time that is no millisecond number"
        raise malformed(answer, f"{kind} ({answer.hide(exc.text)[:40]!r})") from exc
    return pa.table([pc.cast(texts[0], pa.int64()), *texts[1:]], schema=CANDLE_SCHEMA)
