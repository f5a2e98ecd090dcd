"""Alerts of real runs on a real instance, to a real receiver: which are sent, and how often."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from kline_pipeline.config import KlineSettings, Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.defs import partition_results
from kline_pipeline.defs.automation.alerts import Told, alert_sensors, tell
from kline_pipeline.defs.automation.finished_runs import GATHER_S, SETTLE_S, read_finished
from kline_pipeline.errors import AlertsNotDelivered
from kline_pipeline_tests.webhooks import Webhook, webhook
from kline_pipeline_tests.worlds import HOURLY

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-04-10", timezone="UTC")
PARTITIONS = dg.MultiPartitionsDefinition({"date": DAYS, "symbol": dg.StaticPartitionsDefinition(["AUSDT"])})
FIRST, LAST = "2024-01-01|AUSDT", "2024-04-09|AUSDT"
THREE = {f"2024-01-0{number}|AUSDT" for number in (1, 2, 3)}
CANDLES, SINK = dg.AssetKey(["linear", "60", "candles"]), dg.AssetKey(["linear", "60", "candles_postgres"])
AGREES = dg.AssetCheckKey(SINK, "postgres_agrees")
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@dataclass
class Pipeline:
    """Two assets shaped like ours, run over 100 partitions of which some are bad; and the ticks of the sensor."""

    instance: dg.DagsterInstance
    database: Database
    settings: Settings
    now_ms: int = 0

    def run(
        self,
        bad: set[str] = frozenset(),  # type: ignore[assignment]
        *,
        first: str = FIRST,
        last: str = "2024-01-03|AUSDT",
        severity: dg.AssetCheckSeverity = ERROR,
        sink: bool = False,
        crash: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> str:
        def result(key: str) -> dg.AssetCheckResult:
            return dg.AssetCheckResult(
                passed=key not in bad,
                severity=severity,
                description="no_gaps: a hole" if key in bad else None,
                metadata={"repair": f"repair {key}"},
            )

        @dg.asset(key=CANDLES, partitions_def=PARTITIONS)
        def candles() -> None:
            if crash:
                raise dg.Failure(crash, allow_retries=False)

        @partition_results.partitioned_check(candles, "no_gaps", "No gaps")
        def no_gaps(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
            yield from partition_results.check_results(context, result, lambda: result(""))

        spec = partition_results.inline_check(SINK, AGREES.name, "Agrees", PARTITIONS)

        @dg.asset(key=SINK, deps=[candles], partitions_def=PARTITIONS, check_specs=[spec])
        def candles_postgres(context: dg.AssetExecutionContext) -> Iterator[Any]:
            keys = partition_results.partition_keys(context)
            landed = {key: partition_results.Landed(result=result(key), good=key not in bad) for key in keys}
            yield from partition_results.landing_results(context, AGREES, landed)

        span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        assets: list[Any] = [candles, no_gaps, candles_postgres] if sink else [candles, no_gaps]
        done = dg.materialize(assets, instance=self.instance, tags={**span, **(tags or {})}, raise_on_error=False)
        return done.run_id

    def tick(self, later_s: float = 60.0) -> Told:
        return tell(self.instance, self.database, self.settings, now_ms=round((time.time() + later_s) * 1000))

    def episodes(self) -> list[tuple[str, str, str]]:
        with self.database.engine.connect() as connection:
            rows = connection.execute(
                text("select asset, partition, check_name from kline.alert_episodes order by 1, 2")
            )
            return [tuple(row) for row in rows]


Make = Callable[..., Pipeline]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def make(instance: dg.DagsterInstance, database: Database, settings: Settings) -> Make:
    """Return the pipeline whose alerts go to some URLs."""

    def made(*urls: str, severity: str = "ERROR") -> Pipeline:
        kline = KlineSettings.model_validate(
            {
                "home": settings.home,
                "database_url": settings.database_url,
                "alert_urls": SecretStr(" ".join(urls)),
                "alert_severity": severity,
            }
        )
        return Pipeline(instance, database, Settings(settings.bybit, kline))

    return made


def test_three_failing_partitions_and_one_recovery_reach_a_webhook_that_refuses_twice_once_and_in_order(
    make: Make, hook: Webhook
) -> None:
    hook.refusals = [500, 500]
    pipeline = make(hook.url)
    pipeline.run(THREE)
    for _ in range(2):
        with pytest.raises(AlertsNotDelivered, match="error=500"):
            pipeline.tick()
    pipeline.run(THREE - {FIRST})
    told = make(hook.url).tick()  # as another daemon, that knows what the first one has stored
    assert (told.new, told.delivered.sent) == (1, 4)
    days = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-01"]
    assert [title.split()[2] for title in hook.titles] == [f"{day}:" for day in days]
    assert [title.split()[0] for title in hook.titles] == ["ERROR"] * 3 + ["RECOVERED"]
    assert "candles no_gaps: a hole" in hook.payloads[0]["message"]
    assert f"Repair: repair {FIRST}" in hook.payloads[0]["message"]
    assert make(hook.url).tick().delivered.sent == 0


def test_a_hundred_partitions_that_fail_at_once_are_one_message(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)
    keys = {str(key) for key in PARTITIONS.get_partition_keys()}
    assert len(keys) == 100
    pipeline.run(keys, last=LAST)
    pipeline.tick()
    pipeline.run(last=LAST)
    pipeline.tick()
    assert hook.titles == ["ERROR linear_60: 100 partitions failed", "RECOVERED linear_60: 100 partitions recovered"]


@pytest.mark.parametrize(("least", "sent"), [("ERROR", 0), ("WARN", 3)])
def test_warnings_are_left_out_unless_they_are_asked_for(make: Make, hook: Webhook, least: str, sent: int) -> None:
    pipeline = make(hook.url, severity=least)
    pipeline.run(THREE, severity=WARN)
    pipeline.tick()
    assert len(hook.payloads) == sent


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (["Started process for run", "It was terminated by signal 9 (SIGKILL)."], "terminated by signal 9"),
        (["Started process for run"], "marked as failed from outside"),
    ],
)
def test_a_run_whose_process_was_killed_tells_what_dagster_saw_of_it(
    make: Make, hook: Webhook, events: list[str], told: str
) -> None:
    pipeline = make(hook.url)
    tags = {"dagster/partition": FIRST}
    killed = dg.DagsterRun("job", tags=tags, asset_selection={CANDLES}, status=dg.DagsterRunStatus.STARTED)
    pipeline.instance.add_run(killed)
    for event in events:
        pipeline.instance.report_engine_event(event, killed)
    pipeline.instance.report_run_failed(killed)
    pipeline.instance.report_engine_event("Failed to retry run, terminated by signal 0", killed)

    pipeline.tick()

    assert told in hook.payloads[0]["message"]


def test_what_failed_in_a_run_before_the_first_tick_is_told_within_a_day(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)
    pipeline.run({FIRST})
    assert pipeline.tick(later_s=25 * 3600).new == 0
    assert pipeline.tick(later_s=23 * 3600).new == 1
    assert len(hook.payloads) == 1


def test_a_run_that_has_just_ended_is_read_when_no_lower_id_can_come_any_more(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)
    pipeline.run({FIRST})
    assert pipeline.tick(later_s=-SETTLE_S).new == 0
    assert pipeline.tick().new == 1


def test_a_sink_that_fails_with_its_check_is_told_once(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)
    pipeline.run({FIRST}, sink=True)
    pipeline.tick()
    assert hook.titles == ["ERROR linear:AUSDT:60 2024-01-01: candles no_gaps, candles_postgres postgres_agrees failed"]


def test_a_run_that_breaks_off_is_told_with_its_reason_and_over_with_the_next_success(
    make: Make, hook: Webhook
) -> None:
    pipeline = make(hook.url)
    run_id = pipeline.run(crash="the exchange does not answer")
    pipeline.tick()
    over = "2024-01-01|AUSDT...2024-01-03|AUSDT"
    assert pipeline.episodes() == [("linear/60", over, "run")]
    pipeline.run()
    pipeline.tick()
    assert hook.titles == [f"ERROR linear_60 {over}: run failed", f"RECOVERED linear_60 {over}: run recovered"]
    message = hook.payloads[0]["message"]
    assert "linear/60/candles: the exchange does not answer" in message
    assert f"http://127.0.0.1:3000/runs/{run_id}" in message
    assert "Repair: kline-pipeline backfill linear:AUSDT:60 --from 2024-01-01 --to 2024-01-03" in message
    assert pipeline.episodes() == []


def test_a_run_that_breaks_off_is_over_when_others_have_made_what_it_left(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)
    pipeline.run(crash="killed")
    pipeline.run(first="2024-01-02|AUSDT")
    pipeline.tick()
    assert [check for _, _, check in pipeline.episodes()] == ["run"]
    pipeline.run(last=FIRST)
    pipeline.tick()
    assert [title.split()[0] for title in hook.titles] == ["ERROR", "RECOVERED"]
    assert pipeline.episodes() == []


def test_a_partition_that_a_failed_run_did_land_need_not_be_made_again(make: Make) -> None:
    pipeline = make()
    pipeline.run({FIRST}, sink=True)
    pipeline.run({FIRST}, sink=True, crash="killed")
    runs, _ = read_finished(pipeline.instance, None, now_ms=round((time.time() + 60) * 1000))
    assert [sorted(run.left) for run in runs] == [[FIRST], sorted(THREE)]


def test_what_ends_while_other_runs_go_on_is_told_together_within_a_minute(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)
    for key in sorted(str(key) for key in PARTITIONS.get_partition_keys())[:6]:
        pipeline.run({key}, first=key, last=key)
    going_on = dg.DagsterRun(job_name="other", status=dg.DagsterRunStatus.STARTED)
    pipeline.instance.add_run(going_on)
    assert pipeline.tick(later_s=GATHER_S / 2).new == 0
    assert pipeline.tick(later_s=GATHER_S * 2).new == 1
    assert hook.titles == ["ERROR linear_60: 6 partitions failed"]
    pipeline.run()
    pipeline.instance.delete_run(going_on.run_id)
    assert pipeline.tick(later_s=GATHER_S / 2).new == 3


def test_runs_of_assets_that_are_not_ours_are_nobodys_business(make: Make, hook: Webhook) -> None:
    pipeline = make(hook.url)

    @dg.asset
    def theirs() -> None:
        raise dg.Failure("of somebody else", allow_retries=False)

    dg.materialize([theirs], instance=pipeline.instance, raise_on_error=False)
    assert pipeline.tick().new == 0
    assert pipeline.episodes() == []


def test_runs_are_read_in_pieces_when_there_are_many(make: Make) -> None:
    pipeline = make()
    expected = [pipeline.run({FIRST}), pipeline.run(), pipeline.run({FIRST})]
    now_ms, after, found = round((time.time() + 60) * 1000), None, []
    for _ in expected:
        runs, after = read_finished(pipeline.instance, after, now_ms=now_ms, seconds=0)
        found += [run.run_id for run in runs]
    assert found == expected
    assert read_finished(pipeline.instance, after, now_ms=now_ms) == ([], after)


def test_without_a_target_the_tick_says_so_and_follows_what_fails(make: Make) -> None:
    pipeline = make()
    pipeline.run({FIRST})
    assert pipeline.tick().sentence.startswith("1 new alerts were sent to nobody: KLINE_ALERT_URLS names no target")
    assert pipeline.episodes() == [("linear/60/candles", FIRST, "no_gaps")]


def test_a_url_that_is_none_makes_the_tick_red_and_the_others_are_served(make: Make, hook: Webhook) -> None:
    pipeline = make("tgram://my_secret", hook.url)
    pipeline.run({FIRST})
    with pytest.raises(AlertsNotDelivered, match="URL 1 begins with tgram://") as raised:
        pipeline.tick()
    assert "my_secret" not in str(raised.value)
    assert len(hook.payloads) == 1


def test_the_sensor_runs_by_default_and_its_tick_says_what_it_did(
    make: Make, hook: Webhook, tell_environment: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (sensor,) = alert_sensors([HOURLY])
    assert (sensor.name, sensor.default_status) == ("alerts", dg.DefaultSensorStatus.RUNNING)
    tell_environment("http://127.0.0.1:1")
    monkeypatch.setenv("KLINE_ALERT_URLS", hook.url)
    with dg.build_sensor_context(instance=make().instance) as context:
        assert sensor.evaluate_tick(context).skip_message == "0 new alerts; 0 delivered, 0 waiting"
