"""Every error this project raises on purpose, one tree; nothing is raised or caught here.

A class says what the caller can do about it; facts are attributes; the message is one sentence: what was
tried, what came back, what to do. `retryable` lives on the class and the retry policy reads nothing else.

    KlineError
    |-- UsageError                  the request itself is wrong: say it differently (exit code 2)
    |   |-- ConfigError             a variable, option or URL has a value that cannot work
    |   |-- DatasetsError           datasets.toml cannot be read, or contradicts what is stored
    |   `-- UnknownSeries           no such category, symbol or interval
    |-- ExchangeError               the exchange was asked and did not give what was asked
    |   |-- ExchangeUnavailable     retryable: no connection, time-out, broken off
    |   |   |-- ServerBusy          retryable: 5xx, 10000, 10016 and their like
    |   |   `-- TimedOut            retryable: no whole answer within BYBIT_TIMEOUT_S
    |   |-- RateLimited             retryable: 10006 or HTTP 429; wait `retry_after_s`
    |   |-- Banned                  retryable, but only after the cool-down (HTTP 403 "access too frequent")
    |   |-- CountryBlocked          this network may not use the exchange
    |   |-- MalformedAnswer         retryable: not the shape, the symbol or the category that was asked for
    |   |-- BadRequest              the exchange refuses the parameters
    |   |   |-- BadSymbol
    |   |   |-- BadInterval
    |   |   `-- BadCategory
    |   |-- AuthenticationRefused   the key was refused, for another reason than these
    |   |   |-- BadKey              the exchange does not know the key
    |   |   |-- BadSignature        the secret does not belong to the key
    |   |   |-- KeyExpired
    |   |   |-- KeyNotAllowed       the key has not the right, or not from this address
    |   |   `-- ClockSkew           retryable: this machine's clock is off, after it was set by the exchange's
    |   |-- UnexpectedAnswer        a retCode that no rule knows
    |   |-- IncompleteWindow        the answers hold fewer candles than the window has; `.missing_ms` lists them
    |   |-- Contradiction           retryable: two different closed candles for one open time
    |   |-- TooFewCandles           fewer candles exist than were asked for; `.exist` says how many
    |   `-- NotListed               the instrument has no candle in the window, and none is missing
    |       |-- NotListedYet        it ends before the first listing
    |       |-- Delisted            it begins after the last one
    |       `-- BetweenListings     it lies in the hole between two listings
    |-- StorageError                the database, a folder or a file
    |   |-- DatabaseUnavailable     retryable: no server answers, or it went away
    |   |-- VenueMismatch           the store belongs to another exchange
    |   `-- CorruptFile             a file of ours cannot be read back
    |-- QuarantinedPartitions       some partitions broke a rule and were not landed
    `-- AlertsNotDelivered          a target did not take an alert; it is sent again
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

__all__ = [
    "AlertsNotDelivered",
    "AuthenticationRefused",
    "BadCategory",
    "BadInterval",
    "BadKey",
    "BadRequest",
    "BadSignature",
    "BadSymbol",
    "Banned",
    "BetweenListings",
    "ClockSkew",
    "ConfigError",
    "Contradiction",
    "CorruptFile",
    "CountryBlocked",
    "DatabaseUnavailable",
    "DatasetsError",
    "Delisted",
    "ExchangeError",
    "ExchangeUnavailable",
    "IncompleteWindow",
    "KeyExpired",
    "KeyNotAllowed",
    "KlineError",
    "MalformedAnswer",
    "NotListed",
    "NotListedYet",
    "QuarantinedPartitions",
    "RateLimited",
    "ServerBusy",
    "StorageError",
    "TimeRange",
    "TimedOut",
    "TooFewCandles",
    "UnexpectedAnswer",
    "UnknownSeries",
    "UsageError",
    "VenueMismatch",
]


class TimeRange(Protocol):
    """A half-open range of UTC milliseconds, such as market.window.Window, which errors may not import."""

    @property
    def start_ms(self) -> int:
        """Where it begins."""

    @property
    def end_ms(self) -> int:
        """Where it ends, exclusive."""


class KlineError(Exception):
    """Anything this project raises on purpose."""

    retryable: bool = False
    exit_code: ClassVar[int] = 1


class UsageError(KlineError):
    """The request itself is wrong; nothing was tried."""

    exit_code = 2


class ConfigError(UsageError):
    """A variable, option or URL has a value that cannot work."""


class DatasetsError(UsageError):
    """datasets.toml cannot be read, or contradicts what is stored."""


class UnknownSeries(UsageError):
    """No such category, symbol or interval."""


class ExchangeError(KlineError):
    """The exchange was asked and did not give what was asked.

    Attributes:
        http_status: status of the answer, None when there was none.
        ret_code: Bybit's retCode, None when the answer had none.
        retry_after_s: seconds the answer asks to wait, None when it does not say.
        body_excerpt: at most the first 200 characters of the answer.
        window: the candles that were asked for, half-open, UTC; None when none were.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        ret_code: int | None = None,
        retry_after_s: float | None = None,
        body_excerpt: str = "",
        window: TimeRange | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.ret_code = ret_code
        self.retry_after_s = retry_after_s
        self.body_excerpt = body_excerpt[:200]
        self.window = window


