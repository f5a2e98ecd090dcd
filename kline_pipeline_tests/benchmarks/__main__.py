"""Runs named works and prints one table and, with --json, a file: each beside its floor, measured in the same run.

Run: python -m kline_pipeline_tests.benchmarks [--only NAME ...] [--repeat 3] [--json FILE]. Let nothing else run.

  fetch   W2's pages, fetched and thrown away     decode  orjson, exact text and decimal128 over the same pages
  W1      one month of 1m                         W2      one year of 1m; W5 the same again; W6 reads it back
  W3      3 series x one month of 1m              W4      50 series x one month of 60m
  growth  four years of 1m                        store   COPY, staged diff and snapshot against plain ones
  stream  W2's pages from memory into both sinks, at 110 a second (two years) and without a limit
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.benchmarks import floors, storing
from kline_pipeline_tests.benchmarks.works import BTC, WORKS, Measured, measure, read_back
from kline_pipeline_tests.benchmarks.world import RATE, only_ours, world

_HEAD = ("work", "way", "wall s", "floor s", "ratio", "own CPU s", "per M", "PG CPU s", "exchange", "peak MB", "403")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only_ours()
    found: dict[str, Any] = {"machine": _machine(), "commit": _commit()}
    print(json.dumps(found))
    for name in options.only:
        found[name] = _PARTS[name](options.repeat)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _fetch(repeat: int) -> list[dict[str, float]]:
    work, found = WORKS["W2"], []
    for _ in range(repeat):
        with world() as here:
            pages, wall_s = floors.fetching_alone_s(here, Series.parse(BTC), work.window)
            refused = sum("403" in outcome for kind in here.stats()["requests"].values() for outcome in kind)
        floor_s = floors.computed_s(pages)
        found.append({"pages": pages, "wall_s": wall_s, "floor_s": floor_s, "ratio": wall_s / floor_s, "403": refused})
    _line("fetch", f"{pages} pages", _median(found, "wall_s"), floor_s, f"{_median(found, 'ratio'):.2f}", refused)
    return found


def _decode(_repeat: int) -> dict[str, float]:
    with world("--requests-per-5s", "100000", latency_ms=0) as here:
        series, window = Series.parse(BTC), WORKS["W1"].window
        costs = floors.decoding(floors.bodies(here, series, Window(window.start_ms, window.end_ms)), series)
    for name, cost_s in costs.items():
        _line("decode", name, f"{cost_s * 1e3:.3f} ms/page", f"{cost_s / costs['orjson']:.2f} x orjson")
    return costs


def _store(repeat: int) -> list[dict[str, float]]:
    found = [storing.measure() for _ in range(repeat)]
    for name in found[0]:
        _line("store", name, _median(found, name))
    return found


def _stream(repeat: int) -> list[dict[str, float]]:
    lines = []
    for rate, start in ((RATE, "2022-01-01"), (0, "2023-01-01")):
        words = [sys.executable, "-m", "kline_pipeline_tests.benchmarks.streaming", str(rate), start, "2023-12-31", BTC]
        found = [json.loads(subprocess.run(words, capture_output=True, check=True).stdout) for _ in range(repeat)]
        one = sorted(found, key=lambda line: float(line["wall_s"]))[len(found) // 2]
        cores = (one["own_cpu_s"] + one["postgres_cpu_s"]) / one["wall_s"]
        paced = f"{one['pages'] / one['wall_s'] / rate:.1%} of the pace" if rate else "no limit"
        per_s = f"{one['candles'] / one['wall_s']:,.0f} candles/s"
        _line("stream", paced, one["wall_s"], per_s, f"{cores:.2f} cores", one["own_cpu_s"], one["postgres_cpu_s"])
        lines += [{"rate": rate, **line} for line in found]
    return lines


def _works(*names: str, again: bool = False) -> Callable[[int], list[dict[str, Any]]]:
    def run(repeat: int) -> list[dict[str, Any]]:
        lines: list[Measured] = []
        for way in ("core", "backfill"):
            for name in names:
                several = [measure(WORKS[name], way, again=again) for _ in range(repeat)]
                for same in zip(*several, strict=True):
                    _table(same)
                    lines += same
        return [asdict(line) for line in lines]

    return run


def _read(repeat: int) -> list[dict[str, Any]]:
    found = [read_back() for _ in range(repeat)]
    for source in found[0]:
        _line("W6", source, f"{median(one[source]['median_s'] for one in found):.3f} s", found[0][source]["rows"])
    return found


def _table(same: Iterable[Measured]) -> None:
    lines = sorted(same, key=lambda line: line.cost.wall_s)
    one = lines[len(lines) // 2]
    cost, ratio = one.cost, one.cost.wall_s / one.floor_s
    per_million = cost.own_cpu_s / one.candles * 1e6
    _line(
        one.work,
        one.way,
        *(f"{value:.2f}" for value in (cost.wall_s, one.floor_s, ratio, cost.own_cpu_s, per_million)),
        *(f"{value:.2f}" for value in (cost.postgres_cpu_s, cost.exchange_cpu_s)),
        f"{cost.peak_mb:.0f}",
        max(line.refused for line in lines),
        f"row versions {one.versions}",
    )


def _line(*cells: object) -> None:
    texts = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("  ".join(f"{text:>10}" for text in texts), flush=True)


def _median(found: list[dict[str, float]], name: str) -> float:
    return median(one[name] for one in found)


def _machine() -> dict[str, Any]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cpu": cpu.partition(": ")[2],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": os.getloadavg(),
    }


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()


# Last what fills the memory of this process: the peak of a program that is started includes that of who starts it.
_PARTS: dict[str, Callable[[int], Any]] = {
    "W1": _works("W1"),
    "W2": _works("W2", again=True),
    "W3": _works("W3"),
    "W4": _works("W4"),
    "W6": _read,
    "growth": _works("W2x4"),
    "stream": _stream,
    "fetch": _fetch,
    "decode": _decode,
    "store": _store,
}

if __name__ == "__main__":
    _line(*_HEAD)
    main()
