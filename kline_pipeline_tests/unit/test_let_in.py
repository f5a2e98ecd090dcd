"""What is known of offenders, and what a person decided, changes the verdict and nothing else."""

import numpy as np
import pytest

from kline_pipeline.candles.derive import Derivation, derive
from kline_pipeline.checks.verdict import Judgement, judge
from kline_pipeline.evidence.accepted import Accepted, Keep
from kline_pipeline.evidence.known_gaps import KnownGap
from kline_pipeline.evidence.let_in import LetIn
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import RawBatch
from kline_pipeline_tests.batches import GOOD, at, batch, page

HOUR = Window(at(0), at(60))
OTHER = ("2", "3", "1", "2.5", "10", "20")
IMPOSSIBLE = ("2", "1.5", "1", "2", "10", "20")


def derived(*batches: RawBatch) -> Derivation:
    return derive(batches, HOUR, Interval("1"), grace_ms=0, now_ms=at(1000))


def judged(let_in: LetIn, *batches: RawBatch, fetch_error: str | None = None, listed: Window = HOUR) -> Judgement:
    return judge(
        derived(*batches),
        window=HOUR,
        listed=[listed],
        interval=Interval("1"),
        category="linear",
        fetch_error=fetch_error,
        repair="kline-pipeline repair linear:BTCUSDT:1",
        let_in=let_in,
    )


def rows(*changes: tuple[float, tuple[str, ...] | None]) -> RawBatch:
    """Return an hour of good minutes with some put in their place, left out (None) or added."""
    changed = {minute for minute, _ in changes}
    good = [(float(minute), GOOD) for minute in range(60) if minute not in changed]
    return batch("a", page(0, 60, server=99, rows=[*good, *((at, row) for at, row in changes if row is not None)]))


def accepted(start: int, end: int, keep: Keep | None = None) -> LetIn:
    """Accept whatever lies in these minutes."""
    window, times = Window(at(start), at(end)), frozenset(range(at(start), at(end), 1000))
    return LetIn(accepted=(Accepted(window, keep, "outage", times, times, times),))


def known(*minutes: int, confirmed: bool = True) -> LetIn:
    evidence = {} if confirmed else {"contradicts": "there was volume"}
    return LetIn([KnownGap(at(minute), at(99) if confirmed else None, evidence) for minute in minutes])


def test_a_known_gap_warns_and_the_partition_lands() -> None:
    judgement = judged(known(7), rows((7, None)))
    result = judgement.results["no_gaps"]
    assert (judgement.lands, len(judgement.landing), judgement.reasons) == (True, 59, ())
    assert (result.severity, result.passed, str(result.offenders[0])) == (
        "WARN",
        False,
        "2024-01-01T00:07:00Z known gap, confirmed 2024-01-01T01:39:00Z",
    )
    assert result.counts == {"expected": 60, "present": 59, "missing": 0, "known_missing": 1}
    assert judgement.offended == []


def test_beside_a_known_gap_only_the_unknown_one_offends() -> None:
    judgement = judged(known(7), rows((7, None), (9, None)))
    result = judgement.results["no_gaps"]
    assert (result.severity, [one.open_time_ms for one in result.offenders]) == ("ERROR", [at(9)])
    assert (result.counts["missing"], result.counts["known_missing"]) == (1, 1)
    assert judgement.offended == [Window(at(9), at(10))]
    assert not judgement.lands


def test_a_gap_that_was_not_confirmed_is_an_error_and_says_what_speaks_against_it() -> None:
    judgement = judged(known(7, confirmed=False), rows((7, None)))
    assert judgement.reasons == ("no_gaps: 2024-01-01T00:07:00Z missing; there was volume",)


def test_a_known_gap_whose_candle_is_there_is_no_warning() -> None:
    assert judged(known(7), rows()).results["no_gaps"].passed


def test_an_accepted_impossible_candle_is_let_in_with_a_warning() -> None:
    judgement = judged(accepted(7, 8), rows((7, IMPOSSIBLE)))
    result = judgement.results["well_formed"]
    assert (result.passed, result.severity) == (False, "WARN")
    assert "high below open or close; accepted: outage" in result.sentence
    assert (judgement.lands, len(judgement.landing)) == (True, 60)


def test_a_candle_that_fits_into_no_sink_is_never_let_in() -> None:
    judgement = judged(accepted(7, 8), rows((7, (*GOOD[:5], "123456789012345678901"))))
    assert not judgement.lands
    assert "does not fit" in judgement.reasons[0]


