"""consistent: candles chain to their neighbours, and finer candles add up to coarser ones exactly.

A break of the chain is a warning. Sums differ on real data until the end of 2021 and never since (real-data.md 3): a
warning before 2022, an error from then on. What cannot be compared is counted as such, never as passed. Which candles
are neighbours, and which series is the finer one, is found in stages/consistent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.evidence.let_in import NOTHING, LetIn
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.schema import NUMBER_COLUMNS, decimals
from kline_pipeline.market.window import Window

NAME: Final = "consistent"
STRICT_FROM_MS: Final = 1_640_995_200_000  # 2022-01-01T00:00:00Z
# decimal128 wraps round without a word when a sum has more than 20 digits before the point (measured, pyarrow 26).
_WIDE: Final = pa.decimal256(76, 18)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A partition with what lies at its borders.

    Attributes:
        candles: CANDLE_SCHEMA, of the partition, ascending and unique by open time.
        before, after: CANDLE_SCHEMA, of the partitions beside it; empty where there is nothing to compare with.
        interval: of the series.
        listed: windows in which the grid has candles, at least from one candle before the partition to one after it.
        window: of the partition.
    """

    candles: pa.Table
    before: pa.Table
    after: pa.Table
    interval: Interval
    listed: Sequence[Window]
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Coarser candles and the finer ones that should add up to them.

    Attributes:
        slots_ms: open times of the coarser candles that are looked at, ascending.
        coarse, fine: CANDLE_SCHEMA, ascending and unique by open time.
        coarse_interval, fine_interval: of the two; the finer one divides the coarser.
        listed: windows in which the grid of the finer series has candles.
    """

    slots_ms: NDArray[np.int64]
    coarse: pa.Table
    coarse_interval: Interval
    fine: pa.Table
    fine_interval: Interval
    listed: Sequence[Window]


def judge(chain: Chain, aggregates: Sequence[Aggregate], *, repair: str, let_in: LetIn = NOTHING) -> CheckResult:
    """Return the result of the rule for one partition; errors are listed before warnings.

    Args:
        chain: the partition and its neighbours.
        aggregates: every pair of series to which the partition belongs, as the finer or the coarser one.
        repair: the command that mends it.
        let_in: what a person accepted is a warning, with the reason.
    """
    linked, unlinked, warnings = _chain(chain)
    added_up, not_added_up = 0, 0
    errors: list[Offender] = []
    for aggregate in aggregates:
        compared, not_compared, offenders = _aggregate(aggregate)
        added_up, not_added_up = added_up + compared, not_added_up + not_compared
        for one in offenders:
            decision = let_in.decision(_time(one))
            if decision is not None:
                warnings.append(Offender(one.open_time_ms, f"accepted: {decision.reason}: {one.what}"))
            else:
                (errors if _time(one) >= STRICT_FROM_MS else warnings).append(one)
    errors.sort(key=_time)
    warnings.sort(key=_time)
    return CheckResult.of(
        NAME,
        [*errors, *warnings],
        counts={"chained": linked, "added_up": added_up, "not_compared": unlinked + not_added_up},
        window=chain.window,
        severity="WARN" if warnings and not errors else "ERROR",
        repair=repair,
    )


def not_compared(candles: int, window: Window) -> CheckResult:
    """Return the result for a quarantined partition, none of whose candles is compared with anything."""
    counts = {"chained": 0, "added_up": 0, "not_compared": candles}
    return CheckResult.of(NAME, [], counts=counts, window=window)


def _time(offender: Offender) -> int:
    return offender.open_time_ms or 0


def _chain(chain: Chain) -> tuple[int, int, list[Offender]]:
    """Return how many joints were compared, how many could not be, and the candles that open elsewhere."""
    candles = chain.candles
    if not len(candles):
        return 0, 0, []
    row = pa.concat_tables([chain.before.slice(max(0, len(chain.before) - 1)), candles, chain.after.slice(0, 1)])
    times = row["open_time_ms"].to_numpy()
    ends, begins = row.slice(0, len(row) - 1), row.slice(1)
    touching = chain.interval.close_times(times[:-1]) == times[1:]
    differs = pc.not_equal(ends["close"], begins["open"]).to_numpy(zero_copy_only=False).astype(bool)
    offenders = [
        Offender(int(times[place + 1]), f"opens at {begins['open'][place]}, the one before closes at {closed}")
        for place in np.flatnonzero(touching & differs)
        for closed in [ends["close"][int(place)]]
    ]
    compared = int(np.count_nonzero(touching))
    return compared, max(0, _joints(chain) - compared), offenders


def _joints(chain: Chain) -> int:
    """Return how many neighbours the grid has that touch a candle of the partition."""
    interval, times = chain.interval, chain.candles["open_time_ms"]
    first_ms, last_ms = times[0].as_py(), times[-1].as_py()
    end_ms = interval.shift(last_ms, 1)
    if end_ms == chain.window.end_ms:
        end_ms = interval.shift(end_ms, 1)
    grid = _grid(chain.listed, interval, Window(interval.shift(first_ms, -1), end_ms))
    return int(np.count_nonzero(interval.close_times(grid[:-1]) == grid[1:]))


def _grid(listed: Sequence[Window], interval: Interval, within: Window) -> NDArray[np.int64]:
    parts = [part.intersect(within) for part in listed]
    return np.concatenate([np.zeros(0, np.int64), *(interval.grid(part.start_ms, part.end_ms) for part in parts)])


def _aggregate(pair: Aggregate) -> tuple[int, int, list[Offender]]:
    """Return how many coarser candles were compared, how many could not be, and those that differ."""
    slots = pair.slots_ms
    if not len(slots):
        return 0, 0, []
    span = Window(int(slots[0]), pair.coarse_interval.shift(int(slots[-1]), 1))
    expected = _grid(pair.listed, pair.fine_interval, span)
    fine_ms, coarse_ms = pair.fine["open_time_ms"].to_numpy(), pair.coarse["open_time_ms"].to_numpy()
    wanted = _per_slot(slots, pair.coarse_interval.floors(expected))
    present = _per_slot(slots, pair.coarse_interval.floors(expected[np.isin(expected, fine_ms)]))
    whole = slots[(present == wanted) & (wanted > 0) & np.isin(slots, coarse_ms)]
    if not len(whole):
        return 0, len(slots), []
    floors = pair.coarse_interval.floors(fine_ms)
    inside = np.isin(floors, whole)
    made = _added_up(pair.fine.filter(pa.array(inside)), floors[inside])
    given = pair.coarse.filter(pa.array(np.isin(coarse_ms, whole)))
    return len(whole), len(slots) - len(whole), list(_differences(pair, given, made))


def _per_slot(slots: NDArray[np.int64], floors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each slot how many of `floors` equal it."""
    known = floors[np.isin(floors, slots)]
    return np.bincount(np.searchsorted(slots, known), minlength=len(slots)).astype(np.int64)


