"""Raw batches on disk: what was just written is read from memory, but only while the file proves to be the same."""

from datetime import date
from pathlib import Path

import pytest

from kline_pipeline.errors import CorruptFile
from kline_pipeline.files import Folder
from kline_pipeline.market.series import Series
from kline_pipeline.raw_batches.store import BatchName, RawBatch, RawStore
from kline_pipeline_tests.batches import batch, page

SERIES = Series.parse("linear:BTCUSDT:1")
DAY = date(2024, 1, 1)
MADE = [batch("any", page(start, start + 10, server=100)) for start in range(0, 60, 10)]


def write(store: RawStore, made: RawBatch) -> BatchName:
    return store.write(SERIES, DAY, made.pages, made.rows)[0]


def test_a_batch_is_the_same_from_memory_and_from_its_file(tmp_path: Path) -> None:
    store = RawStore(Folder(str(tmp_path)))
    names = [write(store, made) for made in MADE]

    fresh, decoded = ([store.read(SERIES, DAY, name) for name in names] for _ in range(2))

    assert [(one.name, one.pages, one.rows) for one in fresh] == [
        (name, made.pages, made.rows) for name, made in zip(names, MADE, strict=True)
    ]
    assert decoded == fresh


def test_a_batch_that_was_changed_since_it_was_written_is_not_taken_from_memory(tmp_path: Path) -> None:
    store = RawStore(Folder(str(tmp_path)))
    name = write(store, MADE[0])
    (file,) = tmp_path.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1] + b"?")

    with pytest.raises(CorruptFile, match="is not what was written"):
        store.read(SERIES, DAY, name)


def test_a_batch_that_is_gone_is_not_taken_from_memory(tmp_path: Path) -> None:
    store = RawStore(Folder(str(tmp_path)))
    name = write(store, MADE[0])
    store.delete(SERIES, DAY, name)

    with pytest.raises(CorruptFile, match="is not what was written"):
        store.read(SERIES, DAY, name)
