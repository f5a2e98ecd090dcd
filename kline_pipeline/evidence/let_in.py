"""What is let in although it breaks a rule: known gaps, and what a person accepted; the rules are in checks/."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kline_pipeline.evidence.accepted import Accepted
from kline_pipeline.evidence.known_gaps import KnownGap
from kline_pipeline.market.window import iso


@dataclass(frozen=True, slots=True)
class LetIn:
    """What is known about the offenders of one partition.

    Attributes:
        gaps: that are not closed; those that were not confirmed are not let in, and say why.
        accepted: the oldest decision first; where two overlap the newer one counts.
    """

    gaps: Sequence[KnownGap] = ()
    accepted: Sequence[Accepted] = ()

    def accepts(self, times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return per time whether a person let in what lies there."""
        found = np.zeros(len(times_ms), dtype=bool)
        for one in self.accepted:
            found |= (times_ms >= one.window.start_ms) & (times_ms < one.window.end_ms)
        return found

    def chooses(self, times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return per time whether a person chose which of contradicting rows counts there."""
        found = np.zeros(len(times_ms), dtype=bool)
        for one in self.accepted:
            found[(times_ms >= one.window.start_ms) & (times_ms < one.window.end_ms)] = one.keep is not None
        return found

    def lets_miss(self, times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return per open time whether its candle may be missing: a known gap, or accepted."""
        known = [gap.open_time_ms for gap in self.gaps if gap.confirmed_ms is not None]
        return self.accepts(times_ms) | np.isin(times_ms, np.array(known, dtype=np.int64))

    def gaps_among(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the gaps whose open times are among some, ascending."""
        gaps = np.array([gap.open_time_ms for gap in self.gaps], dtype=np.int64)
        return gaps[np.isin(gaps, times_ms)]

    def decision(self, time_ms: int) -> Accepted | None:
        """Return the decision that counts at a time, None where nobody decided."""
        return next((one for one in reversed(self.accepted) if time_ms in one.window), None)

    def about(self, time_ms: int, *, missing: bool = False) -> str:
        """Return what is to be said of what lies at a time, in a few words; empty where nothing is known.

        Args:
            time_ms: of an offender.
            missing: no candle lies there, so that a gap may be known.
        """
        if (decision := self.decision(time_ms)) is not None:
            return f"accepted: {decision.reason}"
        gap = next((gap for gap in self.gaps if gap.open_time_ms == time_ms), None) if missing else None
        if gap is None:
            return ""
        if gap.confirmed_ms is None:
            return str(gap.evidence["contradicts"])
        return f"known gap, confirmed {iso(gap.confirmed_ms)}"


NOTHING: Final = LetIn()
