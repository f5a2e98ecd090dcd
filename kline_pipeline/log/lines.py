"""How log lines look and where they go: console for people, JSON for machines; the library itself never configures it.

Lines go to standard error, so that standard output holds results only, and to KLINE_LOG_FILE where it is set. In JSON
each line is one object: timestamp, level, logger, event, then what is known of series, window, run_id, attempt and
elapsed_ms, other fields, exception, and at last pid and host.
"""

import json
import logging
import socket
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog

from kline_pipeline.config import Settings
from kline_pipeline.log.about import known_fields
from kline_pipeline.log.redaction import protect, redaction

ROOT: Final = "kline_pipeline"
# What logging itself, uvicorn and Dagster put on a record, which is no field of ours.
_NO_FIELDS: Final = frozenset(
    {
        *vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message",
        "dagster_meta", "dagster_event", "dagster_event_batch_metadata",
    }
)  # fmt: skip
_FIRST: Final = ("series", "window", "run_id", "attempt", "elapsed_ms")


class Lines(logging.Formatter):
    """Makes a line of a record: its own fields, what the work at hand is about, and nothing secret."""

    def __init__(self, form: str, *, colors: bool = False) -> None:
        """Prepare for console or json."""
        super().__init__()
        self._host = socket.gethostname()
        self._console = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False) if form == "console" else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end; JSON is one line whatever it says."""
        fields = fields_of(record)
        if self._console is not None:
            return str(self._console(None, record.levelname, fields))
        return _json({**fields, "pid": record.process, "host": self._host})


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error when a line comes, which tests and worker processes change."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Return standard error."""
        return sys.stderr


def configure(settings: Settings) -> None:
    """Show lines from KLINE_LOG_LEVEL on, those of other libraries from WARNING on, without the secrets; twice is once.

    Raises:
        ConfigError: KLINE_LOG_FILE cannot be written.
    """
    protect(settings.secrets())
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one.formatter, Lines)]:
        root.removeHandler(old)
        old.close()
    colors = sys.stderr.isatty()
    form = settings.log_format or ("console" if colors else "json")
    error = StandardError()
    error.setFormatter(Lines(form, colors=colors))
    handlers: list[logging.Handler] = [error]
    if settings.log_file is not None:
        from kline_pipeline.log.rotation import LogFile  # noqa: PLC0415 - most commands have no file

        handlers.append(LogFile(settings.log_file, Lines("json"), trouble=error))
    for new in handlers:
        root.addHandler(new)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[settings.log_level]))
    logging.getLogger(ROOT).setLevel(settings.log_level)


def is_configured() -> bool:
    """Say whether `configure` was called in this process."""
    return any(isinstance(one.formatter, Lines) for one in logging.getLogger().handlers)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record in the order of a line, without secrets.

    A record that went through Dagster is told as it was logged, with the run's id.
    """
    hide = redaction()
    meta = getattr(record, "dagster_meta", None) or {}
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    fields: dict[str, Any] = {
        "timestamp": moment.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": hide.text(meta.get("orig_message") or record.getMessage()),
    }
    given = {name: value for name, value in vars(record).items() if name not in _NO_FIELDS}
    dagster = {"run_id": meta["run_id"]} if meta.get("run_id") else {}
    known = {**dagster, **known_fields(), **given}
    for name in [*filter(known.__contains__, _FIRST), *sorted(known.keys() - fields.keys() - set(_FIRST))]:
        fields[name] = hide.field(name, known[name])
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"] = hide.text("".join(traceback.format_exception(record.exc_info[1])).rstrip())
    elif record.exc_text:
        fields["exception"] = hide.text(record.exc_text)
    if record.stack_info:
        fields["stack"] = hide.text(record.stack_info)
    return fields


def _json(fields: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(fields).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):  # half a character, or a number beyond JSON's
        return json.dumps(fields, default=str)
