"""Recorded files as listings: clipping, aggregates, exact digits, and what is refused."""

import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from kline_pipeline.simulator.grid import MINUTE_MS, utc_ms
from kline_pipeline.simulator.history import HistoryError, Row
from kline_pipeline.simulator.replay import ReplayHistory
from kline_pipeline_tests.simulator.conftest import NOW_MS

DAY = utc_ms(2024, 1, 1)
HEAD = "timestamp,open,high,low,close,volume"


def minute_file(first: int, count: int, step: int = 1, turnover: bool = False) -> str:
    """CSV of candles that open every `step` minutes from minute `first` of 2024-01-01."""
    lines = [HEAD + (",turnover" if turnover else "")]
    for number in range(first, first + count * step, step):
        at = f"2024-01-01 {number // 60:02d}:{number % 60:02d}:00+00:00"
        price = 100 + number
        cells = f"{price}.10,{price + 2}.0,{price - 1},{price + 1}.25,{step}.50"
        lines.append(f"{at},{cells}" + (f",{number}.123456789" if turnover else ""))
    return "\n".join(lines) + "\n"


def served(history: ReplayHistory, interval: str, symbol: str = "AUSDT") -> list[Row]:
    instrument = history.find("linear", symbol, NOW_MS)
    assert instrument is not None
    rows = history.newest(instrument, interval, until_ms=NOW_MS, limit=10**6, now_ms=NOW_MS)
    return rows[::-1]


def minutes(*numbers: int) -> list[str]:
    return [str(DAY + number * MINUTE_MS) for number in numbers]


def test_the_last_row_is_left_out_unless_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1m.csv").write_text(minute_file(0, 4))

    assert [r[0] for r in served(ReplayHistory(tmp_path, "linear"), "1")] == minutes(0, 1, 2)
    kept = ReplayHistory(tmp_path, "linear", keep_last=True)
    assert [r[0] for r in served(kept, "1")] == minutes(0, 1, 2, 3)


def test_digits_are_served_as_recorded_with_zeros_stripped(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1.csv").write_text(
        "open_time,open,high,low,close,volume,turnover\n"
        "1704067200000,0.10,1e-1,0.0000000001,0.1,55065400.0,123456789012345678.1234567890123456\n"
        "1704067260000,1,1,1,1,1,1\n"
    )

    assert served(ReplayHistory(tmp_path, "linear"), "1") == [
        (str(DAY), "0.1", "0.1", "0.0000000001", "0.1", "55065400",
         "123456789012345678.1234567890123456")
    ]  # fmt: skip


