"""What people read: one message per partition, one for a storm, with all that helps."""

from collections.abc import Sequence
from datetime import date, timedelta

from kline_pipeline.alerting.episodes import Evaluation, FinishedRun, follow
from kline_pipeline.alerting.messages import compose
from kline_pipeline.evidence.alerts import Alert
from kline_pipeline_tests.alert_cases import judged, run

UI = "http://dagster.example:3000"
A, B, C = "2024-03-01|AUSDT", "2024-03-01|BUSDT", "2024-04-01|AUSDT"


def told(*runs: FinishedRun) -> list[Alert]:
    return compose(follow({}, runs, "WARN")[1], ui_url=UI)


def titles(alerts: Sequence[Alert]) -> list[str]:
    return [alert.title for alert in alerts]


def days(count: int, **given: bool) -> list[Evaluation]:
    dates = [date(2024, 1, 1) + timedelta(days=number) for number in range(count)]
    return [judged(f"{day}|AUSDT", **given) for day in dates]  # type: ignore[arg-type]


def test_a_message_says_what_where_since_when_how_bad_where_to_look_and_what_repairs() -> None:
    (alert,) = told(run(judged(A, minute=5)))
    assert alert.title == "ERROR linear:AUSDT:60 2024-03-01: candles no_gaps failed"
    assert alert.body.splitlines() == [
        "candles no_gaps: 2024-03-10T05:00:00Z is missing",
        "Since: 2024-04-10 12:05:00 UTC",
        "Severity: ERROR",
        f"See: {UI}/assets/linear/60/candles?view=checks&checkDetail=no_gaps",
        "Repair: kline-pipeline repair linear:AUSDT:60 --from 2024-03-01 --to 2024-03-01",
        f"Alert: {alert.alert_id}",
    ]


def test_a_recovery_says_from_when_to_when_and_asks_for_nothing() -> None:
    _, alert = told(run(judged(A)), run(judged(A, passed=True, minute=90)))
    assert alert.title == "RECOVERED linear:AUSDT:60 2024-03-01: candles no_gaps recovered"
    assert "Since: 2024-04-10 12:00:00 UTC\nUntil: 2024-04-10 13:30:00 UTC" in alert.body
    assert "Repair" not in alert.body


def test_all_that_fails_in_a_partition_is_one_message_that_leads_to_the_candles() -> None:
    sink = judged(A, asset="linear/60/candles_postgres", check="postgres_agrees")
    (alert,) = told(run(sink, judged(A), judged(A, check="fresh", severity="WARN")))
    assert alert.title == (
        "ERROR linear:AUSDT:60 2024-03-01: candles_postgres postgres_agrees, candles no_gaps, candles fresh failed"
    )
    assert "candles?view=checks&checkDetail=no_gaps" in alert.body
    assert alert.body.count("Repair:") == 1


def test_a_few_partitions_are_a_message_each_in_the_order_of_their_failing() -> None:
    alerts = told(run(judged(B), judged(A), judged(C)))
    assert [title.split(":")[1] for title in titles(alerts)] == ["BUSDT", "AUSDT", "AUSDT"]


def test_a_storm_is_one_message_with_a_list_and_so_is_its_end() -> None:
    failed, recovered = told(run(*days(100)), run(*days(100, passed=True)))
    assert failed.title == "ERROR linear_60: 100 partitions failed"
    assert failed.body.count("candles no_gaps") == 20
    assert "and 80 more" in failed.body
    assert "Repair: kline-pipeline repair linear:AUSDT:60 --from 2024-01-01 --to 2024-04-09" in failed.body
    assert len(failed.body) < 4000
    assert recovered.title == "RECOVERED linear_60: 100 partitions recovered"


def test_a_storm_over_many_symbols_names_a_few_commands() -> None:
    (alert,) = told(run(*(judged(f"2024-03-01|S{number}USDT") for number in range(8))))
    assert alert.body.count("Repair:") == 5
    assert "and 3 commands more like these" in alert.body


def test_datasets_are_told_apart_in_a_storm() -> None:
    other = [judged(f"{day}", asset="spot/15/candles") for day in (A, B)]
    assert len(told(run(*days(6), *other))) == 3


def test_failure_recovery_and_failure_within_one_tick_are_told_in_that_order() -> None:
    alerts = told(run(judged(A)), run(judged(A, passed=True, minute=1)), run(judged(A, minute=2)))
    assert [alert.severity for alert in alerts] == ["ERROR", "RECOVERED", "ERROR"]
    assert len({alert.alert_id for alert in alerts}) == 3


def test_the_id_of_a_message_is_the_same_however_often_it_is_made() -> None:
    first, again = (told(run(*days(7), judged(B)))[0] for _ in range(2))
    assert first == again


def test_a_failed_run_leads_to_its_page_and_says_how_to_go_on() -> None:
    command = "kline-pipeline backfill linear:AUSDT:60 --from 2024-03-01 --to 2024-04-01"
    crash = ("linear/60/raw_batches", "the exchange does not answer")
    (alert,) = told(run(status="failed", crashes=(crash,), repair=command))
    assert alert.title == "ERROR linear_60: run failed"
    assert "linear/60/raw_batches: the exchange does not answer" in alert.body
    assert f"{UI}/runs/run-1" in alert.body
    assert f"Repair: {command}" in alert.body


def test_a_very_long_reason_is_cut() -> None:
    crash = ("linear/60/raw_batches", "x" * 10_000)
    assert len(told(run(status="failed", crashes=(crash,)))[0].body) < 1000


def test_a_warning_is_called_one() -> None:
    assert titles(told(run(judged(A, severity="WARN"))))[0].startswith("WARN ")
