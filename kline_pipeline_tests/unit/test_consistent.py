"""consistent: the chain to the neighbours, the sums of finer candles, what is an error, and what is not compared."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from kline_pipeline.checks import consistent
from kline_pipeline.checks.consistent import Aggregate, Chain
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.market.interval import INTERVAL_CODES, Interval
from kline_pipeline.market.schema import CANDLE_SCHEMA, empty_candles
from kline_pipeline.market.window import Window
from kline_pipeline_tests.worlds import ms

Row = tuple[str, str, str, str, str, str, str]
DAY, HOUR = Interval("D"), Interval("60")
START, END = ms("2024-02-01"), ms("2024-02-02")
EVER = (Window(0, ms("2100-01-01")),)


def table(rows: Sequence[Row]) -> pa.Table:
    columns = [[ms(row[0]) for row in rows], *([row[n] for row in rows] for n in range(1, 7))]
    return pa.table(columns, schema=CANDLE_SCHEMA)


def hours(day: str = "2024-02-01", count: int = 24, first: int = 0) -> list[Row]:
    """Return hours that chain: hour n goes from n to n+1, volume 0.1, turnover 0.2."""
    return [
        (f"{day}T{n:02}:00", f"{n}", f"{n + 2}", f"{max(0, n - 1)}", f"{n + 1}", "0.1", "0.2")
        for n in range(first, first + count)
    ]


def chain(
    rows: Sequence[Row], *, before: Sequence[Row] = (), after: Sequence[Row] = (), listed: Sequence[Window] = EVER
) -> Chain:
    return Chain(
        candles=table(rows), before=table(before), after=table(after),
        interval=HOUR, listed=listed, window=Window(START, END),
    )  # fmt: skip


def judge(one: Chain, *pairs: Aggregate) -> CheckResult:
    return consistent.judge(one, pairs, repair="mend it")


def day_of_hours(day: Sequence[Row], fine: Sequence[Row], *, listed: Sequence[Window] = EVER) -> Aggregate:
    coarse = table(day)
    slots = DAY.floors(table(fine)["open_time_ms"].to_numpy())
    return Aggregate(
        slots_ms=np.unique(np.concatenate([coarse["open_time_ms"].to_numpy(), slots])),
        coarse=coarse, coarse_interval=DAY, fine=table(fine), fine_interval=HOUR, listed=listed,
    )  # fmt: skip


BEFORE: Row = ("2024-01-31T23:00", "5", "5", "0", "0", "1", "1")
AFTER: Row = ("2024-02-02T00:00", "24", "24", "24", "24", "0", "0")
WHOLE_DAY: Row = ("2024-02-01", "0", "25", "0", "24", "2.4", "4.8")


def test_a_chain_over_both_borders_passes_and_counts_its_joints() -> None:
    result = judge(chain(hours(), before=[BEFORE], after=[AFTER]))

    assert result.passed
    assert result.counts == {"chained": 25, "added_up": 0, "not_compared": 0}
    assert result.repair == ""


def test_absent_neighbours_are_not_compared() -> None:
    assert judge(chain(hours())).counts == {"chained": 23, "added_up": 0, "not_compared": 2}


@pytest.mark.parametrize(
    ("place", "changed", "offends"),
    [
        (0, {"before": [(*BEFORE[:4], "7", "1", "1")]}, "2024-02-01T00:00"),
        (5, {}, "2024-02-01T05:00"),
        (24, {"after": [(AFTER[0], "23", *AFTER[2:])]}, "2024-02-02T00:00"),
    ],
)
def test_a_candle_that_opens_elsewhere_is_a_warning_at_its_open_time(
    place: int, changed: dict[str, Sequence[Row]], offends: str
) -> None:
    rows = hours()
    if not changed:
        rows[place] = (rows[place][0], "5.5", *rows[place][2:])
    beside = {"before": [BEFORE], "after": [AFTER], **changed}
    result = judge(chain(rows, before=beside["before"], after=beside["after"]))

    assert (result.passed, result.severity, result.total, result.repair) == (False, "WARN", 1, "mend it")
    assert [one.open_time_ms for one in result.offenders] == [ms(offends)]


def test_across_a_gap_nothing_is_compared() -> None:
    rows = [row for n, row in enumerate(hours()) if n != 7]

    assert judge(chain(rows, before=[BEFORE], after=[AFTER])).counts == {
        "chained": 23, "added_up": 0, "not_compared": 2,
    }  # fmt: skip


def test_a_hole_between_listings_has_no_joints() -> None:
    lives = (Window(START, ms("2024-02-01T04:00")), Window(ms("2024-02-01T10:00"), ms("2024-02-01T12:00")))
    rows = [*hours(count=4), *hours(first=10, count=2)]

    assert judge(chain(rows, listed=lives)).counts == {"chained": 4, "added_up": 0, "not_compared": 0}


def test_of_an_open_partition_the_joint_to_the_next_one_is_not_awaited() -> None:
    assert judge(chain(hours(count=3), before=[BEFORE])).counts == {"chained": 3, "added_up": 0, "not_compared": 0}


def test_no_candle_at_all_passes_and_compares_nothing() -> None:
    result = judge(chain([], before=[BEFORE]))
    assert (result.passed, result.counts) == (True, {"chained": 0, "added_up": 0, "not_compared": 0})


def test_hours_that_add_up_to_the_day_pass() -> None:
    result = judge(chain(hours(), before=[BEFORE], after=[AFTER]), day_of_hours([WHOLE_DAY], hours()))
    assert (result.passed, result.counts["added_up"], result.counts["not_compared"]) == (True, 1, 0)


@pytest.mark.parametrize("column", range(1, 7))
def test_each_number_that_differs_in_its_last_digit_is_an_error(column: int) -> None:
    day = [*WHOLE_DAY]
    day[column] = "2.400000000000000001" if column >= 5 else "12.000000000000000001"
    result = judge(chain(hours(), before=[BEFORE], after=[AFTER]), day_of_hours([tuple(day)], hours()))  # type: ignore[list-item]

    assert (result.passed, result.severity, result.total) == (False, "ERROR", 1)
    assert result.offenders[0].open_time_ms == START
    assert CANDLE_SCHEMA.names[column] in result.offenders[0].what
    assert "by 60: " in result.offenders[0].what


def test_of_many_groups_each_is_compared_with_its_own_candles() -> None:
    # Arrow's group_by returns 50 groups of half hours out of order, but not 400 days.
    opens = [str(moment) for moment in np.arange("2024-01-01T00:00", "2024-01-09T00:00", 30, dtype="datetime64[m]")]
    fine = table([(at, "5", "9", "1", "5", f"{n // 2 + 1}", "2") for n, at in enumerate(opens)])
    rows: list[Row] = [(at, "5", "9", "1", "5", f"{2 * n + 2}", "4") for n, at in enumerate(opens[::2])]

    def offenders() -> list[int | None]:
        coarse = table(rows)
        slots = coarse["open_time_ms"].to_numpy()
        pair = Aggregate(
            slots_ms=slots, coarse=coarse, coarse_interval=HOUR,
            fine=fine, fine_interval=Interval("30"), listed=EVER,
        )  # fmt: skip
        return [one.open_time_ms for one in judge(chain([]), pair).offenders]

    assert offenders() == []
    rows[100] = (*rows[100][:5], "1", "4")
    assert offenders() == [ms(opens[200])]


def test_before_2022_a_sum_that_differs_is_a_warning() -> None:
    old = [(row[0].replace("2024-02-01", "2021-12-31"), *row[1:]) for row in hours()]
    day: Row = ("2021-12-31", *WHOLE_DAY[1:5], "3", "4.8")
    result = judge(chain([]), day_of_hours([day], old))

    assert (result.passed, result.severity, [one.open_time_ms for one in result.offenders]) == (
        False, "WARN", [ms("2021-12-31")],
    )  # fmt: skip


def test_errors_stand_before_warnings() -> None:
    rows = hours()
    rows[1] = (rows[1][0], "1.5", *rows[1][2:])
    result = judge(chain(rows, before=[BEFORE], after=[AFTER]), day_of_hours([(*WHOLE_DAY[:5], "9", "4.8")], hours()))

    assert (result.severity, result.total) == ("ERROR", 2)
    assert [one.open_time_ms for one in result.offenders] == [START, ms("2024-02-01T01:00")]


def test_a_day_with_an_hour_missing_is_not_compared() -> None:
    pair = day_of_hours([(*WHOLE_DAY[:5], "9", "9")], hours(count=23))
    assert judge(chain([]), pair).counts == {"chained": 0, "added_up": 0, "not_compared": 1}


def test_hours_without_their_day_are_not_compared() -> None:
    assert judge(chain([]), day_of_hours([], hours())).counts == {"chained": 0, "added_up": 0, "not_compared": 1}


def test_a_day_listed_in_part_is_compared_with_the_hours_that_the_listing_has() -> None:
    life = [Window(ms("2024-02-01T10:00"), ms("2100-01-01"))]
    day: Row = ("2024-02-01", "10", "25", "9", "24", "1.4", "2.8")
    assert judge(chain([]), day_of_hours([day], hours(first=10, count=14), listed=life)).counts["added_up"] == 1
    assert judge(chain([]), day_of_hours([day], hours(first=11, count=13), listed=life)).counts["not_compared"] == 1


def test_sums_beyond_twenty_digits_do_not_wrap_round() -> None:
    most = "9" * 20
    fine = [(row[0], *row[1:5], most, "0.2") for row in hours()]
    result = judge(chain([]), day_of_hours([(*WHOLE_DAY[:5], "1", "4.8")], fine))
    assert "by 60: 2399999999999999999976" in result.offenders[0].what


def test_a_quarantined_partition_counts_as_not_compared() -> None:
    result = consistent.not_compared(744, Window(START, END))
    assert (result.passed, result.counts["not_compared"]) == (True, 744)
    assert not len(empty_candles())


def test_an_interval_divides_those_whose_candles_are_made_of_whole_ones() -> None:
    divisors = {
        code: [one for one in INTERVAL_CODES if Interval(one).divides(Interval(code))] for code in ("5", "360", "720")
    }
    assert divisors == {
        "5": ["1"],
        "360": ["1", "3", "5", "15", "30", "60", "120"],
        "720": ["1", "3", "5", "15", "30", "60", "120", "240", "360"],
    }
    below_week = [*INTERVAL_CODES[:-2]]
    for code in ("W", "M"):
        assert [one for one in INTERVAL_CODES if Interval(one).divides(Interval(code))] == below_week
