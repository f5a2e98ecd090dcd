"""The two sinks by themselves: idempotent, exact, and a lower generation never wins."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import text

from kline_pipeline.candles.derive import Generation
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.errors import CorruptFile
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.files import Folder
from kline_pipeline.market.schema import CANDLE_SCHEMA, NUMBER_COLUMNS, sha256_of, snapshot_table
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline.sinks import candles_parquet, candles_postgres
from kline_pipeline.sinks.landing import Held, ToLand
from kline_pipeline_tests.batches import at

DAY = date(2024, 1, 1)
OLD, NEW = Generation(0, 1, 1, "a"), Generation(0, 2, 1, "b")
Land = Callable[[ToLand], Held]


def to_land(generation: Generation, closes: list[str], sinks: tuple[str, ...] = ("postgres",)) -> ToLand:
    rows = [
        {"open_time_ms": at(minute), **dict.fromkeys(NUMBER_COLUMNS, "1"), "close": close}
        for minute, close in enumerate(closes)
    ]
    candles = pa.Table.from_pylist(rows, schema=CANDLE_SCHEMA)
    return ToLand(
        series=Series.parse("linear:BTCUSDT:1"),
        date=DAY,
        window=Window(at(0), at(1440)),
        candles=candles,
        sha256=sha256_of(candles),
        generation=generation,
        sinks=sinks,
    )


def record(database: Database, partition: ToLand) -> None:
    """Have the ledger know that a partition was derived."""
    with database.engine.begin() as connection:
        key = series_id(connection, partition.series)
        derived = coverage.Derived(
            state="pending", window=partition.window, expected=2, present=2, missing=0, first_ms=at(0),
            last_ms=at(1), sha256=partition.sha256, generation=str(partition.generation), reasons=(),
        )  # fmt: skip
        coverage.record(connection, key, DAY, derived, coverage.row(connection, key, DAY))


class Meddled(Folder):
    """A folder in which somebody replaces a file right after it was read for the first time."""

    meddling: bytes | None = None

    def read(self, name: str) -> bytes | None:
        content = super().read(name)
        if self.meddling is not None:
            meddling, self.meddling = self.meddling, None
            self.replace(name, meddling)
        return content


@pytest.fixture(params=["postgres", "parquet"])
def land(request: pytest.FixtureRequest, database: Database, settings: Settings) -> Land:
    """Landing in one of the sinks, of a partition whose derivation the ledger knows."""
    sink = str(request.param)

    def landed(partition: ToLand) -> Held:
        partition = replace(partition, sinks=(sink,))
        record(database, partition)
        if sink == "postgres":
            return candles_postgres.land(database, partition)
        return candles_parquet.land(database, Folder(settings.snapshot_url), partition)

    return landed


def test_what_was_written_is_what_is_read_back(land: Land) -> None:
    held = land(to_land(OLD, ["1.5", "0.00000001"]))

    assert (held.rows, held.first_ms, held.last_ms, held.written) == (2, at(0), at(1), 2)
    assert held.sha256 == to_land(OLD, ["1.5", "0.00000001"]).sha256


def test_digits_that_a_float_would_lose_are_kept(land: Land) -> None:
    served = ["325599405.76492207", "12345678901234567890.123456789012345678"]

    held = land(to_land(OLD, served))

    assert held.sha256 == to_land(OLD, served).sha256


def test_landing_again_writes_nothing(land: Land) -> None:
    land(to_land(OLD, ["1.5", "2"]))

    assert land(to_land(NEW, ["1.5", "2"])).written == 0


def test_a_lower_generation_steps_back(land: Land) -> None:
    land(to_land(NEW, ["1.5", "2"]))

    late = land(to_land(OLD, ["9", "9"]))

    assert late.stepped_back
    assert late.sha256 == to_land(NEW, ["1.5", "2"]).sha256


def test_a_higher_generation_replaces_what_stands(land: Land) -> None:
    land(to_land(OLD, ["9", "9", "9"]))

    held = land(to_land(NEW, ["1.5", "9"]))

    assert held.sha256 == to_land(NEW, ["1.5", "9"]).sha256
    assert held.rows == 2


def test_an_empty_partition_lands_empty(land: Land) -> None:
    held = land(to_land(OLD, []))

    assert (held.rows, held.first_ms, held.last_ms) == (0, None, None)


def test_only_what_differs_is_touched_in_the_table(database: Database) -> None:
    with database.engine.begin() as connection:
        key = series_id(connection, Series.parse("linear:BTCUSDT:1"))
        derived = coverage.Derived(
            state="pending", window=Window(at(0), at(1440)), expected=3, present=3, missing=0, first_ms=at(0),
            last_ms=at(2), sha256="", generation=str(OLD), reasons=(),
        )  # fmt: skip
        coverage.record(connection, key, DAY, derived, None)
    candles_postgres.land(database, to_land(OLD, ["1", "2", "3"]))

    held = candles_postgres.land(database, to_land(NEW, ["1", "9", "3", "4"]))

    assert held.written == 2


@pytest.mark.parametrize(
    "change", ["set close = close + 1", "set close = close, open_time = open_time + interval '1 hour'"]
)
def test_a_row_changed_by_hand_is_put_back_though_the_ledger_knows_a_fingerprint(
    land: Land, database: Database, change: str
) -> None:
    partition = to_land(OLD, ["1", "2", "3"])
    land(partition)
    stored = text("select open_time, close from kline.candles order by open_time")
    with database.engine.begin() as connection:
        before = connection.execute(stored).all()
        changed = connection.execute(text(f"update kline.candles {change} where close = 2")).rowcount

    again, third = land(partition), land(partition)

    assert again.sha256 == third.sha256 == partition.sha256
    assert bool(again.written) == bool(changed)
    assert third.written == 0
    with database.engine.begin() as connection:
        assert connection.execute(stored).all() == before


@pytest.mark.parametrize("land", ["postgres"], indirect=True)
def test_a_row_moved_by_less_than_a_millisecond_is_put_back(land: Land, database: Database) -> None:
    partition = to_land(OLD, ["1", "2"])
    land(partition)
    with database.engine.begin() as connection:
        connection.execute(text("update kline.candles set open_time = open_time + interval '300 us' where close = 2"))

    again = land(partition)

    assert (again.written, again.sha256) == (2, partition.sha256)
    with database.engine.begin() as connection:
        assert connection.execute(
            text("select max(extract(epoch from open_time)) * 1000 from kline.candles")
        ).scalar_one() == at(1)


@pytest.mark.parametrize("land", ["postgres"], indirect=True)
def test_columns_that_changed_places_are_noticed_though_no_row_was_written(land: Land, database: Database) -> None:
    partition = to_land(OLD, ["1", "2"])
    land(partition)
    with database.engine.begin() as connection:
        for old, new in (("close", "was"), ("volume", "close"), ("was", "volume")):
            connection.execute(text(f"alter table kline.candles rename {old} to {new}"))

    again = land(partition)

    assert (again.written, again.sha256) == (1, partition.sha256)


@pytest.mark.parametrize("land", ["postgres"], indirect=True)
def test_a_number_written_by_hand_with_more_zeros_is_the_same_number(land: Land, database: Database) -> None:
    partition = to_land(OLD, ["1", "2"])
    land(partition)
    with database.engine.begin() as connection:
        assert connection.execute(text("update kline.candles set close = 2.000 where close = 2")).rowcount == 1

    again = land(partition)

    assert (again.written, again.sha256) == (0, partition.sha256)


def test_a_fingerprint_that_another_server_would_not_give_is_renewed(database: Database, land: Land) -> None:
    partition = to_land(OLD, ["1", "2"])
    first = land(partition)
    with database.engine.begin() as connection:
        connection.execute(text("update kline.coverage set postgres_fingerprint = '0', parquet_fingerprint = '0'"))

    again = land(partition)

    assert (again.written, again.sha256, again.fingerprint) == (0, first.sha256, first.fingerprint)


def test_a_snapshot_written_anew_with_the_same_candles_is_what_landed(database: Database, settings: Settings) -> None:
    folder, partition = Folder(settings.snapshot_url), to_land(OLD, ["1", "2"])
    name = candles_parquet.path(partition.series, partition.date)
    table = snapshot_table(("linear", "BTCUSDT", "1"), partition.candles)
    folder.replace(name, candles_parquet.encode(table))
    proof = {"sha256": partition.sha256, "fingerprint": "of other bytes"}

    assert candles_parquet.read(folder, partition.series, partition.date, **proof) == table
    folder.replace(name, candles_parquet.encode(table.slice(1)))
    with pytest.raises(CorruptFile, match="rebuild linear:BTCUSDT:1"):
        candles_parquet.read(folder, partition.series, partition.date, **proof)


def test_a_snapshot_that_was_replaced_while_it_waited_for_its_turn_is_put_back(
    database: Database, settings: Settings
) -> None:
    folder, partition = Meddled(settings.snapshot_url), to_land(NEW, ["1", "2"], ("parquet",))
    record(database, partition)
    candles_parquet.land(database, folder, partition)
    (file,) = Path(settings.snapshot_url).rglob("*.parquet")
    right = file.read_bytes()
    other = to_land(NEW, ["1", "3"])
    folder.meddling = candles_parquet.encode(snapshot_table(("linear", "BTCUSDT", "1"), other.candles))

    held = candles_parquet.land(database, folder, partition)

    assert (held.sha256, held.written) == (partition.sha256, 2)
    assert file.read_bytes() == right


def test_the_same_candles_are_the_same_bytes() -> None:
    partition = to_land(OLD, ["1.5", "2"])

    in_pieces = pa.concat_tables([partition.candles.slice(0, 1), partition.candles.slice(1)])

    first, again = (
        candles_parquet.encode(snapshot_table(("linear", "BTCUSDT", "1"), candles))
        for candles in (partition.candles, in_pieces)
    )

    assert first == again


def test_a_landing_that_is_rolled_back_leaves_neither_rows_nor_ledger(database: Database) -> None:
    with pytest.raises(LookupError, match="derive before landing"):
        candles_postgres.land(database, to_land(OLD, ["1", "2"]))

    with database.engine.begin() as connection:
        assert connection.execute(text("select count(*) from kline.candles")).scalar() == 0
