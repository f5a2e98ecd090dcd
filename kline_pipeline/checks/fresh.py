"""fresh: the newest stored candle of every symbol still trading is not older than its interval plus a margin.

Its age counts from its end: while the next candle is open, all that can be there is there.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from kline_pipeline.checks.report import FIRST_OFFENDERS, CheckResult, Offender
from kline_pipeline.market.interval import Interval

NAME: Final = "fresh"


def judge(newest_ms: Mapping[str, int | None], interval: Interval, *, now_ms: int, margin_ms: int) -> CheckResult:
    """Return the result of the rule for one dataset; errors are listed before warnings, each the oldest first.

    Args:
        newest_ms: open time of the newest stored candle of each symbol that is still traded, None where none is stored.
        interval: of the dataset.
        now_ms: UTC.
        margin_ms: beyond the interval; later than that is a warning, later than twice that an error.
    """
    errors: list[Offender] = []
    warnings: list[Offender] = []
    for symbol, open_ms in sorted(
        newest_ms.items(), key=lambda one: (one[1] or 0, one[0])
    ):  # a symbol each, not candles
        if open_ms is None:
            errors.append(Offender(None, f"{symbol}: no candle is stored"))
            continue
        due_ms = int(interval.close_times(interval.close_times(np.array([open_ms])))[0])
        late_ms = now_ms - due_ms
        if late_ms > margin_ms:
            offender = Offender(open_ms, f"{symbol}: is its newest candle, {_hours(late_ms)} h after the next was due")
            (errors if late_ms > 2 * margin_ms else warnings).append(offender)
    found = [*errors, *warnings]
    return CheckResult(
        check=NAME,
        passed=not found,
        severity="WARN" if warnings and not errors else "ERROR",
        total=len(found),
        counts={"trading": len(newest_ms), "late": len(found)},
        offenders=tuple(found[:FIRST_OFFENDERS]),
    )


def _hours(milliseconds: int) -> str:
    return f"{milliseconds / 3_600_000:.1f}"
