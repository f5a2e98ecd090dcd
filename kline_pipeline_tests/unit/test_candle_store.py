"""Working candles: whatever bit of a file is lost, what is read is what was written, or the file is corrupt."""

from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from kline_pipeline.candles.store import CandleStore
from kline_pipeline.errors import CorruptFile
from kline_pipeline.files import Folder
from kline_pipeline.market.schema import CANDLE_SCHEMA
from kline_pipeline.market.series import Series

SERIES, DAY, ROWS = Series.parse("linear:BTCUSDT:60"), date(2024, 1, 1), 100


class Told(msgspec.Struct):
    """Stands for a verdict."""

    reason: str


def candles() -> pa.Table:
    numbers = [pa.array([f"{(row * 7919 + column) % 10_000 / 10:.1f}" for row in range(ROWS)]) for column in range(6)]
    return pa.table([pa.array(np.arange(ROWS) * 3_600_000), *numbers], schema=CANDLE_SCHEMA)


@pytest.mark.parametrize("part", range(8))
def test_no_flipped_bit_is_taken_for_a_candle_or_a_verdict(part: int, tmp_path: Path) -> None:
    store, written = CandleStore(Folder(str(tmp_path))), candles()
    store.write(SERIES, DAY, written, Told("nothing offends"))
    path = next(tmp_path.rglob("*.parquet"))
    content = path.read_bytes()
    refused = 0
    for place in range(part, len(content), 8):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place // 8 % 8]) + content[place + 1 :])
        try:
            found, verdict = store.read(SERIES, DAY), store.verdict(SERIES, DAY)
        except CorruptFile:
            refused += 1
            continue
        assert found is not None
        assert found.candles.equals(written)
        assert found.verdict == verdict == b'{"reason":"nothing offends"}'
    assert refused > len(content) // 8 * 0.8


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = CandleStore(Folder(str(tmp_path)))
    assert store.read(SERIES, DAY) is None
    assert store.verdict(SERIES, DAY) is None
    store.write(SERIES, DAY, candles(), Told("a"))
    found = store.read(SERIES, DAY)
    assert found is not None
    assert found.candles.equals(candles())
    assert (found.verdict, store.verdict(SERIES, DAY)) == (b'{"reason":"a"}', b'{"reason":"a"}')