def _added_up(fine: pa.Table, floors: NDArray[np.int64]) -> dict[str, Any]:
    """Return per number column what the finer candles give, one value per coarser candle, ascending."""
    first = np.flatnonzero(np.concatenate(([True], floors[1:] != floors[:-1])))
    last = np.concatenate((first[1:], [len(floors)])) - 1
    table = pa.table(
        {
            "slot": pa.array(floors),
            "high": decimals(fine["high"]),
            "low": decimals(fine["low"]),
            "volume": pc.cast(decimals(fine["volume"]), _WIDE),
            "turnover": pc.cast(decimals(fine["turnover"]), _WIDE),
        }
    )
    sums = table.group_by("slot", use_threads=False).aggregate(
        [("high", "max"), ("low", "min"), ("volume", "sum"), ("turnover", "sum")]
    )
    sums = sums.sort_by("slot")  # Arrow returns groups in another order than they came (seen on real data)
    return {
        "open": decimals(fine["open"].take(pa.array(first))),
        "high": sums["high_max"],
        "low": sums["low_min"],
        "close": decimals(fine["close"].take(pa.array(last))),
        "volume": sums["volume_sum"],
        "turnover": sums["turnover_sum"],
    }


def _differences(pair: Aggregate, given: pa.Table, made: dict[str, Any]) -> Iterator[Offender]:
    told: dict[int, list[str]] = {}
    for name in NUMBER_COLUMNS:
        exact = pc.cast(decimals(given[name]), made[name].type)
        differs = pc.not_equal(exact, made[name]).to_numpy(zero_copy_only=False).astype(bool)
        for place in np.flatnonzero(differs).tolist():
            words = f"{name} {given[name][place]} (by {pair.fine_interval}: {_plain(made[name][place].as_py())})"
            told.setdefault(place, []).append(words)
    for place, found in told.items():
        time_ms = given["open_time_ms"][place].as_py()
        yield Offender(time_ms, f"candle of {pair.coarse_interval} is not the sum of its parts: {', '.join(found)}")


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
