"""`demo` from nothing, once more, and afresh; a KLINE_DATABASE_URL that is set is left alone."""

from pathlib import Path

import pytest

from kline_pipeline.cli.demo import forget
from kline_pipeline_tests.programs import environment, run

pytestmark = pytest.mark.timeout(600)
SERIES = ("linear:BTCUSDT:1", "linear:ETHUSDT:1", "linear:BTCUSDT:60", "spot:BTCUSDT:15")


def files(home: Path, folder: str) -> dict[Path, tuple[int, int]]:
    paths = (home / "simulated" / folder).rglob("*.parquet")
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_demo_lands_two_months_resumes_and_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    # Nothing listens there.
    env = environment(home, KLINE_DATABASE_URL="postgresql://somebody:geheim@127.0.0.1:1/elsewhere", COLUMNS="200")

    first = run(env, "demo")

    assert first.returncode == 0, first.stderr
    assert "KLINE_DATABASE_URL is left alone" in first.stderr
    assert "geheim" not in first.stdout + first.stderr
    rows = [line.split() for line in first.stdout.splitlines() if line.split()[:1] and line.split()[0] in SERIES]
    closing = [row for row in rows if len(row) > 1]
    assert [row[0] for row in closing] == list(SERIES)
    assert {(row[-2], row[-1]) for row in closing} == {("0", "landed")}
    assert str(home / "simulated" / "snapshots") in first.stdout
    assert [path.name for path in home.iterdir()] == ["simulated"]
    assert len(files(home, "snapshots")) == 8
    assert not (home / "simulated" / "simulator.json").exists()

    raw, snapshots = files(home, "work/raw"), files(home, "snapshots")
    second = run(env, "demo")

    assert second.returncode == 0, second.stderr
    assert raw.items() <= files(home, "work/raw").items()
    unchanged = set(snapshots.items()) & set(files(home, "snapshots").items())
    assert len(unchanged) >= 4  # the closed month of each; candles of the open one may have closed since

    (home / "of_mine.txt").write_text("kept")
    monkeypatch.setenv("KLINE_HOME", str(home))
    forget()  # what --fresh begins with

    assert [path.name for path in home.iterdir()] == ["of_mine.txt"]
