"""well_formed: a candle is on the grid, high and low hold open and close, the average price lies between them.

The first two are errors; the last is a warning (it held in all of 342,147 real rows, real-data.md 1) and is skipped
where volume or turnover is zero. For inverse contracts the average price is volume / turnover (bybit-v5.md 1.2).
What a person accepted is a warning too; what no sink can hold cannot be accepted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.evidence.let_in import NOTHING, LetIn
from kline_pipeline.market.schema import NUMBER_COLUMNS, decimals
from kline_pipeline.market.window import Window

NAME: Final = "well_formed"
# Twelve digits of the relative difference are beyond any tolerance of half a last digit, and float64 has fifteen:
# floats only choose which rows are compared exactly.
_SURELY_INSIDE: Final = 1e-12
_SURELY_FITS: Final = 18  # characters: decimal128(38, 18) has 20 digits before the point and 18 behind it
_EXACT_AS_FLOAT: Final = 15  # characters, and so at most as many digits


@dataclass(frozen=True, slots=True)
class Impossible:
    """The candles of a partition that are impossible by themselves.

    Attributes:
        unfit: those that no sink can hold; where there are any, the others cannot be compared.
        contradictory: those whose high and low do not hold open and close.
    """

    unfit: tuple[Offender, ...]
    contradictory: tuple[Offender, ...]

    @classmethod
    def of(cls, candles: pa.Table) -> Self:
        """Look at candles with CANDLE_SCHEMA, ascending and unique by open time."""
        unfit = _too_large(candles)
        return cls(tuple(unfit), () if unfit else tuple(_contradictory(candles)))

    def broken_ms(self, let_in: LetIn = NOTHING) -> NDArray[np.int64]:
        """Return their open times, ascending; what a person accepted is not among them, but what does not fit is."""
        if self.unfit:
            return _times(self.unfit)
        times = _times(self.contradictory)
        return times[~let_in.accepts(times)]


def judge(
    candles: pa.Table,
    impossible: Impossible,
    off_grid_ms: NDArray[np.int64],
    category: str,
    *,
    window: Window,
    let_in: LetIn = NOTHING,
) -> CheckResult:
    """Return the result of the rule for one partition: errors if there are any, else warnings.

    Args:
        candles: CANDLE_SCHEMA, ascending and unique by open time.
        impossible: of those candles.
        off_grid_ms: open times of rows that are not on the grid.
        category: linear, spot or inverse; decides which way round the average price is.
        window: of the partition.
        let_in: what a person accepted.
    """
    counts = {"candles": len(candles) + len(off_grid_ms)}
    wrong = [Offender(int(open_time_ms), "not on the grid of the interval") for open_time_ms in off_grid_ms]
    wrong += impossible.contradictory
    accepted = [Offender(one.open_time_ms, f"{one.what}; {about}") for one, about in _about(wrong, let_in) if about]
    errors = [*impossible.unfit] + [one for one, about in _about(wrong, let_in) if not about]
    if accepted:
        counts["accepted"] = len(accepted)
    if errors:
        return CheckResult.of(NAME, _in_order(errors), counts=counts, window=window)
    odd = _in_order([*accepted, *_odd_average(candles, category)])
    return CheckResult.of(NAME, odd, counts=counts, window=window, severity="WARN" if odd else "ERROR")


def too_large(candles: pa.Table) -> NDArray[np.int64]:
    """Return the open times of candles that fit into no sink, ascending."""
    return _times(_too_large(candles))


def _about(offenders: list[Offender], let_in: LetIn) -> list[tuple[Offender, str]]:
    return [(one, let_in.about(one.open_time_ms or 0)) for one in offenders]


def _in_order(offenders: list[Offender]) -> list[Offender]:
    return sorted(offenders, key=lambda offender: offender.open_time_ms or 0)


def _times(offenders: Sequence[Offender]) -> NDArray[np.int64]:
    return np.unique(np.array([offender.open_time_ms for offender in offenders], dtype=np.int64))


def _too_large(candles: pa.Table) -> list[Offender]:
    offenders = []
    for name in NUMBER_COLUMNS:
        if _longest(candles[name]) <= _SURELY_FITS:
            continue
        split = pc.find_substring(candles[name], ".").to_numpy()
        length = pc.utf8_length(candles[name]).to_numpy()
        whole, fraction = np.where(split < 0, length, split), np.where(split < 0, 0, length - split - 1)
        for row in np.flatnonzero((whole > 20) | (fraction > 18)):  # noqa: PLR2004 - decimal128(38, 18)
            time_ms = candles["open_time_ms"][int(row)].as_py()
            offenders.append(Offender(time_ms, f"{name} {candles[name][int(row)]} does not fit decimal(38, 18)"))
    return offenders


def _contradictory(candles: pa.Table) -> list[Offender]:
    names = ("open", "high", "low", "close")
    # Floats tell numbers of few digits apart as exactly as decimals do, for a quarter of the time.
    exactly = all(_longest(candles[name]) <= _EXACT_AS_FLOAT for name in names)
    price = {name: pc.cast(candles[name], pa.float64()) if exactly else decimals(candles[name]) for name in names}
    ends = ("open", "close")
    above = [pc.greater(price["low"], price[name]) for name in ends]
    below = [pc.less(price["high"], price[name]) for name in ends]
    rules = {"low above open or close": pc.or_(*above), "high below open or close": pc.or_(*below)}
    offenders = []
    for what, broken in rules.items():
        times = candles["open_time_ms"].filter(broken).to_pylist()
        offenders += [Offender(time_ms, what) for time_ms in times]
    return offenders


def _odd_average(candles: pa.Table, category: str) -> list[Offender]:
    top, bottom = ("volume", "turnover") if category == "inverse" else ("turnover", "volume")
    values = {name: pc.cast(candles[name], pa.float64()).to_numpy() for name in ("low", "high", top, bottom)}
    compared = (values[top] > 0) & (values[bottom] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        average = np.where(compared, values[top] / values[bottom], values["low"])
    # How far the last digits reach is looked at where it matters only.
    outside = np.flatnonzero(compared & ((average < values["low"]) | (average > values["high"])))
    if not len(outside):
        return []
    rows, average = candles.take(pa.array(outside)), average[outside]
    low, high, above, below = (values[name][outside] for name in ("low", "high", top, bottom))
    slack = _half_digit(rows, top) / above + _half_digit(rows, bottom) / below + _SURELY_INSIDE
    odd = outside[(average < low * (1 - slack)) | (average > high * (1 + slack))]
    times = candles["open_time_ms"].to_numpy()
    return [Offender(int(times[row]), f"{top}/{bottom} lies outside [low, high]") for row in odd]


def _longest(texts: pa.ChunkedArray) -> int:
    return pc.max(pc.binary_length(texts)).as_py() or 0


def _half_digit(candles: pa.Table, name: str) -> NDArray[np.float64]:
    split = pc.find_substring(candles[name], ".").to_numpy()
    length = pc.utf8_length(candles[name]).to_numpy()
    half: NDArray[np.float64] = 0.5 * 10.0 ** -np.where(split < 0, 0, length - split - 1).astype(np.float64)
    return half
