"""Runs named works and prints one table and, with --json, a file: each beside its floors, measured in the same run.

Run: python -m kline_pipeline_tests.benchmarks [--only NAME ...] [--repeat 3] [--json FILE]. Let nothing else run.

  start   kline-pipeline --help, and --version where there is one; python that does nothing, and that imports typer
  W1      one month of 1m                         W2      one year of 1m; W5 the same again
  W3      3 series x one month of 1m              W4      50 series x one month of 60m
  W6      one year of 1m into pandas              growth  four years of 1m beside W2, which is measured for it
  stream  pages from memory into both sinks, at 110 a second (two years) and without a limit (one year)
  fetch   W2's pages, fetched and thrown away     decode  exact text and decimal128 beside orjson, over the same pages
  store   COPY, staged diff and snapshots against plain ones

W1 to W5 and growth run through the core and through `backfill`. Wall time is from command to exit. Figures are medians
of the runs; memory, row versions and 403 answers are those of the worst run. In brackets, and below, are ratios: of a
work to each of its floors, which were measured after it in the same world. JSON has runs, medians, ratios and targets
per work and way.

Whether a target holds is printed, and changes nothing: the exit code is 0, as the machine decides. It is 1 when a work
failed or was not complete, when the exchange answered 403, or when a floor or the row versions could not be measured.
What was measured until then is in the JSON.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from kline_pipeline_tests.benchmarks.parts import PARTS
from kline_pipeline_tests.benchmarks.report import Report
from kline_pipeline_tests.benchmarks.world import only_ours


def main() -> None:
    """Run what was asked for, in the order of PARTS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--repeat", type=_positive, default=3, help="how often each is run; default 3")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"the folder of {options.json} is not there")
    only_ours()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was measured is written then too
    about = {"machine": _machine(), "commit": _commit(), "repeat": options.repeat}
    _show(json.dumps(about))
    report = Report(_show)
    try:
        for name, part in PARTS.items():
            if name in options.only:
                part(report, options.repeat)
    finally:
        if options.json:
            options.json.write_text(json.dumps({**about, "works": report.as_json()}, indent=1))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of times: give 1 or more")
    return int(text)


def _show(text: str) -> None:
    print(text, flush=True)


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


if __name__ == "__main__":
    main()