def test_an_accepted_row_off_the_grid_is_dropped() -> None:
    judgement = judged(accepted(7, 8), rows((7.5, GOOD)))
    assert (judgement.lands, len(judgement.landing)) == (True, 60)
    assert judgement.results["well_formed"].severity == "WARN"


@pytest.mark.parametrize(("keep", "close"), [("first", "2.5"), ("last", "2")])
def test_of_contradicting_rows_the_chosen_one_counts_as_they_were_served(keep: Keep, close: str) -> None:
    # Rows are listed in the order of time and served the other way round.
    judgement = judged(accepted(7, 8, keep), rows((7, GOOD), (7, OTHER)))
    assert judgement.lands
    assert judgement.landing["close"].to_pylist()[7] == close


def test_where_decisions_overlap_the_newer_one_counts() -> None:
    older, newer = accepted(0, 60, "first").accepted[0], accepted(7, 8, "last").accepted[0]
    judgement = judged(LetIn(accepted=(older, newer)), rows((7, GOOD), (7, OTHER)))
    assert judgement.landing["close"].to_pylist()[7] == "2"


def test_a_decision_without_a_choice_lets_no_contradiction_in() -> None:
    assert not judged(accepted(0, 60), rows((7, GOOD), (7, OTHER))).lands


def test_what_the_exchange_refused_lands_when_all_of_it_was_accepted() -> None:
    assert not judged(accepted(7, 8), rows((7, None), (9, None)), fetch_error="no").lands
    judgement = judged(accepted(7, 8), rows((7, None)), fetch_error="no")
    assert (judgement.lands, judgement.reasons) == (True, ())


def test_after_its_last_listed_candle_a_partition_is_no_more_open() -> None:
    holed = [(float(minute), GOOD) for minute in range(30) if minute != 7]
    part = batch("a", page(0, 30, server=40, rows=holed))
    assert judged(LetIn(), part).lands  # an open one: the part before the gap
    assert not judged(LetIn(), part, listed=Window(at(0), at(30))).lands


def test_answers_know_what_was_read_since_and_what_is_ripe() -> None:
    early, late = batch("a", page(0, 60, server=30.5)), batch("b", page(20, 40, server=99))
    answers = derived(early, late).answers
    times = np.array([at(7), at(25), at(35), at(50)])
    assert answers.held(0) == [Window(at(0), at(40))]
    assert answers.held(at(60)) == [Window(at(20), at(40))]
    assert answers.cover([Window(at(20), at(40))], at(60))
    assert not answers.cover([Window(at(19), at(40))], at(60))
    assert answers.asked(times).tolist() == [at(7), at(25), at(35)]
    assert answers.ripe(times, 68 * 60_000).tolist() == [at(25)]
    assert answers.ripe(times, 69 * 60_000).tolist() == []
    assert answers.ripe(times, 0).tolist() == [at(25)], "one answer confirms nothing"
    assert [answer.batch for answer in answers.of_time(at(25))] == ["a", "b"]
    assert answers.ask_again_ms(times[1:2], 60_000) == at(99 + 68.5)
    assert answers.ask_again_ms(times[3:], 60_000) is None


def test_batches_that_decide_nothing_and_hold_nothing_alone_are_not_needed() -> None:
    old, lone = batch("a", page(0, 30, server=40)), batch("b", page(30, 60, server=70))
    whole = batch("c", page(0, 60, server=99))
    holed = batch("c", page(0, 60, server=99, rows=[(float(minute), GOOD) for minute in range(60) if minute != 40]))
    assert derived(old, lone, whole).needed == {"c"}
    assert derived(old, lone, holed).needed == {"b", "c"}
    assert derived(old, lone).needed == {"a", "b"}


@pytest.mark.parametrize("code", ["1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D"])
def test_a_coarser_candle_is_made_of_whole_finer_ones(code: str) -> None:
    fine = Interval(code)
    coarse = fine.coarser()
    assert coarse is not None
    assert coarse.step_ms is not None
    assert fine.step_ms is not None
    assert coarse.step_ms % fine.step_ms == 0
    assert coarse.step_ms > fine.step_ms
    assert fine.floor(coarse.floor(at(12345))) == coarse.floor(at(12345))


def test_of_weeks_and_months_nothing_coarser_is_made() -> None:
    assert Interval("W").coarser() is Interval("M").coarser() is None
