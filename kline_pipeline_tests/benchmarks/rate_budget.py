"""Prints how much of the configured rate many processes get out of the request budget, and that it is never exceeded.

Run: python kline_pipeline_tests/benchmarks/rate_budget.py [--processes 8] [--threads 16] [--seconds 20]. For the file
and the database, at 50 and at 110 requests per second: bare processes, nothing but grants, each stamped by its process
when it came. One process is killed half way. Share of the rate, busiest sliding second and 5 s, grants per process.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.ratelimit import Budget
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.database.rate_budget import DatabaseBudget
from kline_pipeline_tests.benchmarks.world import settings_of

RATES = (50, 110)
SECOND_NS = 1_000_000_000


def budget_in(place: str, rate: float) -> Budget:
    """Open the budget of a worker: `place` is a path or the URL of a database."""
    if "://" in place:
        return DatabaseBudget(Database(make_url(place), None), f"benchmark-{rate}", rate)
    return FileBudget(Path(place), rate)


def work(place: str, rate: float, threads: int, stamps: Path) -> None:
    """Take grants when told until when; each is written down at once, as this process may be killed."""
    budget = budget_in(place, rate)
    descriptor = os.open(stamps, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    print("ready", flush=True)
    end_ns = int(sys.stdin.readline())

    def take() -> None:
        while time.time_ns() < end_ns:
            budget.acquire(60)
            os.write(descriptor, b"%d\n" % time.time_ns())

    running = [threading.Thread(target=take) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def busiest(times_ns: list[int], span_s: int) -> int:
    """Return the most grants in any half-open span."""
    return max(bisect_left(times_ns, start + span_s * SECOND_NS) - at for at, start in enumerate(times_ns))


def measure(name: str, place: str, rate: float, options: argparse.Namespace) -> None:
    """Run the processes, kill the first one half way, and print a line."""
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(options.processes)]
        command = [sys.executable, __file__, "--worker", place, str(rate), str(options.threads)]
        programs = [subprocess.Popen([*command, str(file)], stdin=pipe, stdout=pipe, text=True) for file in files]
        for program in programs:
            assert program.stdout is not None
            program.stdout.readline()
        end_ns = time.time_ns() + options.seconds * SECOND_NS
        for program in programs:
            assert program.stdin is not None
            program.stdin.write(f"{end_ns}\n")
            program.stdin.flush()
        time.sleep(options.seconds / 2)
        programs[0].send_signal(signal.SIGKILL)
        for program in programs:
            program.communicate()
        grants = [[int(line) for line in file.read_text().split()] for file in files]
    times_ns = sorted(when for of_one in grants for when in of_one if when < end_ns)
    lived = [len(of_one) for of_one in grants[1:]]
    got = len(times_ns) / options.seconds / rate
    print(
        f"{name:9}{rate:>4}/s: {got:6.1%} of the rate, busiest 1 s {busiest(times_ns, 1):>4}, busiest 5 s "
        f"{busiest(times_ns, 5):>4}, per process {min(lived)}..{max(lived)} (killed half way: {len(grants[0])})",
        flush=True,
    )


@contextlib.contextmanager
def database_url() -> Iterator[str]:
    """Give the URL of a migrated database in a server of its own."""
    with tempfile.TemporaryDirectory() as home:
        database = connect(settings_of(Path(home)))
        yield database.url.render_as_string(hide_password=False)
        database.close()
        EmbeddedServer(Path(home)).destroy()


def main() -> None:
    """Measure both forms at both rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            measure("file", str(Path(folder, "budget")), rate, options)
    with database_url() as url:
        for rate in RATES:
            measure("database", url, rate, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        where, wanted, width, kept = sys.argv[2:]
        work(where, float(wanted), int(width), Path(kept))
    else:
        main()