def test_files_are_clipped_to_their_common_span_on_the_coarsest_grid(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1m.csv").write_text(minute_file(3, 40))
    (tmp_path / "AUSDT_15m.csv").write_text(minute_file(0, 4, step=15))
    history = ReplayHistory(tmp_path, "linear")
    instrument = history.find("linear", "AUSDT", NOW_MS)

    assert instrument is not None
    assert instrument.lives == ((DAY + 15 * MINUTE_MS, DAY + 30 * MINUTE_MS),)
    assert instrument.status(NOW_MS) == "Closed"
    assert instrument.wire(NOW_MS)["launchTime"] == str(DAY + 15 * MINUTE_MS)
    assert instrument.wire(NOW_MS)["deliveryTime"] == str(DAY + 30 * MINUTE_MS)
    assert [row[0] for row in served(history, "1")] == minutes(*range(15, 30))
    assert [row[0] for row in served(history, "15")] == minutes(15)


def test_only_the_named_intervals_are_served_and_only_they_clip(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1m.csv").write_text(minute_file(3, 40))
    (tmp_path / "AUSDT_15m.csv").write_text(minute_file(0, 4, step=15))
    history = ReplayHistory(tmp_path, "linear", ["15m"])
    instrument = history.find("linear", "AUSDT", NOW_MS)

    assert instrument is not None
    assert not history.has(instrument, "1")
    assert [row[0] for row in served(history, "15")] == minutes(0, 15, 30)


def test_coarser_intervals_are_exact_aggregates_where_they_divide(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1m.csv").write_text(minute_file(0, 13, turnover=True))
    history = ReplayHistory(tmp_path, "linear")
    (first, *_), hour = served(history, "5"), served(history, "60")

    assert first == (str(DAY), "100.1", "106", "99", "105.25", "7.5", "10.617283945")
    assert [row[0] for row in hour] == minutes(0)
    assert Decimal(hour[0][5]) == 12 * Decimal("1.5")


def test_a_month_is_not_made_of_weeks(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1w.csv").write_text(
        f"{HEAD}\n2024-01-01,1,1,1,1,1\n2024-01-08,1,1,1,1,1\n2024-01-15,1,1,1,1,1\n"
    )
    history = ReplayHistory(tmp_path, "linear")
    instrument = history.find("linear", "AUSDT", NOW_MS)

    assert instrument is not None
    assert [i for i in ("1", "D", "W", "M") if history.has(instrument, i)] == ["W"]


def test_missing_turnover_is_volume_times_close_of_the_finest_interval(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_1m.csv").write_text(minute_file(0, 16))
    (tmp_path / "AUSDT_5m.csv").write_text(minute_file(0, 4, step=5))
    history = ReplayHistory(tmp_path, "linear")
    fine = [Decimal(row[6]) for row in served(history, "1")]

    assert fine[0] == Decimal("1.5") * Decimal("101.25")
    assert [Decimal(row[6]) for row in served(history, "5")] == [sum(fine[at : at + 5]) for at in (0, 5, 10)]


def test_all_formats_serve_the_same_candles_under_the_same_venue(tmp_path: Path) -> None:
    text = minute_file(0, 9)
    lines = [line.split(",") for line in text.splitlines()]
    columns = dict(zip(lines[0], zip(*lines[1:], strict=True), strict=True))
    floats = {name: list(map(float, columns[name])) for name in lines[0][1:]}
    times = pa.array([DAY + n * MINUTE_MS for n in range(9)], pa.timestamp("ms", tz="UTC"))
    table = pa.table({"open_time": times, **floats})
    for folder in ("csv", "gz", "parquet", "feather"):
        (tmp_path / folder).mkdir()
    (tmp_path / "csv" / "AUSDT_1.csv").write_text(text.replace("+00:00", ""))
    (tmp_path / "gz" / "AUSDT_1m.csv.gz").write_bytes(gzip.compress(text.encode()))
    pa.parquet.write_table(table, tmp_path / "parquet" / "AUSDT_1.parquet")
    pa.feather.write_feather(table, tmp_path / "feather" / "AUSDT_1m.feather")
    histories = [ReplayHistory(p, "linear") for p in sorted(tmp_path.iterdir())]

    assert len(served(histories[0], "1")) == 8
    assert len({tuple(served(history, "1")) for history in histories}) == 1
    assert len({history.venue for history in histories}) == 1


def test_the_venue_follows_what_is_served(tmp_path: Path) -> None:
    path = tmp_path / "AUSDT_1m.csv"
    path.write_text(minute_file(0, 9))
    venue = ReplayHistory(tmp_path, "linear").venue
    path.write_text(minute_file(0, 9).replace("102.25", "102.26"))

    assert ReplayHistory(tmp_path, "linear").venue != venue
    assert ReplayHistory(tmp_path, "spot").venue != ReplayHistory(tmp_path, "linear").venue


ROW = "2024-01-01,1,1,1,1,1\n"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no files"),
        ({"AUSDT-5m.csv": HEAD}, "is not named SYMBOL_INTERVAL"),
        ({"AUSDT_7m.csv": HEAD}, "is not named SYMBOL_INTERVAL"),
        ({"AUSDT_1.csv": ""}, "has no column open_time"),
        ({"AUSDT_1.csv": "timestamp,open,high,low,close\n"}, "has no column volume"),
        ({"AUSDT_1.csv": HEAD + "\n"}, "holds no candles"),
        ({"AUSDT_1.csv": f"{HEAD}\n{ROW}"}, "no whole candle of 1 in common"),
        ({"AUSDT_1.csv": f"{HEAD}\n2024-01-01,1,1,1,1\n"}, "Row 1 of .* has only 5 columns"),
        ({"AUSDT_1.csv": f"{HEAD}\nnoon,1,1,1,1,1\n"}, "has no time: 'noon'"),
        ({"AUSDT_1.csv": f"{HEAD}\n2024-01-01,1,nan,1,1,1\n"}, "has 'nan' where a number"),
        ({"AUSDT_1.csv": f"{HEAD}\n2024-01-01,1,-1,1,1,1\n"}, "has '-1' where a number"),
        ({"AUSDT_D.csv": f"{HEAD}\n2024-01-01 01:00,1,1,1,1,1\n"}, "not on the grid of D"),
        ({"AUSDT_1.csv": f"{HEAD}\n{ROW}{ROW}"}, "more than once"),
        ({"AUSDT_1.csv.gz": "not gzip"}, "cannot be read"),
        ({"AUSDT_1.parquet": "not parquet"}, "cannot be read"),
        ({"AUSDT_1.feather": "not feather"}, "cannot be read"),
        ({"AUSDT_60m.csv": HEAD, "AUSDT_1h.csv": HEAD}, "are both AUSDT at interval 60"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    with pytest.raises(HistoryError, match=sentence) as caught:
        ReplayHistory(tmp_path, "linear")
    assert "\n" not in str(caught.value)


def test_an_interval_that_no_file_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "AUSDT_5m.csv").write_text(minute_file(0, 9, step=5))

    with pytest.raises(HistoryError, match=r"No file in .* has interval '1': there are 5\."):
        ReplayHistory(tmp_path, "linear", ["1"])
