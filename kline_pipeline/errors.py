"""Every error this project raises on purpose, one tree; nothing is raised or caught here.

A class says what the caller can do about it; facts are attributes; the message is one sentence: what was
tried, what came back, what to do. `retryable` lives on the class and the retry policy reads nothing else.

    KlineError
    |-- UsageError                  the request itself is wrong: say it differently (exit code 2)
    |   |-- ConfigError             a variable, option or URL has a value that cannot work
    |   |-- DatasetsError           datasets.toml cannot be read, or contradicts what is stored
    |   `-- UnknownSeries           no such category, symbol or interval
    |-- ExchangeError               the exchange was asked and did not give what was asked
    |   |-- ExchangeUnavailable     retryable: no connection, time-out, 5xx, server busy
    |   |-- RateLimited             retryable: 10006 or HTTP 429; wait `retry_after_s`
    |   |-- Banned                  retryable, but only after the cool-down (HTTP 403 "access too frequent")
    |   |-- CountryBlocked          this network may not use the exchange
    |   |-- MalformedAnswer         retryable: not the shape, the symbol or the category that was asked for
    |   |-- BadRequest              the exchange refuses the parameters
    |   |   |-- BadSymbol
    |   |   |-- BadInterval
    |   |   `-- BadCategory
    |   |-- AuthenticationRefused   the key, its signature or its rights
    |   |-- UnexpectedAnswer        a retCode that no rule knows
    |   `-- IncompleteWindow        the answers hold fewer candles than the window has; `.missing` lists them
    |-- StorageError                the database, a folder or a file
    |   |-- DatabaseUnavailable     retryable: no server answers, or it went away
    |   |-- VenueMismatch           the store belongs to another exchange
    |   `-- CorruptFile             a file of ours cannot be read back
    `-- QuarantinedPartitions       some partitions broke a rule and were not landed
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

__all__ = [
    "AuthenticationRefused",
    "BadCategory",
    "BadInterval",
    "BadRequest",
    "BadSymbol",
    "Banned",
    "ConfigError",
    "CorruptFile",
    "CountryBlocked",
    "DatabaseUnavailable",
    "DatasetsError",
    "ExchangeError",
    "ExchangeUnavailable",
    "IncompleteWindow",
    "KlineError",
    "MalformedAnswer",
    "QuarantinedPartitions",
    "RateLimited",
    "StorageError",
    "UnexpectedAnswer",
    "UnknownSeries",
    "UsageError",
    "VenueMismatch",
]


class KlineError(Exception):
    """Anything this project raises on purpose."""

    retryable: ClassVar[bool] = False
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
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        ret_code: int | None = None,
        retry_after_s: float | None = None,
        body_excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.ret_code = ret_code
        self.retry_after_s = retry_after_s
        self.body_excerpt = body_excerpt[:200]


class ExchangeUnavailable(ExchangeError):
    """No connection, a time-out, a 5xx or a busy server: worth another try."""

    retryable = True


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


class UnexpectedAnswer(ExchangeError):
    """A retCode or HTTP status that no rule knows; never taken for data."""


class IncompleteWindow(ExchangeError):
    """The answers hold fewer candles than the window has.

    Attributes:
        missing_ms: open times in UTC milliseconds that were expected and not received, ascending.
    """

    def __init__(self, message: str, *, missing_ms: Sequence[int]) -> None:
        super().__init__(message)
        self.missing_ms = tuple(missing_ms)


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
