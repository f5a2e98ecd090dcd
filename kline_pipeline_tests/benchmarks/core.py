"""The core pipeline as a process of its own, without Dagster: one range of some series of one dataset.

Run: python -m kline_pipeline_tests.benchmarks.core FROM TO KEY...   (dates, the last day included; UTC)
"""

import gc
import sys

gc.set_threshold(500_000)  # as the command line does, before anything is loaded

import json  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import date  # noqa: E402

from kline_pipeline.config import Settings  # noqa: E402
from kline_pipeline.datasets import Cell, undeclared  # noqa: E402
from kline_pipeline.market.arrow import leave_pandas_alone  # noqa: E402
from kline_pipeline.market.series import Series  # noqa: E402
from kline_pipeline.opening import opened  # noqa: E402


def main(start: str, end: str, keys: list[str]) -> None:
    """Bring the range into table and snapshots, and print how many candles landed."""
    leave_pandas_alone()
    series = [Series.parse(key) for key in keys]
    first, last = date.fromisoformat(start), date.fromisoformat(end)
    dataset = undeclared(series[0].category, series[0].interval)
    dataset = replace(dataset, symbols=tuple(one.symbol for one in series))
    with opened(Settings.load()) as work:
        pipeline = work.pipeline
        now_ms = pipeline.now_ms()
        dates = [day for day in dataset.dates(now_ms) if dataset.floor(first) <= day <= last]
        cells = [Cell(day, one.symbol) for one in series for day in dates]
        passed = pipeline.run(dataset, cells, now_ms=now_ms)
    rows = sum(one.verdict.rows for one in passed.values())
    if not all(one.landed for one in passed.values()):
        raise SystemExit("not every partition landed")
    print(json.dumps({"candles": rows}))
    gc.freeze()  # as the command line does: nothing waits for cycles to be looked for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
