"""W6: a year of minutes as a pandas frame, from the snapshots or from PostgreSQL, beside a plain way to read them.

Run: python -m kline_pipeline_tests.benchmarks.reading snapshots|postgres KEY FROM TO   (environment of the KLINE_HOME)

Each source is read in a process of its own. `first_s` is the first call, imports behind it, with all that is loaded,
opened or compiled at first use; `median_s` is that of five calls, the first one too. The files are in the cache of the
machine, as they have just been written. Plain are pyarrow's read_table and to_pandas of the same files, which makes a
Python decimal of every number, and COPY TO STDOUT of the same rows, whose bytes are thrown away: median of five.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

import pandas as pd
import pyarrow.parquet as pq

from kline_pipeline import api
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.datasets import undeclared
from kline_pipeline.evidence.series_ids import find_series_id
from kline_pipeline.files import Folder
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import end_of, start_of
from kline_pipeline.market.window import Window, iso
from kline_pipeline.sinks import candles_parquet, candles_postgres

_TIMES = 5
_NUMBERS = ("open", "high", "low", "close", "volume", "turnover")
_MOMENTS = ("datetime64[ms, UTC]", "datetime64[ns, UTC]")
_COPY_OUT = """
copy (select open_time, open, high, low, close, volume, turnover from kline.candles
where series_id = %s and open_time >= %s::timestamptz and open_time < %s::timestamptz order by open_time) to stdout
"""


def main(source: str, key: str, start: str, end: str) -> None:
    """Print rows and seconds of one source, and of its plain way."""
    settings, series = Settings.load(), Series.parse(key)
    now_ms = time.time_ns() // 1_000_000
    window = Window(start_of(start, now_ms), end_of(end, now_ms))
    wanted = series.interval.count(window.start_ms, window.end_ms)

    if source == "snapshots":
        times = _times(lambda: _sound(api.load_candles(key, start, end), wanted))
        files = _files(settings, series, window)
        plain = _times(lambda: len(pq.read_table(files).to_pandas()))
    else:
        times = _times(lambda: _sound(_from_postgres(settings, series, window), wanted))
        with connect(settings, migrate=False) as database:
            plain = _times(lambda: _copied_out(database, series, window))
    print(json.dumps({"rows": wanted, "first_s": times[0], "median_s": median(times), "plain_s": median(plain)}))


def _sound(frame: pd.DataFrame, rows: int) -> int:
    """Return the number of rows of a frame if it is as promised.

    Raises:
        SystemExit: it has another number of rows, or columns of other types.
    """
    types = {name: str(frame.dtypes[name]) for name in ("open_time", *_NUMBERS)}
    if len(frame) != rows:
        raise SystemExit(f"W6: {len(frame)} rows were read, {rows} are stored")
    if types.pop("open_time") not in _MOMENTS or set(types.values()) != {"float64"}:
        raise SystemExit(f"W6: the frame has other types than UTC times and float64: {dict(frame.dtypes)}")
    return rows


def _from_postgres(settings: Settings, series: Series, window: Window) -> pd.DataFrame:
    with connect(settings, migrate=False) as database:
        frame = candles_postgres.read(database, series, window).to_pandas().astype(dict.fromkeys(_NUMBERS, "float64"))
    open_time = pd.to_datetime(frame.pop("open_time_ms"), unit="ms", utc=True).dt.as_unit("ms")
    return frame.assign(open_time=open_time)


def _files(settings: Settings, series: Series, window: Window) -> list[str]:
    dataset, folder = undeclared(series.category, series.interval), Folder(settings.snapshot_url)
    days = [day for day in dataset.dates(window.end_ms - 1) if dataset.window(day).intersect(window)]
    return [folder.locate(candles_parquet.path(series, day)) for day in days]


def _copied_out(database: Database, series: Series, window: Window) -> int:
    with database.engine.begin() as connection:
        bounds = (find_series_id(connection, series), iso(window.start_ms), iso(window.end_ms))
        driver = connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor, cursor.copy(_COPY_OUT, bounds) as copy:
            return sum(bytes(piece).count(b"\n") for piece in copy)


def _times(read: Callable[[], int]) -> list[float]:
    times, rows = [], set()
    for _ in range(_TIMES):
        began = time.perf_counter()
        rows.add(read())
        times.append(time.perf_counter() - began)
    if len(rows) != 1:
        raise SystemExit(f"W6: reading again gives another number of rows: {rows}")
    return times


if __name__ == "__main__":
    main(*sys.argv[1:])
