"""Each rule passes what is right and names what is wrong."""

import numpy as np
import pyarrow as pa
import pytest

from kline_pipeline.candles.derive import derive
from kline_pipeline.checks import agrees, no_gaps, well_formed
from kline_pipeline.checks.report import CheckResult, Offender, merged
from kline_pipeline.checks.verdict import Judgement, judge
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.schema import CANDLE_SCHEMA, NUMBER_COLUMNS
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import RawBatch
from kline_pipeline.sinks.landing import Held
from kline_pipeline_tests.batches import GOOD, at, batch, page

HOUR = Window(at(0), at(60))
NOTHING = np.zeros(0, dtype=np.int64)


def candle(**numbers: str) -> pa.Table:
    row = {**dict(zip(NUMBER_COLUMNS, GOOD, strict=True)), **numbers}
    return pa.Table.from_pylist([{"open_time_ms": at(0), **row}], schema=CANDLE_SCHEMA)


def judged(*batches: RawBatch, listed: Window = HOUR, fetch_error: str | None = None) -> Judgement:
    derivation = derive(batches, HOUR, Interval("1"), grace_ms=0, now_ms=at(1000))
    return judge(
        derivation,
        window=HOUR,
        listed=[listed],
        interval=Interval("1"),
        category="linear",
        fetch_error=fetch_error,
        repair="kline-pipeline backfill linear:BTCUSDT:1",
    )


def formed(candles: pa.Table, category: str = "linear") -> CheckResult:
    return well_formed.judge(candles, well_formed.Impossible.of(candles), NOTHING, category, window=HOUR)


def test_a_missing_candle_is_named_and_nothing_of_a_closed_partition_lands() -> None:
    holed = [(minute, GOOD) for minute in range(60) if minute != 7]

    judgement = judged(batch("a", page(0, 60, server=99, rows=holed)))

    assert judgement.results["no_gaps"].offenders == (Offender(at(7), "missing"),)
    assert "2024-01-01T00:07:00Z missing" in judgement.reasons[0]
    assert judgement.results["no_gaps"].repair.startswith("kline-pipeline")
    assert not judgement.lands
    assert judgement.offended == [Window(at(7), at(8))]


def test_minutes_outside_the_listing_are_not_missing() -> None:
    rows = [(minute, GOOD) for minute in range(20, 60)]

    judgement = judged(batch("a", page(20, 60, server=99, rows=rows)), listed=Window(at(20), at(60)))

    assert judgement.results["no_gaps"].counts == {"expected": 40, "present": 40, "missing": 0, "known_missing": 0}
    assert judgement.lands


def test_contradicting_rows_quarantine_the_partition_and_are_both_named() -> None:
    other = ("2", "3", "1", "2.5", "10", "20")
    rows = [*[(minute, GOOD) for minute in range(60)], (7, other)]

    judgement = judged(batch("a", page(0, 60, server=99, rows=rows)))

    what = judgement.results["no_duplicates"].offenders[0].what
    assert " ".join(GOOD) in what
    assert " ".join(other) in what
    assert not judgement.lands


def test_of_an_open_partition_the_contiguous_good_part_lands() -> None:
    holed = [(minute, GOOD) for minute in range(31) if minute != 20]

    judgement = judged(batch("a", page(0, 60, server=30.5, rows=holed)))

    assert judgement.lands
    assert len(judgement.landing) == 20
    assert judgement.reasons


def test_what_the_exchange_refused_is_quarantined_with_its_reason() -> None:
    judgement = judged(batch("a", page(0, 60, server=99)), fetch_error="symbol invalid")

    assert not judgement.lands
    assert "symbol invalid" in judgement.reasons[0]


