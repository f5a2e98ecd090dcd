"""Prints what large backfills cost, and how long Dagster's pages of them take in a browser.

Run: python kline_pipeline_tests/benchmarks/scale.py [CASE ...] [--folder FOLDER] [--no-build] [--no-pages]

Cases, each one `backfill` command in a KLINE_HOME of its own, against a simulator of its own:
  days     5 series x 365 days of 60m, grain day: 1,825 partitions
  months   the same candles, grain month
  minutes  365 days of 1m of one series
  many     100 symbols x 48 months of 720m, grain month: 4,800 partitions; ends with a run of one partition from the UI,
           which has the checks of the whole dataset too
With --folder what was built stays there, and `--no-build` times its pages again; without it, all is deleted. Pictures
go to FOLDER/pictures, or where KLINE_SCREENSHOTS says. Needed are the extra `browser`, Chromium and chromedriver. Let
nothing else run.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline_tests.benchmarks import scale_storage
from kline_pipeline_tests.benchmarks.scale_pages import Page, launch, partition_counts, time_pages
from kline_pipeline_tests.programs import environment, free_port, run, running

ASSETS = ("raw_batches", "candles", "candles_postgres", "candles_parquet")
CHECKS = ("no_gaps", "no_duplicates", "well_formed", "consistent")
FIVE = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
HUNDRED = tuple(f"SYM{number:03}USDT" for number in range(1, 101))


@dataclass(frozen=True)
class Case:
    """A dataset, all of which one command backfills.

    Attributes:
        grain: None for the default of the interval.
        start: first date.
    """

    name: str
    interval: str
    symbols: tuple[str, ...]
    grain: str | None
    start: date

    @property
    def prefix(self) -> str:
        """First parts of the keys of its assets."""
        return f"linear/{self.interval}"

    @property
    def keys(self) -> list[str]:
        """The keys of its assets."""
        return [f"{self.prefix}/{asset}" for asset in ASSETS]

    def declared(self) -> str:
        """The text of its datasets.toml. It has no schedule, so that nothing runs while pages are timed."""
        names = ", ".join(f'"{symbol}"' for symbol in self.symbols)
        grain = f'grain = "{self.grain}"\n' if self.grain else ""
        return (
            f'[[dataset]]\ncategory = "linear"\ninterval = "{self.interval}"\nstart = {self.start}\n{grain}'
            f"schedule = {{ daily = false }}\nsymbols = [{names}]\n"
        )

    def pages(self) -> list[Page]:
        """The pages that are timed: of every asset on which people look for what is wrong."""
        found = []
        for asset, checks in (("candles", CHECKS), ("candles_postgres", ("postgres_agrees",))):
            page, check = f"{self.name} {asset}", checks[0]
            path = f"/assets/{self.prefix}/{asset}?view="
            found += [
                Page(f"{page} overview", f"{path}overview", (r"\|\w+USDT", r"Latest check results\s+\d")),
                Page(f"{page} partitions", f"{path}partitions", (r"Materialized \([1-9]", r"\w+USDT")),
                Page(f"{page} checks", f"{path}checks", (*checks, r"Evaluation result\s+Passed")),
                Page(f"{page} {check}", f"{path}checks&checkDetail={check}", (r"Passed \([1-9]", r"\w+USDT"), tabs=2),
            ]
        return found


def cases(today: date) -> dict[str, Case]:
    """Return the cases by name, as they are on a day."""
    year_ago = today - timedelta(days=364)
    months = today.year * 12 + today.month - 48
    found = (
        Case("days", "60", FIVE, "day", year_ago),
        Case("months", "60", FIVE, None, year_ago.replace(day=1)),
        Case("minutes", "1", FIVE[:1], None, year_ago.replace(day=1)),
        Case("many", "720", HUNDRED, "month", date(months // 12, months % 12 + 1, 1)),
    )
    return {case.name: case for case in found}


def build(case: Case, env: Mapping[str, str]) -> None:
    """Backfill a case and print what it cost.

    Raises:
        SystemExit: the command did not end with 0.
    """
    empty = scale_storage.empty_size(env)
    began = time.monotonic()
    keys = [f"linear:{symbol}:{case.interval}" for symbol in case.symbols]
    done = run(env, "backfill", *keys, "--from", str(case.start), "--json")
    took = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{case.name}: exit {done.returncode}: {done.stderr[-2000:]}")
    cells = len(json.loads(done.stdout)["partitions"])
    print(f"{case.name}: exit 0, {cells} partitions in {took:.1f} s, {took / cells:.3f} s each; load {_load()}")
    grown = scale_storage.size(env) - empty
    print(f"  Dagster's storage grew by {grown / 1e6:.1f} MB, {grown / cells / 1000:.1f} kB a partition")


def report(env: Mapping[str, str]) -> None:
    """Print what the runs of a KLINE_HOME have cost."""
    for rows in scale_storage.spent(env):
        for row in rows:
            print("  " + ", ".join(f"{name} {_told(value)}" for name, value in row.items()))


def watch(case: Case, env: Mapping[str, str], folder: Path, pictures: Path, *, times: int) -> None:
    """Print what Dagster's UI counts of a case, and time its pages."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with running(env, "up", "--port", port, "--ops-port", "0", says="Dagster UI", ends_by=signal.SIGTERM):
        if case.name == "many":
            partition = f"{case.start}|{case.symbols[0]}"
            print(f"  a run of {partition} from the UI: {launch(url, case.keys, partition)}")
        for key, counts in partition_counts(url, case.keys).items():
            print(f"  {key}: {counts}")
        time_pages(url, case.pages(), folder / "profile", pictures, times=times, stay_s=20)


