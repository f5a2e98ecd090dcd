"""A finding of `kline-pipeline doctor`, and how a look becomes one: bounded in time, whatever it meets."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from kline_pipeline.errors import KlineError

logger = logging.getLogger(__name__)
Verdict = Literal["ok", "warn", "FAIL"]
Seen = tuple[Verdict, str]
LIMIT_S: Final = 20.0  # for a look; longer than any deadline within one


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has seen.

    Attributes:
        check: its name.
        verdict: ok, warn (it works, and something should be done) or FAIL.
        seen: one sentence: what was seen and, where that is not good, what to do.
    """

    check: str
    verdict: Verdict
    seen: str


def found(check: str, look: Callable[[], Seen], *, limit_s: float = LIMIT_S) -> Finding:
    """Return the finding of a look; one that has not come back by then is left behind in its thread."""
    answers: list[Seen] = []
    thread = threading.Thread(target=lambda: answers.append(_seen(check, look)), name=f"doctor: {check}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not answers:
        return Finding(check, "FAIL", f"no answer within {limit_s:g} s: what it looks at hangs; see to that first")
    verdict, seen = answers[0]
    return Finding(check, verdict, " ".join(seen.split()))


def not_asked(why: str) -> Seen:
    """Return what is to be said where another check has found why this one need not look."""
    return "warn", f"not asked: {why}"


def _seen(check: str, look: Callable[[], Seen]) -> Seen:
    try:
        return look()
    except KlineError as exc:
        return "FAIL", str(exc)
    except Exception as exc:  # a probe reports what it did not expect as well
        logger.exception("check of doctor crashed", extra={"check": check})
        return "FAIL", f"the check itself failed with {type(exc).__name__}: a defect of kline-pipeline"