def test_a_clean_partition_lands_whole() -> None:
    judgement = judged(batch("a", page(0, 60, server=99)))

    assert judgement.lands
    assert len(judgement.landing) == 60
    assert judgement.reasons == ()
    assert all(result.passed and result.repair == "" for result in judgement.results.values())


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ({"low": "2.1"}, "low above"),
        ({"close": "0.5"}, "low above"),
        ({"high": "1.9"}, "high below"),
        ({"open": "3.000000000000000001"}, "high below"),
        ({"turnover": "123456789012345678901"}, "does not fit"),
        ({"volume": "0.1234567890123456789"}, "does not fit"),
    ],
)
def test_an_impossible_candle_is_an_error(numbers: dict[str, str], what: str) -> None:
    result = formed(candle(**numbers))

    assert not result.passed
    assert result.severity == "ERROR"
    assert what in result.offenders[0].what
    assert well_formed.Impossible.of(candle(**numbers)).broken_ms().tolist() == [at(0)]


@pytest.mark.parametrize(("category", "passed"), [("linear", True), ("spot", True), ("inverse", False)])
def test_the_average_price_lies_inside_the_candle_the_way_its_category_says(category: str, passed: bool) -> None:
    result = formed(candle(), category)

    assert result.passed is passed
    assert passed or result.severity == "WARN"


def test_an_average_outside_the_candle_warns_and_does_not_quarantine() -> None:
    result = formed(candle(turnover="40"))

    assert (result.passed, result.severity) == (False, "WARN")
    assert len(well_formed.Impossible.of(candle(turnover="40")).broken_ms()) == 0


@pytest.mark.parametrize("numbers", [{"volume": "0", "turnover": "0"}, {"volume": "0", "turnover": "1"}])
def test_without_volume_there_is_no_average_to_compare(numbers: dict[str, str]) -> None:
    assert formed(candle(**numbers)).passed


def test_rounding_of_the_last_digit_is_not_held_against_a_candle() -> None:
    rounded = candle(open="3", high="3", low="3", close="3", volume="0.3", turnover="0.99")

    assert formed(rounded).passed


def test_missing_lists_only_what_is_expected() -> None:
    assert no_gaps.missing(np.array([1, 2, 3]), np.array([2, 9])).tolist() == [1, 3]


HELD = Held(rows=2, first_ms=at(0), last_ms=at(1), sha256="aa")


@pytest.mark.parametrize(
    ("held", "quarantine", "what"),
    [
        (None, [], "holds nothing"),
        (Held(rows=1, first_ms=at(0), last_ms=at(1), sha256="aa"), [], "1 rows, 2 were to land"),
        (Held(rows=2, first_ms=at(0), last_ms=at(2), sha256="aa"), [], "expected"),
        (Held(rows=2, first_ms=at(0), last_ms=at(1), sha256="bb"), [], "checksum"),
        (HELD, ["no_gaps: one missing"], "quarantined: no_gaps"),
    ],
)
def test_a_sink_that_holds_something_else_is_red(held: Held | None, quarantine: list[str], what: str) -> None:
    result = agrees.judge("postgres_agrees", held, HELD, quarantine=quarantine, window=HOUR, repair="do")

    assert not result.passed
    assert what in result.offenders[0].what


def test_a_sink_that_holds_the_same_is_green() -> None:
    assert agrees.judge("parquet_agrees", HELD, HELD, quarantine=[], window=HOUR, repair="do").passed


def test_an_empty_sink_is_no_second_fault_of_a_quarantined_partition() -> None:
    nothing = Held(rows=0, first_ms=None, last_ms=None, sha256="")

    result = agrees.judge("parquet_agrees", None, nothing, quarantine=["no_gaps"], window=HOUR, repair="do")

    assert result.offenders == (Offender(None, "quarantined: no_gaps"),)


def test_one_result_over_many_partitions_fails_if_one_fails_and_names_it() -> None:
    bad = CheckResult.of("no_gaps", [Offender(at(7), "missing")], counts={"expected": 60}, window=HOUR)
    good = CheckResult.of("no_gaps", [], counts={"expected": 60}, window=HOUR)

    result = merged("no_gaps", [("BTCUSDT 2024-01-01", good), ("ETHUSDT 2024-01-01", bad)])

    assert not result.passed
    assert result.counts == {"partitions": 2, "failed": 1, "expected": 120}
    assert str(result.offenders[0]) == "2024-01-01T00:07:00Z ETHUSDT 2024-01-01: missing"
