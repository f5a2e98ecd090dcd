"""The notebook facade over what landed, and straight from the exchange; each promise is broken once on purpose."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kline_pipeline import api
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.errors import CorruptFile, IncompleteWindow, TooFewCandles, UsageError
from kline_pipeline.simulator.control import change_faults
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.worlds import HOURLY, World, world

KEY = "linear:BTCUSDT:60"
COLUMNS = ["category", "symbol", "interval", "open_time", "open", "high", "low", "close", "volume", "turnover"]


@pytest.fixture
def opened(settings: Settings, database: Database, tell_environment: Callable[[str], Path]) -> Iterator[World]:
    """A world of which the environment tells the facade, with January and March of 2024 landed and April begun."""
    with world(settings, database) as one, SimulatorServer(one.exchange) as server:
        tell_environment(server.url)
        one.run(HOURLY, *((day, "BTCUSDT") for day in ("2024-01-01", "2024-03-01", "2024-04-01")))
        yield one


def drop(one: World, open_time: str) -> None:
    fault = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": open_time}
    change_faults(one.exchange, json.dumps([{"drop": fault}]).encode())


def test_what_landed_is_loaded_as_it_was_fetched(opened: World) -> None:
    asked = opened.pages("60")
    loaded = api.load_candles(KEY, "2024-01-01", "2024-01-31")
    assert opened.pages("60") == asked
    pd.testing.assert_frame_equal(loaded, api.fetch_candles(KEY, "2024-01-01", "2024-01-31"))
    assert list(loaded.columns) == COLUMNS
    assert len(loaded) == 744
    assert str(loaded["open_time"].dtype) == "datetime64[ms, UTC]"
    assert {str(loaded[name].dtype) for name in COLUMNS[4:]} == {"float64"}


def test_exact_decimals_are_those_of_the_table(opened: World) -> None:
    loaded = api.load_candles(KEY, "2024-01-01", "2024-01-31", exact=True)
    rows = opened.table(KEY)[:744]
    assert [tuple(row) for row in loaded[COLUMNS[4:]].itertuples(index=False)] == [row[1:] for row in rows]
    assert isinstance(loaded["close"].iloc[0], Decimal)


def test_a_dataset_without_snapshots_is_read_from_the_table(opened: World, settings: Settings) -> None:
    by_file = api.load_candles(KEY, "2024-01-01", "2024-01-31", exact=True)
    settings.home.mkdir(exist_ok=True)
    (settings.home / "datasets.toml").write_text(
        '[[dataset]]\ncategory = "linear"\ninterval = "60"\nsymbols = ["BTCUSDT"]\nsinks = ["postgres"]\n'
    )
    by_table = api.load_candles(KEY, "2024-01-01", "2024-01-31", exact=True)
    pd.testing.assert_frame_equal(by_file, by_table)
    opened.query("delete from kline.candles where open_time = '2024-01-10 05:00Z'")
    with pytest.raises(IncompleteWindow, match="lost after it had landed") as caught:
        api.load_candles(KEY, "2024-01-01", "2024-01-31")
    assert caught.value.missing_ms == (int(datetime(2024, 1, 10, 5, tzinfo=UTC).timestamp() * 1000),)


def test_a_range_that_has_not_landed_is_no_shorter_frame(opened: World) -> None:
    with pytest.raises(IncompleteWindow, match="not fetched: run backfill") as caught:
        api.load_candles(KEY, "2024-01-31", "2024-03-01")
    assert len(caught.value.missing_ms) == 29 * 24
    gaps = api.find_gaps(KEY, "2024-01-31", "2024-03-01")
    assert gaps.to_dict("records") == [
        {
            "start": pd.Timestamp("2024-02-01", tz="UTC"),
            "end": pd.Timestamp("2024-03-01", tz="UTC"),
            "candles": 29 * 24,
            "why": "not fetched: run backfill",
        }
    ]


def test_a_quarantined_month_says_why(opened: World) -> None:
    drop(opened, "2024-02-10T05:00")
    opened.run(HOURLY, ("2024-02-01", "BTCUSDT"))
    gaps = api.find_gaps(KEY, "2024-01-01", "2024-03-31")
    assert list(gaps["candles"]) == [29 * 24]
    assert "quarantined: no_gaps: 2024-02-10T05:00:00Z missing" in gaps["why"][0]


def test_no_gaps_is_an_empty_frame_with_the_same_columns(opened: World) -> None:
    gaps = api.find_gaps(KEY, date(2024, 1, 1), datetime(2024, 2, 1, tzinfo=UTC))
    assert gaps.empty
    assert list(gaps.columns) == ["start", "end", "candles", "why"]


def test_time_before_the_listing_is_no_gap(opened: World) -> None:
    assert api.find_gaps(KEY, "2020-03-01", "2020-03-20").empty
    assert api.load_candles(KEY, "2020-03-01", "2020-03-20").empty


def test_a_snapshot_that_was_changed_is_refused(opened: World, settings: Settings) -> None:
    folder = Path(settings.snapshot_url) / "linear" / "60" / "BTCUSDT"
    (folder / "2024-01-01.parquet").write_bytes((folder / "2024-03-01.parquet").read_bytes())
    with pytest.raises(CorruptFile, match="rebuild"):
        api.load_candles(KEY, "2024-01-01", "2024-01-31")


def test_the_ledger_is_a_frame(opened: World) -> None:
    ledger = api.coverage(KEY)
    assert ledger.to_dict("records")[0] == {
        "series": KEY, "date": date(2024, 1, 1), "state": "landed", "expected": 744, "present": 744, "missing": 0,
        "known": 0,
    }  # fmt: skip
    assert len(api.coverage()) == len(ledger) == 3


def test_a_missing_candle_is_an_exception_of_fetch_too(opened: World) -> None:
    drop(opened, "2024-01-10T05:00")
    with pytest.raises(IncompleteWindow, match="2024-01-10T05:00:00Z"):
        api.fetch_candles(KEY, "2024-01-01", "2024-01-31")


def test_several_series_come_in_one_frame(opened: World) -> None:
    frame = api.fetch_candles([KEY, api.Series.parse("linear:ETHUSDT:60")], "2024-01-01", "2024-01-02")
    assert frame.groupby("symbol", observed=True).size().to_dict() == {"BTCUSDT": 48, "ETHUSDT": 48}


def test_the_last_candles_are_exactly_so_many(opened: World) -> None:
    frame = api.latest_candles(KEY, 1500, end="2024-03-31")
    assert len(frame) == 1500
    assert frame["open_time"].iloc[-1] == pd.Timestamp("2024-03-31 23:00", tz="UTC")
    with pytest.raises(TooFewCandles):
        api.latest_candles("linear:BTCUSDT:M", 1000)


def test_a_series_of_no_dataset_says_how_to_land_it(opened: World) -> None:
    with pytest.raises(UsageError, match="kline-pipeline backfill inverse:BTCUSD:5"):
        api.load_candles("inverse:BTCUSD:5", "2024-01-01", "2024-01-31")


def test_times_of_pandas_and_numpy_are_times(opened: World) -> None:
    begin: Any = np.datetime64("2024-01-01")
    count: Any = np.int64(5)
    frame = api.fetch_candles(KEY, begin, pd.Timestamp("2024-01-02", tz="UTC"))
    assert len(frame) == 24
    assert len(api.latest_candles(KEY, count, end="2024-03-31")) == 5


@pytest.mark.parametrize(("start", "end"), [(None, None), ("soon", "2024-01-02"), ("2024-01-01", float("nan"))])
def test_what_is_no_time_is_refused(start: object, end: object) -> None:
    with pytest.raises(UsageError):
        api.load_candles(KEY, start, end)  # type: ignore[arg-type]


def test_no_series_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="no series"):
        api.fetch_candles([], "2024-01-01", "2024-01-02")
