"""Which row counts for each open time, and what differs between batches."""

import random

from kline_pipeline.candles.derive import Derivation, Generation, derive
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import RawBatch
from kline_pipeline_tests.batches import GOOD, at, batch, page

HOUR = Window(at(0), at(60))
OTHER = ("2", "3", "1", "2.5", "10", "20")


def derived(*batches: RawBatch) -> Derivation:
    return derive(batches, HOUR, Interval("1"), grace_ms=0, now_ms=at(1000))


def minutes(derivation: Derivation) -> list[int]:
    return [(time - at(0)) // 60_000 for time in derivation.candles["open_time_ms"].to_pylist()]


def closes(derivation: Derivation) -> dict[int, str]:
    return dict(zip(minutes(derivation), derivation.candles["close"].to_pylist(), strict=True))


def test_rows_come_out_in_order_of_time_whatever_the_order_they_came_in() -> None:
    rows = [(minute, GOOD) for minute in range(60)]
    random.Random(7).shuffle(rows)

    assert minutes(derived(batch("a", page(0, 60, server=99, rows=rows)))) == list(range(60))


def test_a_candle_that_had_not_closed_when_it_was_served_is_dropped_and_counted() -> None:
    result = derived(batch("a", page(0, 60, server=30.5)))

    assert minutes(result) == list(range(30))
    assert result.dropped == 1
    assert result.expected_end_ms == at(30)


def test_the_open_candle_is_replaced_by_the_closed_one_and_is_no_revision() -> None:
    early = page(0, 60, server=30.5, rows=[*[(minute, GOOD) for minute in range(30)], (30, OTHER)])

    result = derived(batch("a", early), batch("b", page(30, 60, server=99)))

    assert minutes(result) == list(range(60))
    assert closes(result)[30] == "2"
    assert result.revisions == ()


def test_an_exact_duplicate_is_removed_and_counted() -> None:
    rows = [(minute, GOOD) for minute in [*range(60), 7, 7]]

    result = derived(batch("a", page(0, 60, server=99, rows=rows)))

    assert minutes(result) == list(range(60))
    assert (result.duplicates, len(result.contradictions)) == (2, 0)


def test_numbers_that_differ_only_in_zeros_are_the_same() -> None:
    rows = [*[(minute, GOOD) for minute in range(60)], (7, ("2.0", "3.00", "1", "2", "10", "20.0"))]

    assert derived(batch("a", page(0, 60, server=99, rows=rows))).duplicates == 1


def test_two_different_rows_in_one_page_contradict_and_are_both_kept() -> None:
    rows = [*[(minute, GOOD) for minute in range(60)], (7, OTHER)]

    result = derived(batch("a", page(0, 60, server=99, rows=rows)))

    assert {closes(result)[7], *result.contradictions["close"].to_pylist()} == {"2", "2.5"}
    assert result.contradictions["open_time_ms"].to_pylist() == [at(7)]


def test_the_newest_answer_decides_and_the_older_one_is_a_revision() -> None:
    older = batch("a", page(0, 60, server=99))
    newer = batch("b", page(7, 8, server=120, rows=[(7, OTHER)]))

    for result in (derived(older, newer), derived(newer, older)):
        assert closes(result)[7] == "2.5"
        assert [(one.kind, one.open_time_ms, one.old["close"]) for one in result.revisions] == [("changed", at(7), "2")]
        assert [(one.old_batch, one.new_batch) for one in result.revisions] == [("a", "b")]


def test_of_two_answers_of_one_instant_the_batch_id_decides() -> None:
    one = batch("a", page(0, 60, server=99))
    two = batch("b", page(0, 60, server=99, rows=[(minute, OTHER) for minute in range(60)]))

    assert set(closes(derived(one, two)).values()) == set(closes(derived(two, one)).values()) == {"2.5"}


def test_a_closed_candle_that_a_newer_answer_lacks_is_kept_as_vanished() -> None:
    result = derived(batch("a", page(0, 60, server=99)), batch("b", page(7, 9, server=120, rows=[(8, GOOD)])))

    assert minutes(result) == list(range(60))
    assert [(one.kind, one.open_time_ms, one.new) for one in result.revisions] == [("vanished", at(7), None)]


def test_a_gap_that_a_later_answer_fills_is_filled() -> None:
    holed = [(minute, GOOD) for minute in range(60) if minute != 7]

    result = derived(batch("a", page(0, 60, server=99, rows=holed)), batch("b", page(7, 8, server=120)))

    assert minutes(result) == list(range(60))
    assert result.revisions == ()


def test_a_row_off_the_grid_is_named_and_not_taken() -> None:
    rows = [*[(minute, GOOD) for minute in range(60)], (7.5, GOOD)]

    result = derived(batch("a", page(0, 60, server=99, rows=rows)))

    assert minutes(result) == list(range(60))
    assert result.off_grid_ms.tolist() == [at(7.5)]


def test_a_later_answer_about_an_early_minute_does_not_raise_what_is_expected() -> None:
    tail = batch("a", page(0, 60, server=30.5))
    early = batch("b", page(7, 8, server=31.5))

    assert derived(tail, early).expected_end_ms == at(30)


def test_what_closed_beyond_the_last_window_asked_is_not_expected_of_an_open_partition() -> None:
    late = page(0, 20, server=40.5, rows=[(minute, GOOD) for minute in range(20)])

    assert derived(batch("a", late)).expected_end_ms == at(20)


def test_a_partition_that_has_closed_is_expected_whole_whatever_was_asked() -> None:
    late = page(0, 20, server=99, rows=[(minute, GOOD) for minute in range(20)])

    assert derived(batch("a", late)).expected_end_ms == at(60)


def test_without_an_answer_everything_that_has_closed_is_expected() -> None:
    result = derive([], HOUR, Interval("1"), grace_ms=0, now_ms=at(20.5))

    assert (len(result.candles), result.expected_end_ms) == (0, at(20))


def test_a_generation_grows_with_newer_answers_and_with_more_of_them() -> None:
    first, second = batch("a", page(0, 60, server=99)).name, batch("b", page(7, 8, server=99)).name
    newer = batch("c", page(7, 8, server=120)).name

    assert Generation.of([first]) < Generation.of([first, second]) < Generation.of([newer])
    assert Generation.parse(str(Generation.of([first, second]))) == Generation.of([second, first])
