"""Log lines: a JSON object each with the same fields, in threads too, cheap where nobody sees it, words for people."""

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kline_pipeline import cli
from kline_pipeline.bybit.side_by_side import side_by_side
from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.log.about import AboutThreads, about
from kline_pipeline.log.lines import Lines, configure
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.exchanges import NOW_MS

ALWAYS = {"timestamp", "level", "logger", "event", "pid", "host"}
SERIES, WINDOW = Series.parse("linear:BTCUSDT:1"), Window(0, 60_000)
logger = logging.getLogger("kline_pipeline.tests")


Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Read:
    """Read the lines on standard error, after they were configured as JSON from DEBUG on."""
    configure(settings(log_level="DEBUG", log_format="json"))
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def settings(**fields: Any) -> Settings:
    return Settings(BybitSettings(), KlineSettings.model_validate(fields))


def test_a_line_is_one_object_with_fields_in_a_fixed_form(lines: Read) -> None:
    with about(series=SERIES, window=WINDOW, run_id="r"):
        logger.warning("two\nlines", extra={"attempt": 2, "elapsed_ms": 1.5, "nan": float("nan")})
    (line,) = lines()
    assert set(line) >= ALWAYS
    assert (line["level"], line["logger"], line["attempt"], line["elapsed_ms"]) == ("warning", logger.name, 2, 1.5)
    assert (line["series"], line["window"], line["run_id"]) == (str(SERIES), str(WINDOW), "r")
    assert line["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("value", ["half a character \ud800", 2**80, b"bytes", {1: {2}}])
def test_what_json_does_not_know_is_told_all_the_same(value: object) -> None:
    line = Lines("json").format(logging.makeLogRecord({"msg": "x", "value": value}))
    assert "value" in json.loads(line)
    assert line.isascii() or line.encode()


def test_a_field_of_a_call_comes_before_that_of_the_work_at_hand_and_takes_the_place_of_no_other(
    lines: Read,
) -> None:
    with about(series=SERIES):
        with about(series="inner", run_id="r"):
            logger.info("one", extra={"run_id": "of the call", "level": "loud", "timestamp": 0})
        logger.info("two")
    one, two = lines()
    assert (one["series"], one["run_id"], one["level"]) == ("inner", "of the call", "info")
    assert one["timestamp"] != 0
    assert two["series"] == str(SERIES)
    assert "run_id" not in two


def test_threads_tell_what_they_work_for(lines: Read) -> None:
    with about(series=SERIES), AboutThreads(2) as threads:
        list(threads.map(lambda number: logger.info("mapped", extra={"number": number}), range(4)))
        threads.submit(logger.info, "submitted").result()
        side_by_side(lambda number: logger.info("beside", extra={"number": number}), range(3), 2)
    told = lines()
    assert len(told) == 8
    assert {line["series"] for line in told} == {str(SERIES)}


def test_what_one_thread_works_on_is_not_told_of_another(lines: Read) -> None:
    turn = threading.Barrier(2)

    def work(number: int) -> None:
        with about(series=number):
            turn.wait()
            logger.info("at work", extra={"number": number})
            turn.wait()

    with AboutThreads(2) as threads:
        list(threads.map(work, range(2)))
    assert {(line["series"], line["number"]) for line in lines()} == {(0, 0), (1, 1)}


def test_a_line_that_nobody_sees_is_not_put_together() -> None:
    class Dear:
        def __str__(self) -> str:
            raise AssertionError

    configure(settings(log_level="INFO", log_format="json"))
    with about(series=Dear()):
        logger.debug("%s", Dear(), extra={"window": Dear()})


def test_other_libraries_are_heard_from_warning_on_and_in_the_same_form(lines: Read) -> None:
    logging.getLogger("httpx").info("chatter")
    logging.getLogger("sqlalchemy.pool").error("no connection", extra={"pool": object()})
    (line,) = lines()
    assert set(line) >= ALWAYS
    assert line["level"] == "error"


def test_an_error_is_told_with_its_traceback_in_one_line(lines: Read) -> None:
    try:
        raise ValueError("three rows")
    except ValueError:
        logger.exception("failed")
    (line,) = lines()
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: three rows")


def test_configured_twice_a_line_comes_once_and_handlers_of_others_stay(lines: Read) -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    configure(settings(log_level="INFO", log_format="json"))
    logger.info("once")
    assert len(lines()) == 1
    assert other in logging.getLogger().handlers


def test_people_get_words_and_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(log_format="console"))
    with about(series=SERIES):
        logger.info("derived", extra={"rows": 3})
    told = capsys.readouterr().err
    assert str(SERIES) in told
    assert "{" not in told


