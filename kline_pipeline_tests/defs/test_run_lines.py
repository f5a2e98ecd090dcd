"""Log lines inside Dagster: they have the run, and its event log gets few of them and no secret."""

import json
import logging
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.assets import dataset_assets
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.ranges import plan_runs
from kline_pipeline.defs.resources import resources
from kline_pipeline.defs.run_lines import RUN_LOGGER, ToRun, prepare, run_lines, step_lines, tick_lines
from kline_pipeline.defs.runs import execute_runs
from kline_pipeline.defs.symbols import sync_symbols
from kline_pipeline.log.redaction import HIDDEN
from kline_pipeline.market.interval import Interval
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline_tests.defs.conftest import WorldOf

HOURLY = Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("BTCUSDT",))
DECLARED = '[[dataset]]\ncategory = "linear"\ninterval = "60"\nstart = 2024-01-01\nsymbols = ["BTCUSDT"]\n'
JANUARY, MARCH = date(2024, 1, 1), date(2024, 3, 1)
SERIES = "linear:BTCUSDT:60"
SECRET = "secret-Of-36-Characters-0123456789ab"
KNOWN = {"series", "window", "run_id", "elapsed_ms"}


@pytest.fixture
def world(
    world_of: WorldOf, settings: Settings, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings that every process finds in the environment, with a file for log lines from DEBUG on."""
    monkeypatch.setenv("KLINE_LOG_FILE", str(settings.home / "logs" / "kline.log"))
    monkeypatch.setenv("KLINE_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("BYBIT_RETRY_INITIAL_DELAY_S", "0")
    with world_of(exchange, DECLARED) as made:
        yield made


@pytest.fixture
def instance(world: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(world) as opened:
        sync_symbols(opened, datasets.load(world.datasets_file)[0])
        yield opened


def lines_of(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text().splitlines()]


def stored(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Return the messages that the event log of a run has besides Dagster's own events."""
    return [entry.user_message for entry in instance.all_logs(run_id) if not entry.is_dagster_event]


def test_every_line_of_a_worker_has_the_run_and_those_of_partitions_the_series(
    world: Settings, instance: dg.DagsterInstance, exchange: Exchange
) -> None:
    exchange.faults.replace([{"http": {"status": 503, "path": "kline", "interval": "60", "nth": 2}}])
    runs = plan_runs(HOURLY, [JANUARY, MARCH], ["BTCUSDT"], known=["BTCUSDT"])
    outcomes = execute_runs(world, runs, on_progress=lambda _: None, workers=1)
    assert [outcome.status for outcome in outcomes] == ["success"] * len(runs)
    ids = {outcome.run_id for outcome in outcomes}
    lines = lines_of(world.log_file)
    assert {line.get("run_id") for line in lines} == ids
    worked = [line for line in lines if line["logger"].startswith("kline_pipeline.stages.")]
    assert len(worked) == 2 * (1 + len(HOURLY.sinks))
    pages = [line for line in lines if line.get("kind") == "kline" and line.get("series") == SERIES]
    assert len(pages) >= 3
    assert all(set(line) >= KNOWN and line["series"] == SERIES for line in [*worked, *pages])
    assert {line["attempt"] for line in pages} == {1, 2}
    for run_id in ids:
        own = [line for line in lines if line["run_id"] == run_id]
        assert own[0]["logger"] == own[-1]["logger"] == "kline_pipeline.defs.run_lines"
        assert own[-1]["elapsed_ms"] > 0
    printed = lines_of(world.home / "dagster" / "workers.log")
    assert sorted(map(str, printed)) == sorted(map(str, lines))  # and nothing else is in the file


def test_the_event_log_gets_warnings_with_their_fields_and_of_our_other_lines_none(
    world: Settings, instance: dg.DagsterInstance, exchange: Exchange
) -> None:
    exchange.faults.replace([{"http": {"status": 503, "path": "kline", "interval": "60", "nth": 1}}])
    (outcome,) = execute_runs(
        world,
        plan_runs(HOURLY, [JANUARY], ["BTCUSDT"], known=["BTCUSDT"]),
        on_progress=lambda _: None,
        workers=1,
    )
    told = stored(instance, outcome.run_id)
    warnings = [one for one in told if "attempt=1" in one]
    assert len(warnings) == 1
    assert f"series={SERIES}" in warnings[0]
    marks = [one for one in told if one.split()[0] in {"PROGRESS", "FETCHED"}]
    assert len(told) == len(marks) + 1


def test_a_storm_of_warnings_is_stored_in_part_and_what_is_left_out_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: got.append(record.getMessage())  # type: ignore[method-assign]
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    to_run = ToRun()
    logging.getLogger(RUN_LOGGER).addHandler(handler)
    try:
        for number in range(100):
            to_run.handle(logging.makeLogRecord({"name": "kline_pipeline.x", "levelno": 30, "msg": f"no {number}"}))
        assert len(got) == 30
        now_s = 61.0
        to_run.handle(logging.makeLogRecord({"name": "kline_pipeline.x", "levelno": 30, "msg": "late"}))
    finally:
        logging.getLogger(RUN_LOGGER).removeHandler(handler)
    assert len(got) == 31
    assert "70" in got[-1]


def test_a_run_that_dagster_launches_has_its_lines_begin_and_end_with_it(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    result = dg.materialize(
        dataset_assets(HOURLY), instance=instance, resources=resources(), partition_key="2024-01-01|BTCUSDT"
    )
    assert result.success
    lines = [line for line in lines_of(world.log_file) if line["logger"].startswith("kline_pipeline.")]
    own = [line for line in lines if "run_id" in line]
    assert {line["run_id"] for line in own} == {result.run_id}
    assert own[0]["partitions"] == "2024-01-01|BTCUSDT"
    assert own[-1]["elapsed_ms"] > 0
    steps = {line["asset"] for line in own if line["logger"] == "kline_pipeline.defs.run_lines" and "asset" in line}
    assert steps == {f"linear/60/{name}" for name in ("raw_batches", "candles", "candles_postgres", "candles_parquet")}


def test_a_tick_has_its_name_on_every_line_and_its_error_is_told(world: Settings) -> None:
    with tick_lines("follow_linear_60"):
        logging.getLogger("kline_pipeline.x").info("looked")
    with pytest.raises(OSError, match="gone"), tick_lines("alerts"):
        raise OSError("gone")
    lines = lines_of(world.log_file)
    assert [line["tick"] for line in lines] == ["follow_linear_60"] * 2 + ["alerts"]
    assert lines[-1]["level"] == "error"
    assert "OSError: gone" in lines[-1]["exception"]


@pytest.mark.parametrize(
    "block", [lambda: tick_lines("alerts"), lambda: step_lines("r", "linear/60/candles")], ids=["tick", "step"]
)
def test_an_error_that_dagster_stores_holds_no_secret(
    world: Settings, monkeypatch: pytest.MonkeyPatch, block: Any
) -> None:
    monkeypatch.setenv("BYBIT_API_KEY", "a-key-of-18-chars-")
    monkeypatch.setenv("BYBIT_API_SECRET", SECRET)
    prepare(Settings.load())
    with pytest.raises(Exception, match="refused") as caught, block():
        refuse()
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told
    assert HIDDEN in told
    assert "RuntimeError" in told
    assert "KeyError" in told


def refuse() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as exc:
        raise RuntimeError(f"refused: {SECRET}") from exc


def test_the_event_log_never_holds_a_secret_that_a_line_of_anybody_told(
    world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYBIT_API_KEY", "a-key-of-18-chars-")
    monkeypatch.setenv("BYBIT_API_SECRET", SECRET)
    prepare(Settings.load())

    @dg.op
    def tell(context: dg.OpExecutionContext) -> None:
        context.log.info("told %s", SECRET)
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("kline_pipeline.x").exception("failed with %s", SECRET, extra={"series": SERIES})

    @dg.job(executor_def=dg.in_process_executor)
    def job() -> None:
        tell()

    with open_instance(Settings.load()) as instance:
        result = job.execute_in_process(instance=instance)
        entries = instance.all_logs(result.run_id)
    told = [entry.user_message for entry in entries if not entry.is_dagster_event]
    assert len(told) == 2
    assert SECRET not in "".join(map(str, entries))
    assert sum(f"series={SERIES}" in one for one in told) == 1


def test_a_run_inside_its_own_lines_does_not_begin_twice(world: Settings) -> None:
    prepare(world)
    with run_lines("r"), run_lines("r"):
        pass
    assert len(lines_of(world.log_file)) == 2
