"""What is let in although it breaks a rule: known gaps, and what a person accepted; the rules are in checks/."""

from collections.abc import Iterable, Sequence
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
        """Return per time whether a person let in what offended there."""
        return _among(times_ms, (one.offenders_ms for one in self.accepted))

    def chooses(self, times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return per time whether a person chose which of the rows that contradicted each other there counts."""
        found = np.zeros(len(times_ms), dtype=bool)
        for one in self.accepted:
            found[_among(times_ms, [one.offenders_ms])] = False
            found[_among(times_ms, [one.contradicted_ms])] = one.keep is not None
        return found

    def lets_miss(self, times_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return per open time whether its candle may be missing: a known gap, or accepted as missing."""
        known = frozenset(gap.open_time_ms for gap in self.gaps if gap.confirmed_ms is not None)
        return _among(times_ms, [known, *(one.missing_ms for one in self.accepted)])

    def gaps_among(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the gaps whose open times are among some, ascending."""
        gaps = np.array([gap.open_time_ms for gap in self.gaps], dtype=np.int64)
        return gaps[np.isin(gaps, times_ms)] if len(gaps) else gaps

    def decision(self, time_ms: int) -> Accepted | None:
        """Return the decision that counts at a time, None where nobody decided."""
        return next((one for one in reversed(self.accepted) if time_ms in one.offenders_ms), None)

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


def _among(times_ms: NDArray[np.int64], sets: Iterable[frozenset[int]]) -> NDArray[np.bool_]:
    known = np.array(sorted(frozenset().union(*sets)), dtype=np.int64)
    found: NDArray[np.bool_] = np.isin(times_ms, known) if len(known) else np.zeros(len(times_ms), dtype=bool)
    return found


NOTHING: Final = LetIn()
