"""All rules together on one partition: what may land, and what must be fetched again; landing is in stages/."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.candles.derive import Derivation
from kline_pipeline.checks import no_duplicates, no_gaps, well_formed
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.evidence.let_in import NOTHING, LetIn
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.schema import sha256_of
from kline_pipeline.market.window import Window, windows_of

CANDLE_CHECKS = (no_gaps.NAME, no_duplicates.NAME, well_formed.NAME)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say of one partition.

    Attributes:
        expected, present, missing: candles, of those that have closed inside a listing.
        known_missing: candles that are missing and let in; they are not among `missing`.
        rows: candles that may land.
        first_ms, last_ms: open times of those, None when there are none.
        dropped: rows that had not closed when they were served.
        duplicates: exact repetitions that were removed.
        revisions: closed candles that older answers told differently.
        not_listed: no life of the instrument touches the partition.
        quarantined: an error rule was broken, or the exchange refused to answer.
        lands: `rows` may go to the sinks: all of the partition, or the contiguous good part of an open one.
        reasons: why it is quarantined.
        repair: the command that mends it, empty when nothing offends.
        results: per rule its result.
        sha256: of the candles that may land.
        generation: of the raw batches, as text.
        window_start_ms, window_end_ms: of the partition.
        closes_ms: end of its last candle that is listed, None where nothing says so.
        read_whole: everything was read after that, so that it is finished once it has landed.
        ask_again_ms: when what offends is to be asked for again, None where nothing waits.
    """

    expected: int
    present: int
    missing: int
    rows: int
    first_ms: int | None
    last_ms: int | None
    dropped: int
    duplicates: int
    revisions: int
    not_listed: bool
    quarantined: bool
    lands: bool
    reasons: tuple[str, ...]
    repair: str
    results: dict[str, CheckResult]
    sha256: str
    generation: str
    window_start_ms: int
    window_end_ms: int
    known_missing: int = 0
    closes_ms: int | None = None
    read_whole: bool = False
    ask_again_ms: int | None = None

    @property
    def finished(self) -> bool:
        """Nothing is to be fetched any more, and all of it may land."""
        return self.read_whole and not self.quarantined

    @property
    def window(self) -> Window:
        """The window of the partition."""
        return Window(self.window_start_ms, self.window_end_ms)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules found in one derivation.

    Attributes:
        results: per rule its result.
        expected_ms, present_ms: open times, ascending.
        missing_ms: open times that are expected, not present and not let in; ascending.
        bad_ms: open times that must be fetched again; ascending.
        offended: their windows, disjoint and ascending.
        landing: the candles that may land (CANDLE_SCHEMA).
        lands: whether they do.
        reasons: why not all of the partition may.
        repair: the command that mends it, empty when all of it may.
    """

    results: dict[str, CheckResult]
    expected_ms: NDArray[np.int64]
    present_ms: NDArray[np.int64]
    missing_ms: NDArray[np.int64]
    bad_ms: NDArray[np.int64]
    offended: list[Window]
    landing: pa.Table
    lands: bool
    reasons: tuple[str, ...]
    repair: str


def judge(
    derivation: Derivation,
    *,
    window: Window,
    listed: Sequence[Window],
    interval: Interval,
    category: str,
    fetch_error: str | None,
    repair: str,
    let_in: LetIn = NOTHING,
) -> Judgement:
    """Return what the rules say of one partition.

    Args:
        derivation: of its raw batches.
        window: of the partition.
        listed: the parts of the window that the grid of the series has.
        interval, category: of the series.
        fetch_error: why the exchange refused it for good, None when it answered.
        repair: the command that mends what offends.
        let_in: known gaps, and what a person accepted.
    """
    candles = _kept(derivation, let_in)
    closed = Window(window.start_ms, derivation.expected_end_ms)
    parts = [interval.grid(part.start_ms, part.end_ms) for part in (life.intersect(closed) for life in listed)]
    expected = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    present = candles["open_time_ms"].to_numpy()
    impossible = well_formed.Impossible.of(candles)
    results = {
        no_gaps.NAME: no_gaps.judge(expected, present, window, let_in),
        no_duplicates.NAME: no_duplicates.judge(
            derivation.candles, derivation.contradictions, derivation.duplicates, window, let_in
        ),
        well_formed.NAME: well_formed.judge(
            candles, impossible, derivation.off_grid_ms, category, window=window, let_in=let_in
        ),
    }
    results = {
        name: result if result.passed else msgspec.structs.replace(result, repair=repair)
        for name, result in results.items()
    }
    absent = no_gaps.missing(expected, present)
    absent = absent[~let_in.lets_miss(absent)]
    twice = derivation.contradictions["open_time_ms"].to_numpy()
    bad = np.unique(
        np.concatenate(
            [
                absent,
                twice[~let_in.chooses(twice)],
                interval.floors(derivation.off_grid_ms[~let_in.accepts(derivation.off_grid_ms)]),
                impossible.broken_ms(let_in),
            ]
        )
    )
    failed = [result for result in results.values() if not result.passed and result.severity == "ERROR"]
    reasons = tuple(result.sentence for result in failed)
    refused = fetch_error is not None and (len(bad) > 0 or not let_in.accepted)
    if refused:
        reasons = (f"the exchange refused: {fetch_error}", *reasons)
    is_open = derivation.expected_end_ms < (listed[-1].end_ms if listed else window.end_ms)
    landing, lands = _landing(candles, bad, is_open=is_open, refused=refused)
    offended = windows_of(bad, interval)
    repair = repair if reasons else ""
    return Judgement(results, expected, present, absent, bad, offended, landing, lands, reasons, repair)


def verdict_of(
    judgement: Judgement,
    derivation: Derivation,
    *,
    window: Window,
    generation: str,
    listed: bool,
    closes_ms: int | None = None,
    read_whole: bool = False,
    ask_again_ms: int | None = None,
) -> Verdict:
    """Return what is kept of a judgement: everything but the candles themselves; arguments are as the attributes."""
    landing = judgement.landing
    gaps = judgement.results[no_gaps.NAME].counts
    return Verdict(
        expected=gaps["expected"],
        present=gaps["present"],
        missing=gaps["missing"],
        known_missing=gaps["known_missing"],
        rows=len(landing),
        first_ms=landing["open_time_ms"][0].as_py() if len(landing) else None,
        last_ms=landing["open_time_ms"][-1].as_py() if len(landing) else None,
        dropped=derivation.dropped,
        duplicates=derivation.duplicates,
        revisions=len(derivation.revisions),
        not_listed=not listed and not judgement.reasons,
        quarantined=bool(judgement.reasons),
        lands=judgement.lands,
        reasons=judgement.reasons,
        repair=judgement.repair,
        results=judgement.results,
        sha256=sha256_of(landing),
        generation=generation,
        window_start_ms=window.start_ms,
        window_end_ms=window.end_ms,
        closes_ms=closes_ms,
        read_whole=read_whole,
        ask_again_ms=ask_again_ms,
    )


def _kept(derivation: Derivation, let_in: LetIn) -> pa.Table:
    """Return the candles, of contradicting rows the one that a person chose."""
    candles, others = derivation.candles, derivation.contradictions
    times, again = candles["open_time_ms"].to_numpy(), others["open_time_ms"].to_numpy()
    rows = np.arange(len(candles))
    for place, time_ms in enumerate(again.tolist()):  # a loop: contradictions are few; the last one wins
        decision = let_in.decision(time_ms)
        if decision is not None and decision.keep == "last":
            rows[np.searchsorted(times, time_ms)] = len(candles) + place
    return pa.concat_tables([candles, others]).take(pa.array(rows)) if len(again) else candles


def _landing(candles: pa.Table, bad_ms: NDArray[np.int64], *, is_open: bool, refused: bool) -> tuple[pa.Table, bool]:
    """Return what may land: all when nothing is bad, the contiguous good part of an open partition, else nothing."""
    if not len(bad_ms):
        return candles, not refused
    good = candles.filter(pc.less(candles["open_time_ms"], int(bad_ms[0]))) if is_open else candles.slice(0, 0)
    return good, is_open and bool(len(good))
