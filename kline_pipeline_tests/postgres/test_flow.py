"""All stages of a range at once: the same stored as one after the other, and what fails stops all of it."""

import shutil
import signal
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell
from kline_pipeline.errors import ExchangeUnavailable, StorageError
from kline_pipeline.stages.fill import Fill
from kline_pipeline.stages.flow import Flow, Passed
from kline_pipeline.stages.stores import Stores
from kline_pipeline_tests.worlds import HOURLY, World, world

MONTHS = [date(2024, month, 1) for month in (1, 2, 3)]
CELLS = [Cell(day, symbol) for symbol in ("BTCUSDT", "ETHUSDT") for day in MONTHS]
HOLE = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-02-10T07:00:00Z"}


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


def snapshots(sim: World) -> dict[str, bytes]:
    folder = Path(sim.settings.snapshot_url)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_stages_side_by_side_store_what_stages_in_turn_store(sim: World) -> None:
    told: list[Cell] = []

    passed = sim.pipeline.run(HOURLY, CELLS, report=lambda cell, _: told.append(cell))

    side_by_side = snapshots(sim), sim.table("linear:BTCUSDT:60"), sim.table("linear:ETHUSDT:60")
    assert list(passed) == CELLS
    assert sorted(told) == sorted(CELLS)
    assert all(one.landed for one in passed.values())
    sim.query("truncate kline.candles, kline.coverage")
    shutil.rmtree(sim.settings.snapshot_url)
    shutil.rmtree(sim.settings.work_url)
    sim.run(HOURLY, *((cell.date.isoformat(), cell.symbol) for cell in CELLS))
    assert (snapshots(sim), sim.table("linear:BTCUSDT:60"), sim.table("linear:ETHUSDT:60")) == side_by_side


def test_a_second_passage_asks_and_writes_nothing(sim: World) -> None:
    sim.pipeline.run(HOURLY, CELLS)
    asked = sim.pages("60")

    again = sim.pipeline.run(HOURLY, CELLS)

    assert sim.pages("60") == asked
    assert {landing.written for one in again.values() for landing in one.landings.values()} == {0}
    assert all(one.filled.held for one in again.values())


def test_a_dropped_candle_keeps_its_month_out_and_only_its_month(sim: World) -> None:
    sim.exchange.faults.add([{"drop": HOLE}])

    passed = sim.pipeline.run(HOURLY, CELLS)

    bad = Cell(MONTHS[1], "BTCUSDT")
    assert [cell for cell, one in passed.items() if not one.landed] == [bad]
    assert passed[bad].verdict.missing == 1
    assert len(snapshots(sim)) == len(CELLS) - 1
    sim.exchange.faults.clear()
    mended = sim.pipeline.run(HOURLY, CELLS)
    assert all(one.landed for one in mended.values())
    assert sum(one.filled.requests for one in mended.values()) == 1


def test_what_was_complete_has_landed_when_the_exchange_breaks_off(sim: World) -> None:
    for symbol in HOURLY.symbols:
        sim.pipeline.listing("linear", symbol, now_ms=sim.clock())
    sim.exchange.faults.add([{"http": {"status": 503, "path": "kline", "query": {"symbol": "ETHUSDT"}}}])
    told: list[tuple[Cell, bool]] = []

    with pytest.raises(ExchangeUnavailable):
        sim.pipeline.run(HOURLY, CELLS, report=lambda cell, one: told.append((cell, one.landed)))

    assert sorted(told) == [(cell, True) for cell in sorted(CELLS) if cell.symbol == "BTCUSDT"]


@pytest.mark.parametrize("cells", [CELLS, CELLS[:1]])
def test_a_sink_that_fails_ends_the_passage_with_its_reason(sim: World, cells: list[Cell]) -> None:
    sim.pipeline.claim()
    folder = Path(sim.settings.snapshot_url)
    (folder / "linear").write_text("where a folder is to be")

    with pytest.raises(StorageError, match="linear"):
        sim.pipeline.run(HOURLY, cells)

    assert snapshots(sim) == {}


def test_an_interrupt_ends_what_has_begun_and_begins_nothing_else(sim: World) -> None:
    *held, last = [Cell(date(2022 + month // 12, month % 12 + 1, 1), "BTCUSDT") for month in range(12)]
    sim.pipeline.fill(HOURLY, held)
    first, interrupted, landed = threading.Event(), threading.Event(), list[Cell]()

    def report(cell: Cell, _passed: Passed) -> None:
        landed.append(cell)
        first.set()
        assert interrupted.wait(60)  # till then no other lands

    def interrupt(_done: int, _planned: int) -> None:  # the page of the last one: all others wait to be derived
        assert first.wait(60)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            interrupted.set()

    fill = Fill(Stores.open(sim.settings, sim.database), sim.client, HOURLY, 1, sim.clock(), on_pages=interrupt)
    with pytest.raises(KeyboardInterrupt):
        Flow(fill, sim.clock(), report).run([*held, last])

    assert 1 <= len(landed) < 6
    assert len(sim.table("linear:BTCUSDT:60")) < 6 * 744
