"""no_gaps: every open time of the grid that has closed is present; what was not listed is not expected."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.market.window import Window

NAME: Final = "no_gaps"


def missing(expected_ms: NDArray[np.int64], present_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the expected open times that are not present, ascending."""
    return expected_ms[~np.isin(expected_ms, present_ms)]


def judge(expected_ms: NDArray[np.int64], present_ms: NDArray[np.int64], window: Window) -> CheckResult:
    """Return the result of the rule for one partition.

    Args:
        expected_ms: open times on the grid, inside a listing, that have closed; ascending.
        present_ms: open times of the candles; ascending.
        window: of the partition.
    """
    absent = missing(expected_ms, present_ms)
    return CheckResult.of(
        NAME,
        [Offender(int(open_time_ms), "missing") for open_time_ms in absent],
        counts={"expected": len(expected_ms), "present": len(expected_ms) - len(absent), "missing": len(absent)},
        window=window,
    )
