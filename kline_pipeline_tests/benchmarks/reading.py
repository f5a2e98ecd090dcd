"""W6: a year of minutes as a pandas frame, from snapshots and from PostgreSQL; each in a new process that is warm.

Run: python -m kline_pipeline_tests.benchmarks.reading KEY FROM TO   (with the environment of the KLINE_HOME)
"""

import json
import sys
import time
from collections.abc import Callable

import pandas as pd

from kline_pipeline import api
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import connect
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import end_of, start_of
from kline_pipeline.market.window import Window
from kline_pipeline.sinks import candles_postgres

_TIMES = 5


def main(key: str, start: str, end: str) -> None:
    """Print rows and seconds of both ways."""
    settings, series = Settings.load(), Series.parse(key)
    now_ms = time.time_ns() // 1_000_000
    window = Window(start_of(start, now_ms), end_of(end, now_ms))

    def from_snapshots() -> pd.DataFrame:
        return api.load_candles(key, start, end)

    def from_postgres() -> pd.DataFrame:
        with connect(settings, migrate=False) as database:
            return candles_postgres.read(database, series, window).to_pandas().astype(_FLOATS)

    print(json.dumps({"snapshots": _best(from_snapshots), "postgres": _best(from_postgres)}))


_FLOATS = dict.fromkeys(("open", "high", "low", "close", "volume", "turnover"), "float64")


def _best(read: Callable[[], pd.DataFrame]) -> dict[str, float]:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        frame = read()
        times.append(time.perf_counter() - began)
    return {"rows": len(frame), "median_s": sorted(times)[_TIMES // 2], "first_s": times[0]}


if __name__ == "__main__":
    main(*sys.argv[1:])
