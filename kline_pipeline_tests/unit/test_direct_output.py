"""A file of candles is there when it is whole, and says the same as Parquet and as CSV."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kline_pipeline.direct.output import candle_file
from kline_pipeline.errors import StorageError, UsageError
from kline_pipeline.market.schema import CANDLE_SCHEMA, SNAPSHOT_SCHEMA
from kline_pipeline.market.series import Series

SERIES = Series.parse("linear:AUSDT:1")
ONE = pa.table([[1_706_745_540_000], ["0.00000001"], ["2"], ["0.00000001"], ["1.5"], ["3"], ["4.25"]], CANDLE_SCHEMA)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_whose_candles_do_not_come_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        _interrupted(path)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"before"


def _interrupted(path: Path) -> None:
    with candle_file(path, SERIES) as file:
        file.add(ONE)
        _ = 1 / 0


def test_both_formats_hold_the_same_exact_numbers(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        with candle_file(tmp_path / name, SERIES) as file:
            file.add(ONE)
            file.add(ONE.slice(0, 0))
    header, line = (tmp_path / "a.csv").read_text().splitlines()
    assert header == "open_time,open,high,low,close,volume,turnover"
    assert line == "2024-01-31T23:59:00Z,0.00000001,2,0.00000001,1.5,3,4.25"
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.equals(SNAPSHOT_SCHEMA)
    assert table["open"].to_pylist() == [Decimal("0.00000001")]
    assert str(table["open_time"][0].as_py()) == "2024-01-31 23:59:00+00:00"


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not write"), candle_file(tmp_path / "file" / "a.csv", SERIES):
        pass


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.csv"), candle_file(tmp_path / "a.xlsx", SERIES):
        pass
