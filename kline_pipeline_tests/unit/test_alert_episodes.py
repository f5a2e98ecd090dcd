"""An episode is news when it begins and when it ends, and nothing else is."""

from collections.abc import Sequence

import pytest

from kline_pipeline.alerting.episodes import FinishedRun, follow
from kline_pipeline.evidence.alerts import Episode, Place, Severity
from kline_pipeline_tests.alert_cases import after, judged, run

A, B = "2024-03-01|AUSDT", "2024-03-01|BUSDT"
GAPS_A = Place("linear/60/candles", A, "no_gaps")
RUN_PLACE = Place("linear/60", "", "run")
LOST = ("linear/60/raw_batches", "the exchange does not answer")


def news(
    runs: Sequence[FinishedRun], least: Severity = "ERROR", before: dict[Place, Episode] | None = None
) -> list[tuple[str, Place]]:
    return [(change.kind, change.episode.place) for change in follow(before or {}, runs, least)[1]]


def test_an_episode_is_told_once_from_its_first_failure_to_its_recovery() -> None:
    runs = [
        run(judged(A, minute=1)),
        run(judged(A, minute=2), number=2),
        run(judged(A, passed=True, minute=3), number=3),
        run(judged(A, passed=True, minute=4), number=4),
        run(judged(A, minute=5), number=5),
    ]
    assert news(runs) == [("failed", GAPS_A), ("recovered", GAPS_A), ("failed", GAPS_A)]


def test_it_makes_no_difference_over_how_many_ticks_runs_are_read() -> None:
    runs = [run(judged(A, minute=1)), run(judged(A), judged(B)), run(judged(A, passed=True)), run(judged(B))]
    at_once, open_at_once = news(runs), follow({}, runs, "ERROR")[0]
    one_by_one, still_open = [], dict[Place, Episode]()
    for one in runs:
        one_by_one += news([one], before=still_open)
        still_open = follow(still_open, [one], "ERROR")[0]
    assert (one_by_one, still_open) == (at_once, open_at_once)


def test_an_open_episode_keeps_its_beginning_and_takes_the_latest_repair() -> None:
    first, second = judged(A, minute=1), judged(A, minute=2, severity="WARN")
    still_open, _ = follow({}, [run(first), run(second, number=2)], "WARN")
    assert (still_open[GAPS_A].since, still_open[GAPS_A].run_id) == (after(1), "run-1")
    assert still_open[GAPS_A].severity == "WARN"


def test_each_partition_asset_and_check_has_an_episode_of_its_own() -> None:
    others = [judged(B), judged(A, check="well_formed"), judged(A, asset="linear/1/candles")]
    assert len(news([run(judged(A), *others)])) == 4


@pytest.mark.parametrize(("least", "told"), [("ERROR", []), ("WARN", [("failed", GAPS_A)])])
def test_a_warning_is_news_only_where_it_is_asked_for(least: Severity, told: list[tuple[str, Place]]) -> None:
    assert news([run(judged(A, severity="WARN"))], least) == told


def test_an_error_that_becomes_a_warning_is_over() -> None:
    assert news([run(judged(A)), run(judged(A, severity="WARN"))]) == [("failed", GAPS_A), ("recovered", GAPS_A)]


def test_a_warning_of_a_run_that_was_not_asked_for_the_newest_is_no_recovery_of_its_dataset() -> None:
    # `fresh` is only a warning in a run over old dates, where the same candles are late.
    runs = [
        run(judged("", minute=1)),
        run(judged("", severity="WARN", minute=2), number=2),
        run(judged("", minute=3), number=3),
        run(judged("", passed=True, minute=4), number=4),
    ]
    whole = Place("linear/60/candles", "", "no_gaps")
    assert news(runs) == [("failed", whole), ("recovered", whole)]


def test_a_run_that_failed_without_a_failing_check_is_an_episode_of_its_dataset() -> None:
    failed = run(status="failed", crashes=(LOST,))
    _, (change,) = follow({}, [failed, failed], "ERROR")
    assert change.episode.place == RUN_PLACE
    assert change.reason == "linear/60/raw_batches: the exchange does not answer"


def test_a_killed_run_tells_what_dagster_was_told_of_it() -> None:
    _, (change,) = follow({}, [run(status="failed", error="the process ended without a word")], "ERROR")
    assert change.reason == "the process ended without a word"


