"""The command line: one module per command; in `main` errors become a sentence and an exit code.

The commands decide nothing about candles; they ask pipeline, defs and database, and show the answers. Nothing heavy is
imported before a command runs.
"""

import gc
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130
_TERMINATED = 143
_WITH_RUNS = frozenset({"backfill", "demo"})
_WITHOUT_RUNS = frozenset({"--detach", "--dry-run", "--help", "-h"})
_STAY = frozenset({"serve", "simulate", "up"})
_YOUNG = 500_000  # objects made before Python looks for cycles, which takes 0.1 s; what a command loads are none


def main() -> None:
    """Run the command of sys.argv and exit with its code: 0 done, 1 failed, 2 bad usage, 130 Ctrl-C, 143 SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)  # so that a command leaves its files and counts as after Ctrl-C
    if _command(sys.argv[1:]) not in _STAY:
        gc.set_threshold(_YOUNG)
    code = run(sys.argv[1:])
    # Python would look through all that was loaded for cycles once more, which takes 0.3 s and is of no use to anybody.
    gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever goes wrong is told in one sentence on standard error."""
    _load_dagster_meanwhile(arguments)
    from kline_pipeline.cli.app import execute
    from kline_pipeline.errors import KlineError

    try:
        return execute(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except KlineError as exc:
        return _told(exc, str(exc), exc.exit_code)
    except Exception as exc:  # noqa: BLE001 - the outermost edge
        sentence = f"{type(exc).__name__}: {exc} (a defect of kline-pipeline: KLINE_LOG_LEVEL=DEBUG shows where)"
        return _told(exc, sentence, 1)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # where an exception is lost, as in the end of a load
    raise SystemExit(_TERMINATED)


def _load_dagster_meanwhile(arguments: Sequence[str]) -> None:
    """Begin to load Dagster for the workers of a command with runs, 0.2 s before its options have been read."""
    if _command(arguments) in _WITH_RUNS and not _WITHOUT_RUNS.intersection(arguments):
        from kline_pipeline.defs.runs_processes import prepare_workers

        prepare_workers()


def _command(arguments: Sequence[str]) -> str:
    return next((one for one in arguments if not one.startswith("-")), "")


def _told(exc: Exception, sentence: str, exit_code: int) -> int:
    from kline_pipeline.cli.session import trace
    from kline_pipeline.log.redaction import redaction

    trace(exc)
    print(f"error: {redaction().text(' '.join(sentence.split()))}", file=sys.stderr)
    return exit_code