def commands(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> None:
    monkeypatch.setenv("KLINE_HOME", str(home))
    monkeypatch.setenv("BYBIT_BASE_URL", url)
    monkeypatch.setenv("BYBIT_RETRY_INITIAL_DELAY_S", "0")
    monkeypatch.setenv("KLINE_LOG_LEVEL", "DEBUG")
    for name in ("KLINE_WORK_URL", "KLINE_SNAPSHOT_URL", "KLINE_DATASETS_FILE", "KLINE_DATABASE_URL", "KLINE_LOG_FILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_every_line_of_a_command_parses_and_those_of_pages_say_which_try_took_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9)
    exchange.faults.replace([{"http": {"status": 503, "path": "kline", "interval": "1", "nth": 2}}])
    with SimulatorServer(exchange) as server:
        commands(monkeypatch, tmp_path, server.url)
        monkeypatch.setenv("KLINE_LOG_FILE", str(tmp_path / "logs" / "kline.log"))
        ask = ["fetch", str(SERIES), "--from", "2024-03-01", "--to", "2024-03-03", "-o", str(tmp_path / "x.csv")]
        assert cli.run(ask) == 0
        assert cli.run(ask) == 0
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.err.splitlines() if line.startswith("{")]
    assert all(set(line) >= ALWAYS for line in lines)
    pages = [line for line in lines if line.get("kind") == "kline" and line.get("series") == str(SERIES)]
    tries = [(line["outcome"], line["attempt"]) for line in pages]
    assert set(tries) == {("ServerBusy", 1), ("ok", 1), ("ok", 2)}
    assert tries.count(("ServerBusy", 1)) == tries.count(("ok", 2)) == 1
    assert all(line["window"].startswith("[2024-0") and line["elapsed_ms"] > 0 for line in pages)
    retried = [line for line in lines if line["level"] == "warning"]
    assert [(line["series"], line["attempt"], "elapsed_ms" in line) for line in retried] == [(str(SERIES), 1, True)]
    kept = [line for line in lines if line.get("outcome") in {"hit", "miss"}]
    assert {(line["outcome"], line["series"], "elapsed_ms" in line) for line in kept} == {
        ("hit", str(SERIES), True),
        ("miss", str(SERIES), True),
    }
    filed = [json.loads(line) for line in (tmp_path / "logs" / "kline.log").read_text().splitlines()]
    assert sorted(map(str, filed)) == sorted(map(str, lines))  # threads take their turns anew at each handler


def test_the_sentence_of_an_error_is_for_people_and_its_traceback_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(monkeypatch, tmp_path, "http://127.0.0.1:9")
    monkeypatch.setenv("BYBIT_RETRY_MAX_ATTEMPTS", "1")
    assert cli.run(["latest", str(SERIES), "--count", "1"]) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    traced = [line for line in map(json.loads, lines) if "exception" in line]
    assert len(traced) == 1
    assert set(traced[0]) >= ALWAYS


@pytest.mark.parametrize("path", ["", "file/kline.log", "/dev/null"])
def test_a_log_file_that_cannot_be_written_is_one_sentence_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    (tmp_path / "file").write_text("")
    commands(monkeypatch, tmp_path / "home", "http://127.0.0.1:9")
    monkeypatch.setenv("KLINE_LOG_FILE", str(tmp_path / path))
    assert cli.run(["coverage"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert "KLINE_LOG_FILE" in output.err
    assert not (tmp_path / "home").exists()