def test_a_sink_that_failed_for_its_check_is_not_told_twice() -> None:
    sink = judged(A, asset="linear/60/candles_postgres", check="postgres_agrees")
    failed = run(sink, status="failed", crashes=(("linear/60/candles_postgres", "1 of 2 did not land"),))
    assert news([failed]) == [("failed", sink.place)]


def test_a_crash_beside_a_failing_check_is_told_too() -> None:
    failed = run(judged(A), status="failed", crashes=(("linear/60/candles_postgres", "the database went away"),))
    assert news([failed]) == [("failed", GAPS_A), ("failed", RUN_PLACE)]


def test_a_canceled_run_is_nobodys_failure_and_its_checks_count() -> None:
    assert news([run(judged(A), status="canceled", error="canceled")]) == [("failed", GAPS_A)]


@pytest.mark.parametrize(
    ("later", "over"),
    [
        (run(), True),
        (run(assets=("linear/60/candles",)), False),
        (run(status="canceled"), False),
        (run(subject="linear/1"), False),
    ],
)
def test_a_failed_run_is_over_when_a_run_of_the_same_assets_succeeds(later: FinishedRun, over: bool) -> None:
    told = news([run(status="failed", crashes=(LOST,)), later])
    assert (("recovered", RUN_PLACE) in told) is over


@pytest.mark.parametrize(
    ("partitions", "over"),
    [
        ("2022-01-01|BTCUSDT...2022-12-01|BTCUSDT", True),
        ("2021-01-01|BTCUSDT...2023-12-01|BTCUSDT", True),
        ("2022-01-01|BTCUSDT...2022-11-01|BTCUSDT", False),
        ("2022-01-01|ETHUSDT...2022-12-01|ETHUSDT", False),
        ("2022-01-01|BTCUSDT", False),
        ("", False),
    ],
)
def test_a_failed_run_is_made_good_by_a_run_over_its_partitions_only(partitions: str, *, over: bool) -> None:
    failed = run(status="failed", error="killed", partitions="2022-01-01|BTCUSDT...2022-12-01|BTCUSDT")
    still_open, changes = follow({}, [failed, run(partitions=partitions)], "ERROR")

    assert [change.kind for change in changes] == (["failed", "recovered"] if over else ["failed"])
    assert bool(still_open) is not over


def test_a_failed_run_is_made_good_by_several_runs_that_make_what_it_left() -> None:
    months = [f"2022-{month:02}-01|BTCUSDT" for month in range(1, 13)]
    over = f"{months[0]}...{months[-1]}"
    failed = run(status="failed", error="killed", partitions=over, left=tuple(months[3:]))
    some = run(number=2, partitions=f"{months[2]}...{months[6]}")
    broken = run(
        number=3, status="failed", error="killed", partitions=f"{months[7]}...{months[11]}", left=(months[11],)
    )
    last = run(number=4, partitions=months[11])

    still_open, changes = follow({}, [failed, some, broken], "ERROR")
    assert still_open[Place("linear/60", over, "run")].run_left == (months[11],)
    assert [change.kind for change in changes] == ["failed", "failed"]

    still_open, changes = follow(still_open, [last], "ERROR")
    over_now = [(change.kind, change.episode.run_id) for change in changes]
    assert over_now == [("recovered", "run-1"), ("recovered", "run-3")]
    assert not still_open


def test_a_run_that_leaves_out_one_symbol_of_a_failed_one_does_not_make_it_good() -> None:
    left = tuple(f"2022-01-01|{symbol}USDT" for symbol in "ABC")
    over, symbols = f"{left[0]}...{left[2]}", ("AUSDT", "BUSDT", "CUSDT")
    failed = run(status="failed", error="killed", left=left, partitions=over, symbols=symbols)

    still_open, _ = follow({}, [failed, run(partitions=over, symbols=("AUSDT", "CUSDT"))], "ERROR")
    assert [one.run_left for one in still_open.values()] == [(left[1],)]

    assert not follow(still_open, [run(partitions=over, symbols=symbols)], "ERROR")[0]


def test_runs_over_different_partitions_fail_each_for_itself() -> None:
    runs = [run(status="failed", error="killed", partitions=f"2022-01-01|{name}USDT") for name in ("BTC", "SOL")]

    _, changes = follow({}, runs, "ERROR")

    assert [change.episode.place.partition for change in changes] == ["2022-01-01|BTCUSDT", "2022-01-01|SOLUSDT"]
