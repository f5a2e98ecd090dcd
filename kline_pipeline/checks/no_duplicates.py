"""no_duplicates: one row per open time; two different closed rows in one answer are named both, and never merged.

Where a person chose which one counts it warns.
"""

from typing import Final

import numpy as np
import pyarrow as pa

from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.evidence.let_in import NOTHING, LetIn
from kline_pipeline.market.schema import NUMBER_COLUMNS
from kline_pipeline.market.window import Window

NAME: Final = "no_duplicates"


def judge(
    candles: pa.Table, contradictions: pa.Table, removed: int, window: Window, let_in: LetIn = NOTHING
) -> CheckResult:
    """Return the result of the rule for one partition.

    Args:
        candles: CANDLE_SCHEMA, ascending and unique by open time.
        contradictions: rows that differ from the one in `candles` with the same open time.
        removed: exact repetitions that were removed; they do not offend.
        window: of the partition.
        let_in: what a person accepted.
    """
    times = candles["open_time_ms"].to_numpy()
    offenders, accepted = [], []
    for row in contradictions.to_pylist():  # a loop: contradictions are few, and each is told in words
        first = candles.slice(int(np.searchsorted(times, row["open_time_ms"])), 1).to_pylist()[0]
        what = f"two rows: {_numbers(first)} and {_numbers(row)}"
        decision = let_in.decision(row["open_time_ms"])
        if decision is not None and decision.keep is not None:
            about = f"the {decision.keep} one counts, accepted: {decision.reason}"
            accepted.append(Offender(row["open_time_ms"], f"{what}; {about}"))
        else:
            offenders.append(Offender(row["open_time_ms"], what))
    counts = {"candles": len(candles), "contradictions": len(offenders), "duplicates_removed": removed}
    return CheckResult.of(
        NAME,
        sorted(offenders or accepted, key=lambda offender: offender.open_time_ms or 0),
        counts={**counts, "accepted": len(accepted)} if accepted else counts,
        window=window,
        severity="WARN" if accepted and not offenders else "ERROR",
    )


def _numbers(row: dict[str, str]) -> str:
    return " ".join(row[name] for name in NUMBER_COLUMNS)
