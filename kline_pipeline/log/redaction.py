"""Secrets are put out of sight before a line reaches any handler: ours, another library's, or Dagster's.

What is hidden: the secrets of the settings in every spelling in which they may turn up, passwords in URLs, and what
stands behind a name such as api_key, token or password. It is done where records are made, so that no handler of
anybody sees one; the fields of a line, which are added to a record later, are hidden in lines.py.
"""

import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kline_pipeline.log.spellings import beginnings_of, find_of, spellings_of

HIDDEN: Final = "***"
_DEPTH: Final = 8  # of fields inside fields
_NAMES: Final = (
    r"(?:api[_-]?key|secret|token|passw(?:or)?d|passphrase|pwd|authorization|credential|(?<![a-z])sign(?:ature)?)s?"
)
_HINTS: Final = ("key", "secret", "token", "passw", "passph", "pwd", "authoriz", "credent", "sign")
_SECRET_KEY: Final = re.compile(rf".*{_NAMES}", re.IGNORECASE | re.DOTALL)
# What is told of a variable of ours, "KLINE_OPS_TOKEN: must be ...", is a sentence and no value.
_KEYED: Final = re.compile(
    rf"""(?<![\w-])(["']?(?:[\w-]{{0,40}}?{_NAMES}["']?\s*=|(?!BYBIT_|KLINE_)[\w-]{{0,40}}?{_NAMES}["']?\s*:)\s*)"""
    r"""(?:(?:bearer|basic)\s+[^\s"',;]+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"',;&)}\]]+)""",
    re.IGNORECASE,
)
_URL_PASSWORD: Final = re.compile(r"(\b[a-zA-Z][\w+.-]{0,30}://[^\s:@/?#]*:)[^\s@/]+(?=@)")


class Redaction:
    """Hides some secrets, and whatever looks like one.

    Args:
        secrets: values. One of less than 4 characters is hidden only where its name or its place in a URL tells it,
            one of less than 12 only as a whole word: else a password `a` would take every a from every line.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        given = tuple(secrets)
        spelled, beginnings = spellings_of(given), beginnings_of(given)
        self._marks = (*spelled, *beginnings)
        self._find = find_of(spelled, beginnings)

    def text(self, text: str) -> str:
        """Return the text with *** in place of secrets."""
        if any(mark in text for mark in self._marks):
            text = self._find.sub(HIDDEN, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1{HIDDEN}", text)
        lowered = text.lower()
        if any(hint in lowered for hint in _HINTS):
            text = _KEYED.sub(rf"\1{HIDDEN}", text)
        return text

    def value(self, value: object, depth: int = 0) -> Any:
        """Return what JSON can hold of a field: numbers as they are, texts without secrets, the rest as text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping) and depth < _DEPTH:
            return {self.text(str(key)): self.field(str(key), one, depth + 1) for key, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH:
            return [self.value(one, depth + 1) for one in value]
        return self.text(value if isinstance(value, str) else str(value))

    def field(self, key: str, value: object, depth: int = 0) -> Any:
        """Return a field of a line: *** where its name is that of a secret."""
        if value is not None and _SECRET_KEY.fullmatch(key):
            return HIDDEN
        return self.value(value, depth)

    def error(self, error: BaseException) -> BaseException:
        """Return the error itself, or, where its traceback tells a secret, a likeness of it that does not."""
        told = "".join(traceback.format_exception(error))
        return error if self.text(told) == told else self._likeness(error, set())

    def _likeness(self, error: BaseException, seen: set[int]) -> BaseException:
        seen.add(id(error))
        kind = type(error)
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        made: BaseException = type(kind.__name__, (Exception,), names)(self.text(str(error)))
        for note in getattr(error, "__notes__", ()):
            made.add_note(self.text(str(note)))
        for name in ("__cause__", "__context__"):
            before = getattr(error, name)
            if before is not None and id(before) not in seen:
                setattr(made, name, self._likeness(before, seen))
        made.__suppress_context__ = error.__suppress_context__
        return made.with_traceback(error.__traceback__)


class _Records:
    """Makes log records, without secrets; the one maker of this process since the first `protect`."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self.redaction = Redaction()
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            told = record.getMessage()
        except Exception:  # noqa: BLE001 - what logging itself says of it when it formats the line
            return record
        shown = self.redaction.text(told)
        if shown != told:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[1] is not None:
            error = self.redaction.error(record.exc_info[1])
            record.exc_info = (type(error), error, error.__traceback__)
        if record.stack_info:
            record.stack_info = self.redaction.text(record.stack_info)
        return record


def protect(secrets: Iterable[str]) -> None:
    """Hide these secrets, and no other ones from before, in all that this process logs from now on."""
    records = logging.getLogRecordFactory()
    if not isinstance(records, _Records):
        records = _Records(records)
        logging.setLogRecordFactory(records)
    records.redaction = Redaction(secrets)


def redaction() -> Redaction:
    """Return what `protect` set up; before, only what looks like a secret is hidden."""
    records = logging.getLogRecordFactory()
    return records.redaction if isinstance(records, _Records) else Redaction()
