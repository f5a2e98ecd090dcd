"""What is stored is compared with itself; each way to spoil it is found, and nothing is said of what is whole."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import HOURLY, World, world

JANUARY = Cell(date(2024, 1, 1), "BTCUSDT")
FEBRUARY = Cell(date(2024, 2, 1), "BTCUSDT")


@pytest.fixture
def landed(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as one:
        one.run(HOURLY, ("2024-01-01", "BTCUSDT"), ("2024-02-01", "BTCUSDT"))
        yield one


def verify(one: World, cell: Cell) -> list[str]:
    found = one.pipeline.verify(HOURLY, cell, declared=[HOURLY], now_ms=one.clock())
    assert found.warnings == ()
    return list(found.disagreements)


def file_of(one: World, folder: str) -> Path:
    pattern = "2024-01-01*/*.parquet" if "raw" in folder else "2024-01-01.parquet"
    return next((Path(one.settings.home) / folder).rglob(pattern))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def shift_times(path: Path) -> None:
    """Let the file say times that no calendar has, as one does in which a byte or two are spoilt."""
    table = pq.read_table(path)
    place = table.column_names.index("open_time")
    times = pc.add(table["open_time"].cast(pa.int64()), 2**60).cast(table["open_time"].type)
    pq.write_table(table.set_column(place, table.schema.field(place), times), path)


def test_what_is_whole_agrees(landed: World) -> None:
    assert landed.pipeline.stored_dates(HOURLY, "BTCUSDT", now_ms=landed.clock()) == [JANUARY.date, FEBRUARY.date]
    assert verify(landed, JANUARY) == verify(landed, FEBRUARY) == []


TABLE = "kline.candles where open_time = '2024-01-10 05:00Z'"
LEDGER = "date = '2024-01-01'"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda one: one.query(f"delete from {TABLE}"), "postgres_agrees: 743 rows"),
        (lambda one: one.query(f"update {TABLE}".replace(" where", " set close = close + 1 where")), "checksum"),
        (lambda one: cut(file_of(one, "snapshots")), "snapshot"),
        (lambda one: file_of(one, "snapshots").unlink(), "parquet_agrees: the sink holds nothing"),
        (lambda one: shift_times(file_of(one, "snapshots")), " ms, expected 2024-01-01T00:00:00Z to 2024-01-31T23"),
        (lambda one: cut(file_of(one, "work/raw")), "raw batch"),
        (lambda one: file_of(one, "work/raw").unlink(), "no_gaps: 2024-01-01T00:00:00Z missing"),
        (lambda one: one.query(f"delete from kline.coverage where {LEDGER}"), "the ledger does not know it"),
        (lambda one: one.query(f"update kline.coverage set sha256 = 'x' where {LEDGER}"), "another checksum"),
        (lambda one: one.query(f"update kline.coverage set missing = 1 where {LEDGER}"), "counts other candles"),
    ],
)
def test_what_was_spoilt_is_named(landed: World, spoil: Callable[[World], object], told: str) -> None:
    spoil(landed)
    assert any(told in sentence for sentence in verify(landed, JANUARY))
    assert verify(landed, FEBRUARY) == []


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (["2024-05-05 07:00Z", "2019-05-05Z"], "2 rows outside of every partition that was derived, the first at 2019"),
        (["2024-03-01Z"], "1 rows outside of every partition that was derived, the first at 2024-03-01T00:00:00Z"),
        (["2023-12-31 23:59:59.9999Z"], "the first at 2023-12-31T23:59:59.999Z"),
        (["12000-12-31Z"], "the first at 316,547,740,800,000 ms"),
        (["0044-03-15Z BC", "12000-12-31Z"], "2 rows outside of every partition that was derived, the first at -63,"),
        (["infinity", "-infinity"], "2 rows outside of every partition that was derived, none at a time that is one"),
        (["infinity", "2019-05-05Z"], "2 rows outside of every partition that was derived, the first at 2019-05-05"),
        ([], ""),
    ],
)
def test_rows_of_no_partition_are_found(landed: World, times: list[str], told: str) -> None:
    for time in times:
        landed.query("insert into kline.candles select series_id, cast(:t as timestamptz), 1, 1, 1, 1, 1, 1 "
                     "from kline.series where symbol = 'BTCUSDT'", t=time)  # fmt: skip
    rest = landed.pipeline.verify_rest(HOURLY, "BTCUSDT")
    assert len(rest) == bool(times)
    assert told in "".join(rest)
    assert landed.pipeline.verify_rest(HOURLY, "ETHUSDT") == ()


def test_working_candles_that_cannot_be_read_are_named_by_the_partition_beside_too(landed: World) -> None:
    path = file_of(landed, "work/candles")
    cut(path)
    for cell in (JANUARY, FEBRUARY):
        (told,) = verify(landed, cell)
        assert str(path) in told


@pytest.mark.parametrize("severity", ["ERROR", "WARN"])
def test_what_is_not_consistent_is_told_by_its_severity(settings: Settings, database: Database, severity: str) -> None:
    days = Dataset("linear", Interval("D"), date(2024, 1, 1), "year", ("BTCUSDT",))
    declared = [HOURLY, days] if severity == "ERROR" else [HOURLY]
    with world(settings, database) as one:
        one.run(days, ("2024-01-01", "BTCUSDT"))
        about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-01-10T05:00"}
        one.exchange.faults.replace([{"correct": {**about, "close": "1"}}])
        one.run(HOURLY, ("2024-01-01", "BTCUSDT"))
        found = one.pipeline.verify(HOURLY, JANUARY, declared=declared, now_ms=one.clock())
        told, other = (
            (found.disagreements, found.warnings) if severity == "ERROR" else (found.warnings, found.disagreements)
        )
        assert [sentence.split(" ")[:2] for sentence in told] == [
            ["consistent:", "2024-01-10T00:00:00Z" if severity == "ERROR" else "2024-01-10T06:00:00Z"]
        ]
        assert other == ()


def test_a_quarantined_partition_says_why(settings: Settings, database: Database) -> None:
    with world(settings, database) as one:
        about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-01-10T05:00"}
        one.exchange.faults.replace([{"drop": about}])
        one.run(HOURLY, ("2024-01-01", "BTCUSDT"))
        assert verify(one, JANUARY) == ["no_gaps: 2024-01-10T05:00:00Z missing"]
