"""Log lines of what Dagster has us do, a run, a step or a tick: what they are about, and what Dagster stores of them.

Dagster's own handler alters the records that it gets and stores each with a statement to the database. It is given the
logger `kline_run` (dagster.yaml), to which only warnings go, as copies without secrets, and not too many; all lines go
where those of the process go. What an asset says of its partitions it tells Dagster itself, by `context.log`.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import dagster as dg

from kline_pipeline.config import Settings
from kline_pipeline.errors import KlineError
from kline_pipeline.log.about import about, elapsed_ms, known_fields, now_ns
from kline_pipeline.log.lines import ROOT, configure, fields_of, is_configured
from kline_pipeline.log.redaction import protect, redaction

RUN_LOGGER: Final = "kline_run"
_MOST: Final = 30  # lines that Dagster stores of a process
_WITHIN_S: Final = 60.0
_TOLD_OTHERWISE: Final = ("kline_pipeline.defs", "kline_pipeline.stages.derive", "kline_pipeline.stages.land")
_SHOWN: Final = ("series", "window", "attempt", "elapsed_ms")
logger = logging.getLogger(__name__)


class ToRun(logging.Handler):
    """Hands warnings on to the event log of the run that is on, where there is one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._since_s = float("-inf")
        self._sent = self._left_out = 0
        target = logging.getLogger(RUN_LOGGER)
        target.propagate = False
        target.addHandler(logging.NullHandler())  # outside a run nobody listens

    def handle(self, record: logging.LogRecord) -> bool:
        """Hand on a record; without the lock of handlers, which Dagster's would be taken inside of."""
        if record.levelno >= self.level and not record.name.startswith(_TOLD_OTHERWISE):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on a copy: Dagster alters what it gets."""
        now_s = time.monotonic()
        if now_s - self._since_s > _WITHIN_S:
            self._since_s, self._sent = now_s, 0
        if self._sent >= _MOST:
            self._left_out += 1
            return
        self._sent += 1
        left_out, self._left_out = self._left_out, 0
        fields = fields_of(record)
        told = [f"{name}={fields[name]}" for name in _SHOWN if name in fields]
        told += [f"{left_out} lines before it are in the log of the process alone"] if left_out else []
        copy = logging.makeLogRecord({**vars(record), "args": ()})
        copy.msg = f"{fields['event']} ({', '.join(told)})" if told else fields["event"]
        logging.getLogger(RUN_LOGGER).handle(copy)


def prepare(settings: Settings) -> None:
    """Have the lines of this process without secrets, shown as the settings say, and its warnings in runs.

    What a command has configured stays. Twice is once.

    Raises:
        ConfigError: KLINE_LOG_FILE cannot be written.
    """
    protect(settings.secrets())
    if not is_configured():
        configure(settings)
    ours = logging.getLogger(ROOT)
    if not any(isinstance(one, ToRun) for one in ours.handlers):
        ours.addHandler(ToRun())


@contextmanager
def run_lines(run_id: str, **fields: Any) -> Iterator[None]:
    """Tell of the beginning and the end of a run, and give its id to every line between; inside such a block, nothing.

    Args:
        run_id: Dagster's.
        fields: what else is known of it.
    """
    if known_fields().get("run_id") == run_id:
        yield
        return
    began_ns = now_ns()
    with about(run_id=run_id):
        logger.info("run begun", extra=fields)
        try:
            yield
        finally:
            logger.info("run ended", extra={**fields, "elapsed_ms": elapsed_ms(began_ns)})


@contextmanager
def step_lines(run_id: str, asset: str) -> Iterator[None]:
    """Give the run and the asset to every line of the block; an error that Dagster will store holds no secret.

    Raises:
        KlineError: of the block, as it is: the caller makes it one of Dagster's.
        Exception: what the block raised, or a likeness of it without the secret that it told.
    """
    began_ns = now_ns()
    with about(run_id=run_id, asset=asset), without_secrets(KlineError):
        yield
        logger.info("step done", extra={"elapsed_ms": elapsed_ms(began_ns)})


@contextmanager
def tick_lines(tick: str) -> Iterator[Settings]:
    """Do the same for a tick of a sensor or schedule, and give the settings.

    Raises:
        ConfigError: a variable has a value that cannot work.
        Exception: what the block raised, or a likeness of it without the secret that it told.
    """
    settings, began_ns = Settings.load(), now_ns()
    prepare(settings)
    with about(tick=tick), without_secrets():
        try:
            yield settings
        except Exception as exc:
            logger.exception("tick failed", extra={"elapsed_ms": elapsed_ms(began_ns), "error": type(exc).__name__})
            raise
        logger.debug("tick done", extra={"elapsed_ms": elapsed_ms(began_ns)})


@contextmanager
def without_secrets(*left_alone: type[Exception]) -> Iterator[None]:
    """Raise, in place of an error that tells a secret, its likeness that does not; Dagster's own pass as they are.

    Args:
        left_alone: what the caller makes errors of Dagster of.

    Raises:
        Exception: what the block raised, or the likeness of it.
    """
    try:
        yield
    except Exception as exc:
        of_dagster = isinstance(exc, dg.DagsterError | dg.Failure | dg.RetryRequested)
        safe = redaction().error(exc)
        if of_dagster or isinstance(exc, left_alone) or safe is exc:
            raise
        raise safe from (safe.__cause__ or safe.__context__)
