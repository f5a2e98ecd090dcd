"""`cache stats` and `cache clear`: on whatever the cache holds, without an exchange."""

import json
import time
from pathlib import Path

import pytest

from kline_pipeline import cli
from kline_pipeline.bybit.cache.page_cache import open_cache
from kline_pipeline.bybit.pages import Page
from kline_pipeline.market.schema import empty_candles
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window

WINDOW = Window(1_712_534_400_000, 1_712_534_460_000)
SERIES = [Series.parse(f"{category}:BTCUSDT:1") for category in ("linear", "spot")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KLINE_HOME whose exchange nobody answers for."""
    monkeypatch.setenv("KLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BYBIT_BASE_URL", "http://127.0.0.1:1")
    return tmp_path / "home"


def fill(folder: Path) -> None:
    """Keep two pages and a note, one hit and two misses."""
    now_ms = time.time_ns() // 1_000_000
    cache = open_cache(f"file:{folder}", venue="bybit", ttl_days=7, max_mb=1, clock_ms=lambda: now_ms)
    assert cache is not None
    with cache:
        for series in SERIES:
            cache.page(series, WINDOW)
            cache.keep(
                Page(
                    series=series,
                    window=WINDOW,
                    server_time_ms=1,
                    receive_time_ms=1,
                    host="h",
                    rows=empty_candles(),
                    clipped=0,
                )
            )
        cache.page(SERIES[0], WINDOW)
        cache.keep_note("lives/linear/BTCUSDT", b"x")


def stats(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    capsys.readouterr()
    assert cli.run([*options, "cache", "stats", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_stats_tell_what_earlier_commands_left(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(home / "cache")
    found = stats(capsys)
    assert (found["entries"], found["hits"], found["misses"], found["venue"]) == (3, 1, 2, "bybit")
    assert cli.run(["cache", "stats"]) == 0
    told = capsys.readouterr().out
    assert all(text in told for text in ("bybit", str(home / "cache"), "3 in", "1 of 3 pages asked for (33%)"))


def test_clear_takes_a_pattern_or_all(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(home / "cache")
    assert cli.run(["cache", "clear", "spot:*"]) == 0
    assert capsys.readouterr().out.startswith("1 entry removed")
    assert cli.run(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("2 entries removed")
    assert stats(capsys)["entries"] == 0


def test_a_cache_that_was_never_used_is_empty_and_is_not_made(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cache", "stats"]) == 0
    assert cli.run(["cache", "clear"]) == 0
    assert stats(capsys)["entries"] == 0
    assert not home.exists()


def test_simulated_pages_have_a_cache_of_their_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BYBIT_CACHE_URL", f"file:{tmp_path}/real")
    fill(tmp_path / "real")
    fill(home / "simulated/cache")
    assert cli.run(["--simulate", "cache", "clear"]) == 0
    assert stats(capsys, "--simulate")["entries"] == 0
    assert stats(capsys)["entries"] == 3


def test_without_a_cache_both_say_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BYBIT_CACHE_URL", "none")
    for arguments in (["stats"], ["clear"]):
        assert cli.run(["cache", *arguments]) == 0
        assert "no cache" in capsys.readouterr().out
    assert cli.run(["cache", "stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is None


def test_a_redis_out_of_reach_is_an_error_that_does_not_show_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BYBIT_CACHE_URL", "redis://:hunter2@127.0.0.1:1/0")
    for arguments in (["stats"], ["clear"]):
        assert cli.run(["cache", *arguments]) == 1
        told = capsys.readouterr().err
        assert "redis://127.0.0.1:1/0" in told
        assert "hunter2" not in told


@pytest.mark.parametrize("command", ["stats", "clear"])
def test_each_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cache", command, "--help"]) == 0
    assert f"Example: kline-pipeline cache {command}" in " ".join(capsys.readouterr().out.split())
