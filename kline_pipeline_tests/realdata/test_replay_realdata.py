"""The replay serves exactly what the recorded files hold, digit for digit as decimals."""

import csv
import gzip
import os
from decimal import Decimal
from pathlib import Path

import pytest

from kline_pipeline.simulator.grid import parse_time_ms
from kline_pipeline.simulator.replay import ReplayHistory

pytestmark = pytest.mark.realdata

NOW_MS = parse_time_ms("2026-11-25")
CASES = [
    *(("linear_no_turnover", symbol, interval, name, None)
      for symbol in ("DOGEUSDT", "DOTUSDT")
      for interval, name in (("1", "1m"), ("5", "5m"), ("15", "15m"), ("30", "30m"),
                             ("60", "60m"), ("240", "240m"))),
    *(("linear_with_turnover", symbol, interval, name, (interval,))
      for symbol in ("DOGEUSDT", "1000PEPEUSDT", "XPINUSDT")
      for interval, name in (("5", "5m"), ("30", "30m"), ("60", "1h"), ("D", "1d"), ("W", "1w"))),
]  # fmt: skip


@pytest.fixture(scope="module")
def histories() -> dict[tuple[str, tuple[str, ...] | None], ReplayHistory]:
    folder = Path(os.environ["KLINE_REALDATA"])
    wanted = {(case[0], case[4]) for case in CASES}
    return {(name, only): ReplayHistory(folder / name, "linear", only) for name, only in sorted(wanted, key=str)}


@pytest.mark.parametrize(("folder", "symbol", "interval", "name", "only"), CASES)
def test_every_row_inside_the_common_span_is_served_as_recorded(
    histories: dict[tuple[str, tuple[str, ...] | None], ReplayHistory],
    folder: str,
    symbol: str,
    interval: str,
    name: str,
    only: tuple[str, ...] | None,
) -> None:
    history = histories[folder, only]
    instrument = history.find("linear", symbol, NOW_MS)
    assert instrument is not None
    start, end = instrument.lives[0]
    assert end is not None
    path = Path(os.environ["KLINE_REALDATA"]) / folder / f"{symbol}_{name}.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        recorded = {
            parse_time_ms(time): [Decimal(cell) for cell in cells] for time, *cells in list(csv.reader(file))[1:-1]
        }
    expected = {opened: cells for opened, cells in recorded.items() if start <= opened < end}
    width = len(next(iter(expected.values())))
    rows = history.newest(instrument, interval, until_ms=NOW_MS, limit=10**6, now_ms=NOW_MS)

    assert {int(r[0]): [Decimal(cell) for cell in r[1 : width + 1]] for r in rows} == expected


def test_recorded_coarse_candles_are_the_aggregates_of_recorded_minutes(
    histories: dict[tuple[str, tuple[str, ...] | None], ReplayHistory],
) -> None:
    folder = Path(os.environ["KLINE_REALDATA"]) / "linear_no_turnover"
    whole, minutes = histories["linear_no_turnover", None], ReplayHistory(folder, "linear", ["1"])
    for symbol in ("DOGEUSDT", "DOTUSDT"):
        for interval in ("5", "15", "30", "60", "240"):
            served, made = (
                {
                    row[0]: row
                    for row in history.newest(
                        history.instruments("linear", NOW_MS)[symbol == "DOTUSDT"],
                        interval, until_ms=NOW_MS, limit=10**6, now_ms=NOW_MS,
                    )
                }
                for history in (whole, minutes)
            )  # fmt: skip
            assert served == {opened: made[opened] for opened in served}
