"""The outermost edge and the words of the command line; what needs an exchange is in test_cli_commands."""

import json
import logging
import subprocess
import sys
from datetime import date

import pytest

from kline_pipeline import cli
from kline_pipeline.cli.ranges import select
from kline_pipeline.cli.summary import Line, told_failures, told_known
from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.errors import UsageError
from kline_pipeline.log.lines import configure
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.times import check_order, end_of, start_of
from kline_pipeline.market.window import Window
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
MONTHLY = Dataset("linear", Interval("1"), date(2024, 1, 1), "month", ("BTCUSDT",))
COMMANDS = (
    "up", "demo", "series add", "series list", "series remove", "backfill", "fetch", "coverage", "rebuild",
    "simulate", "db upgrade", "db current", "db shell", "db stop", "latest", "cache stats", "cache clear", "doctor",
    "verify", "repair", "serve",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    assert f"Example: kline-pipeline {command}" in " ".join(capsys.readouterr().out.split())


def test_known_gaps_are_named_apart_from_failures() -> None:
    key, month = "linear:BTCUSDT:60", date(2024, 2, 1)
    whole = Line(key, date(2024, 1, 1), 744, 744, 0, "landed")
    known = Line(key, month, 696, 693, 0, "landed", known=3)
    assert told_known([whole]) == []
    assert told_known([whole, known]) == [f"{key} has known gaps, let in with their evidence: 2024-02-01 (3)"]
    assert told_failures([whole, known]) == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kline_pipeline import cli; cli.run(['--help']); "
        "print([n for n in ('dagster', 'pyarrow', 'numpy', 'sqlalchemy', 'httpx', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["backfill", "linear:BTCUSDT:7"], "interval '7'"),
        (["backfill", "linear:BTCUSDT"], "category:symbol:interval"),
        (["backfill", "swap:BTCUSDT:1"], "category 'swap'"),
        (["backfill", "linear:BTCUSDT:1", "--from", "2024-02-01", "--to", "2024-01-01"], "not before"),
        (["backfill", "linear:BTCUSDT:1", "--from", "soon"], "no time"),
        (["fetch", "linear:BTCUSDT:1", "--from", "2024-02-01", "--to", "2024-02-01", "-o", "x.txt"], ".parquet"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    monkeypatch.setenv("KLINE_HOME", str(tmp_path))
    # Nothing answers there: what is wrong by itself is told without asking anybody.
    monkeypatch.setenv("BYBIT_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BYBIT_RETRY_MAX_ATTEMPTS", "1")
    if arguments[-1] != "soon":
        assert cli.run(arguments) == 2
        output = capsys.readouterr()
        assert told in output.err
        assert output.err.count("\n") == 1
        assert output.out == ""
    else:
        with pytest.raises(UsageError, match=told):
            check_order("soon", None)


def test_a_defect_of_ours_is_one_sentence_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLINE_HOME", "/dev/null/impossible")
    assert cli.run(["db", "stop"]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_a_plain_date_is_the_last_day_and_a_moment_is_exclusive() -> None:
    assert end_of("2024-01-31", NOW_MS) == ms("2024-02-01 00:00:00")
    assert end_of("2024-01-31T12:00", NOW_MS) == ms("2024-01-31 12:00:00")
    assert end_of("2024-01-31T12:00+02:00", NOW_MS) == ms("2024-01-31 10:00:00")
    assert start_of("2024-01-31", NOW_MS) == ms("2024-01-31 00:00:00")


def test_today_ends_now_and_tomorrow_is_refused() -> None:
    assert end_of("2024-04-10", NOW_MS) == NOW_MS
    for text in ("2024-04-11", "2024-04-10T12:35"):
        with pytest.raises(UsageError, match="future"):
            end_of(text, NOW_MS)
        with pytest.raises(UsageError, match="future"):
            start_of(text, NOW_MS)


def test_one_day_is_a_range_and_one_moment_is_none() -> None:
    check_order("2024-01-01", "2024-01-01")
    check_order("2024-01-01T12:00", "2024-01-01")
    with pytest.raises(UsageError):
        check_order("2024-01-01T12:00", "2024-01-01T12:00")
    with pytest.raises(UsageError):
        check_order("2024-01-02", "2024-01-01")


def test_a_range_is_widened_to_whole_partitions_and_says_so() -> None:
    first = {"BTCUSDT": ms("2020-03-25 10:00:00")}
    selection, told = select(MONTHLY, ("BTCUSDT",), first, start="2024-01-05", end="2024-02-10", now_ms=NOW_MS)
    assert selection.dates == (date(2024, 1, 1), date(2024, 2, 1))
    assert selection.window == Window(ms("2024-01-01 00:00:00"), ms("2024-03-01 00:00:00"))
    assert "widened" in told
    _, told = select(MONTHLY, ("BTCUSDT",), first, start="2024-01-01", end="2024-01-31", now_ms=NOW_MS)
    assert told == ""
    _, told = select(MONTHLY, ("BTCUSDT",), first, start="2024-04-01", end=None, now_ms=NOW_MS)
    assert told == ""


def test_a_range_begins_with_the_first_candle_but_not_before_the_dataset() -> None:
    late, early = {"BTCUSDT": ms("2024-03-02 10:00:00")}, {"BTCUSDT": ms("2020-03-25 10:00:00")}
    selection, _ = select(MONTHLY, ("BTCUSDT",), late, start=None, end=None, now_ms=NOW_MS)
    assert selection.dates == (date(2024, 3, 1), date(2024, 4, 1))
    selection, _ = select(MONTHLY, ("BTCUSDT",), early, start=None, end=None, now_ms=NOW_MS)
    assert selection.dates[0] == date(2024, 1, 1)
    with pytest.raises(UsageError, match="start = 2023-12-01"):
        select(MONTHLY, ("BTCUSDT",), early, start="2023-12-24", end=None, now_ms=NOW_MS)


def test_a_log_line_for_machines_is_one_json_object_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure(Settings(BybitSettings(), KlineSettings(log_format="json")))
        logging.getLogger("kline_pipeline.bybit").info("asked", extra={"attempt": 2})
        logging.getLogger("another.library").info("chatter")
        output = capsys.readouterr()
    finally:
        root.handlers = before
        root.setLevel(level)
    line = json.loads(output.err)
    assert (line["event"], line["attempt"], line["level"]) == ("asked", 2, "info")
    assert output.out == ""


@pytest.mark.parametrize("text", ["20240103", "2024-W02", "2024-W02-3"])
def test_a_date_that_is_written_otherwise_is_refused_and_loses_no_day(text: str) -> None:
    with pytest.raises(UsageError, match="write 2024-01-31"):
        end_of(text, NOW_MS)
