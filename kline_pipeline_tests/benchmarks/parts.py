"""What can be measured, by name: each part measures and gives its lines to the report."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kline_pipeline_tests.benchmarks.measuring import WAYS, by_core, check, measure
from kline_pipeline_tests.benchmarks.processes import told_by
from kline_pipeline_tests.benchmarks.report import Report
from kline_pipeline_tests.benchmarks.results import (
    TO_FLOORS,
    Figures,
    Line,
    again_to_first,
    grown_to_year,
    within_runs,
)
from kline_pipeline_tests.benchmarks.works import BTC, WORKS
from kline_pipeline_tests.benchmarks.world import RATE, world
from kline_pipeline_tests.programs import command, environment

Part = Callable[[Report, int], None]
_STARTS: Final = 5


def _work(name: str) -> Part:
    def run(report: Report, repeat: int) -> None:
        for way in WAYS:
            runs = [measure(WORKS[name], way)[0] for _ in range(repeat)]
            report.add(Line(name, way, runs, within_runs(runs, TO_FLOORS)))

    return run


def _year(report: Report, repeat: int) -> None:
    for way in WAYS:
        pairs = [measure(WORKS["W2"], way, again=True) for _ in range(repeat)]
        first, again = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        report.add(Line("W2", way, first, within_runs(first, TO_FLOORS)))
        report.add(Line("W5", way, again, within_runs(again, TO_FLOORS) | again_to_first(again, first)))


def _growth(report: Report, repeat: int) -> None:
    if ("W2", "core") not in report.lines:
        _work("W2")(report, repeat)
    for way in WAYS:
        runs = [measure(WORKS["growth"], way)[0] for _ in range(repeat)]
        grown = grown_to_year(Line("growth", way, runs).medians, report.lines["W2", way].medians)
        report.add(Line("growth", way, runs, within_runs(runs, TO_FLOORS) | grown))


def _read(report: Report, repeat: int) -> None:
    found: dict[str, list[Figures]] = {"snapshots": [], "postgres": []}
    work = WORKS["W2"]
    for _ in range(repeat):
        with world() as here:
            check(here, work, by_core(here, work))
            for source, runs in found.items():
                told = told_by("reading", source, *work.keys, work.start, work.end, env=here.env)
                runs.append({**told, "refused": here.refused()})
    for source, runs in found.items():
        report.add(Line("W6", source, runs, within_runs(runs, {"median_to_plain": ("median_s", "plain_s")})))


def _start(report: Report, repeat: int) -> None:
    programs = {
        "python": [sys.executable, "-c", "pass"],
        "import typer": [sys.executable, "-c", "import typer"],
        "--help": command("--help"),
        "--version": command("--version"),
    }
    found: dict[str, list[Figures]] = {}
    with TemporaryDirectory() as folder:
        env = environment(Path(folder))
        for _ in range(repeat * _STARTS):
            for way, words in programs.items():
                began = time.perf_counter()
                done = subprocess.run(words, env=env, capture_output=True, check=False)
                wall_s = time.perf_counter() - began
                if done.returncode == 0:
                    found.setdefault(way, []).append({"wall_s": wall_s})
                elif way != "--version":  # which there need not be
                    raise SystemExit(f"{' '.join(words)} failed: {done.stderr.decode()}")
    floors = {"to_python": "python", "to_typer": "import typer"}
    medians = {way: Line("start", way, runs).medians["wall_s"] for way, runs in found.items()}
    for way, runs in found.items():
        report.add(Line("start", way, runs, {to: medians[way] / medians[floor] for to, floor in floors.items()}))


def _stream(report: Report, repeat: int) -> None:
    for way, rate, start in (("paced", RATE, "2022-01-01"), ("unpaced", 0, "2023-01-01")):
        runs = []
        for _ in range(repeat):
            told = told_by("streaming", str(rate), start, "2023-12-31", BTC)
            wall_s = told["wall_s"]
            told["candles_per_s"] = told["candles"] / wall_s
            told["cores"] = (told["own_cpu_s"] + told["postgres_cpu_s"]) / wall_s
            runs.append(told | ({"share_of_pace": told["pages"] / wall_s / rate} if rate else {}))
        report.add(Line("stream", way, runs))


def _fetch(report: Report, repeat: int) -> None:
    work, runs = WORKS["W2"], []
    for _ in range(repeat):
        with world() as here:
            began = time.perf_counter()
            told = told_by("work_floors", work.name, "fetched", env=here.env)
            wall_s, refused = time.perf_counter() - began, here.refused()
        figures = {"pages": told["pages"], "wall_s": wall_s, "inside_s": told["fetched_s"]}
        runs.append({**figures, "floor_computed_s": work.floor_s, "refused": refused})
    pairs = {"wall_to_computed": TO_FLOORS["wall_to_computed"], "inside_to_computed": ("inside_s", "floor_computed_s")}
    ratios = within_runs(runs, pairs)
    report.add(Line("fetch", "alone", runs, ratios))


def _decode(report: Report, repeat: int) -> None:
    found = [told_by("decoding") for _ in range(repeat)]
    for way in found[0]:
        runs = [{"cpu_ms_per_page": one[way], "orjson_cpu_ms_per_page": one["orjson"]} for one in found]
        pairs = {"to_orjson": ("cpu_ms_per_page", "orjson_cpu_ms_per_page")}
        report.add(Line("decode", way, runs, within_runs(runs, pairs)))


def _store(report: Report, repeat: int) -> None:
    found = [told_by("storing") for _ in range(repeat)]
    for way in found[0]:
        runs = [one[way] for one in found]
        floor = "plain_parquet_s" if way == "snapshots" else "copy_s"
        ratio = "wall_to_parquet" if way == "snapshots" else "wall_to_copy"
        report.add(Line("store", way, runs, within_runs(runs, {ratio: ("wall_s", floor)})))


# W2 before growth, which is compared with it.
PARTS: Final[dict[str, Part]] = {
    "start": _start,
    "W1": _work("W1"),
    "W2": _year,
    "W3": _work("W3"),
    "W4": _work("W4"),
    "W6": _read,
    "growth": _growth,
    "stream": _stream,
    "fetch": _fetch,
    "decode": _decode,
    "store": _store,
}
