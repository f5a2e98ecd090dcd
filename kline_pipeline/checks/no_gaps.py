"""no_gaps: every open time of the grid that has closed is present; what was not listed is not expected.

Where nothing but known gaps and accepted ones are missing it warns; else only the others offend.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.evidence.let_in import NOTHING, LetIn
from kline_pipeline.market.window import Window, absent_of

NAME: Final = "no_gaps"


def missing(expected_ms: NDArray[np.int64], present_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the expected open times that are not present, ascending."""
    return absent_of(expected_ms, present_ms)


def judge(
    expected_ms: NDArray[np.int64], present_ms: NDArray[np.int64], window: Window, let_in: LetIn = NOTHING
) -> CheckResult:
    """Return the result of the rule for one partition.

    Args:
        expected_ms: open times on the grid, inside a listing, that have closed; ascending.
        present_ms: open times of the candles; ascending.
        window: of the partition.
        let_in: known gaps, and what a person accepted.
    """
    absent = missing(expected_ms, present_ms)
    known = let_in.lets_miss(absent)
    unknown = absent[~known]
    return CheckResult.of(
        NAME,
        [_missing(int(open_time_ms), let_in) for open_time_ms in (unknown if len(unknown) else absent)],
        counts={
            "expected": len(expected_ms),
            "present": len(expected_ms) - len(absent),
            "missing": len(unknown),
            "known_missing": int(np.count_nonzero(known)),
        },
        window=window,
        severity="WARN" if len(absent) and not len(unknown) else "ERROR",
    )


def _missing(open_time_ms: int, let_in: LetIn) -> Offender:
    about = let_in.about(open_time_ms, missing=True)
    known = about.startswith("known gap")
    return Offender(open_time_ms, about if known else f"missing; {about}" if about else "missing")