@contextmanager
def exchange(folder: Path) -> Iterator[dict[str, str]]:
    """Give the variables of commands that ask a simulator, which serves while the block lasts."""
    plain = environment(folder / "nowhere")
    options = ("--port", "0", "--symbols", str(len(HUNDRED)))
    with running(plain, "simulate", *options, says="listening", ends_by=signal.SIGTERM) as told:
        url = next(word for word in told.split() if word.startswith("http://"))
        cache = str(folder / "cache")
        yield {"BYBIT_BASE_URL": url, "BYBIT_REQUESTS_PER_SECOND": "110", "XDG_CACHE_HOME": cache}


def main() -> None:
    """Build and time the cases asked for."""
    known = cases(datetime.now(tz=UTC).date())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(known))
    parser.add_argument("--folder", type=Path, help="keep what is built here")
    parser.add_argument("--no-build", action="store_true", help="what is in --folder was built before")
    parser.add_argument("--no-pages", action="store_true", help="open no browser")
    parser.add_argument("--times", type=int, default=3, help="how often each page is opened; default 3")
    asked = parser.parse_args()
    if strange := set(asked.cases) - set(known):
        parser.error(f"no case {', '.join(strange)}; there are {', '.join(known)}")
    folder = (asked.folder or Path(tempfile.mkdtemp(prefix="kline-scale-", dir="/tmp"))).absolute()
    pictures = Path(os.environ.get("KLINE_SCREENSHOTS") or folder / "pictures")
    try:
        with exchange(folder) as variables:
            for case in (known[name] for name in asked.cases):
                _measure(case, folder / case.name, variables, pictures, asked)
    finally:
        if asked.folder is None:
            _delete(folder, list(known))


def _measure(case: Case, home: Path, variables: Mapping[str, str], pictures: Path, asked: Any) -> None:
    env = environment(home, **variables)
    if not asked.no_build:
        home.mkdir(parents=True)
        (home / "datasets.toml").write_text(case.declared())
        build(case, env)
    report(env)
    if not asked.no_pages:
        watch(case, env, home.parent, pictures, times=asked.times)


def _delete(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).exists():
            EmbeddedServer(folder / name).destroy()
    shutil.rmtree(folder)


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _told(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float | Decimal) else str(value)


if __name__ == "__main__":
    main()