class ExchangeUnavailable(ExchangeError):
    """No connection, a time-out, a connection that broke: worth another try."""

    retryable = True


class ServerBusy(ExchangeUnavailable):
    """The exchange answered that it cannot answer now (5xx, retCode 10000, 10016): worth another try."""


class TimedOut(ExchangeUnavailable):
    """No whole answer came within BYBIT_TIMEOUT_S: worth another try."""


class RateLimited(ExchangeError):
    """Too many requests (retCode 10006, HTTP 429): wait, then try again."""

    retryable = True


class Banned(ExchangeError):
    """HTTP 403 "access too frequent": no request at all until the cool-down is over."""

    retryable = True


class CountryBlocked(ExchangeError):
    """The exchange refuses this network's country; no retry helps."""


class MalformedAnswer(ExchangeError):
    """The answer is not JSON, not the documented shape, or of another symbol or category."""

    retryable = True


class BadRequest(ExchangeError):
    """The exchange refuses the parameters as they are."""


class BadSymbol(BadRequest):
    """The exchange does not know the symbol in this category."""


class BadInterval(BadRequest):
    """The exchange does not serve the interval."""


class BadCategory(BadRequest):
    """The exchange does not serve candles of the category."""


class AuthenticationRefused(ExchangeError):
    """The API key, its signature or its rights were refused."""


class BadKey(AuthenticationRefused):
    """The exchange does not know the key, or it is one of another environment such as testnet."""


class BadSignature(AuthenticationRefused):
    """The signature is not that of the key: BYBIT_API_SECRET does not belong to BYBIT_API_KEY."""


class KeyExpired(AuthenticationRefused):
    """The key is known and too old."""


class KeyNotAllowed(AuthenticationRefused):
    """The key has not the right, is banned, or may not be used from this address."""


class ClockSkew(AuthenticationRefused):
    """The signed time is outside the window that the exchange accepts; the client has set its clock since.

    Refused once more after that, it is not `retryable`.
    """

    retryable = True


class UnexpectedAnswer(ExchangeError):
    """A retCode or HTTP status that no rule knows; never taken for data."""


class IncompleteWindow(ExchangeError):
    """The answers hold fewer candles than the window has.

    Attributes:
        missing_ms: open times in UTC milliseconds that were expected and not received, ascending.
    """

    def __init__(self, message: str, *, missing_ms: Sequence[int], window: TimeRange | None = None) -> None:
        super().__init__(message, window=window)
        self.missing_ms = tuple(missing_ms)


class Contradiction(ExchangeError):
    """The exchange served two different closed candles for one open time; which one is true nobody knows.

    Attributes:
        open_times_ms: the open times in question, UTC milliseconds, ascending.
    """

    retryable = True

    def __init__(self, message: str, *, open_times_ms: Sequence[int], window: TimeRange | None = None) -> None:
        super().__init__(message, window=window)
        self.open_times_ms = tuple(open_times_ms)


class TooFewCandles(ExchangeError):
    """Fewer closed candles exist than were asked for.

    Attributes:
        exist: how many there are.
    """

    def __init__(self, message: str, *, exist: int, window: TimeRange | None = None) -> None:
        super().__init__(message, window=window)
        self.exist = exist


class NotListed(ExchangeError):
    """The instrument was not listed anywhere in the window: no candle is missing, there is none."""


class NotListedYet(NotListed):
    """The window ends before the first candle."""


class Delisted(NotListed):
    """The window begins after the last candle."""


class BetweenListings(NotListed):
    """The window lies in the hole between two listings under one name."""


class StorageError(KlineError):
    """The database, a folder or a file does not do what it must."""


class DatabaseUnavailable(StorageError):
    """No database server answers, or it went away in the middle."""

    retryable = True


class VenueMismatch(StorageError):
    """A store belongs to another exchange than the one that is configured."""


class CorruptFile(StorageError):
    """A file of ours cannot be read back as what it should be."""


class QuarantinedPartitions(KlineError):
    """Some partitions broke a rule; the others have landed.

    Attributes:
        reasons: per partition (series key and date) the sentence that says what is wrong.
    """

    def __init__(self, message: str, *, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class AlertsNotDelivered(KlineError):
    """A target did not take an alert, or is none; what it did not take is kept and sent again."""
