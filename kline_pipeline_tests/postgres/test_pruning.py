"""Raw batches go when newer ones say all they say; whatever is killed, and in whatever order, the same remains."""

import shutil
from collections.abc import Iterator
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from kline_pipeline.candles.derive import Generation
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell
from kline_pipeline.errors import CorruptFile
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

APRIL = Cell(date(2024, 4, 1), "BTCUSDT")
HOLE = "2024-04-09T07:00"


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    """A world in which April was fetched in three steps, the last one before its end."""
    with world(settings, database) as made:
        for now in ("2024-04-10 12:34", "2024-04-10 15:34", "2024-04-20 15:34"):
            made.clock.now_ms = ms(now)
            run(made)
        made.clock.now_ms = ms("2024-05-01 00:10")
        yield made


def run(one: World) -> bool:
    landed = one.run(HOURLY, (APRIL.date.isoformat(), APRIL.symbol))
    return all(each.result.passed for pair in landed.values() for each in pair)


def folder(one: World) -> Path:
    return one.settings.home / "work/raw/linear/60/BTCUSDT/2024-04-01"


def batches(one: World) -> set[str]:
    return {path.name for path in folder(one).iterdir()}


def state(one: World) -> tuple[list[Any], bytes, list[Any]]:
    """Return what the table, the snapshot and the ledger hold, whatever way it came there."""
    ledger = one.query(
        "select state, expected, present, missing, known_missing, sha256, read_whole, postgres_sha256, parquet_sha256, "
        "generation = postgres_generation and generation = parquet_generation from kline.coverage"
    )
    file = one.settings.home / "snapshots/linear/60/BTCUSDT/2024-04-01.parquet"
    return one.table("linear:BTCUSDT:60"), file.read_bytes(), [tuple(row) for row in ledger]


def epoch(one: World) -> int:
    return int(one.query("select prune_epoch from kline.coverage")[0][0])


def test_small_batches_go_when_the_month_was_read_whole(sim: World) -> None:
    before = batches(sim)
    assert len(before) == 3
    assert run(sim)
    assert len(batches(sim)) == 1
    assert batches(sim).isdisjoint(before)
    assert epoch(sim) == 1
    assert sim.pipeline.verify(HOURLY, APRIL, declared=[HOURLY], now_ms=sim.clock()).disagreements == ()
    assert run(sim)
    assert epoch(sim) == 1, "there was nothing to prune"


def test_while_a_month_is_open_nothing_is_pruned(sim: World) -> None:
    assert (len(batches(sim)), epoch(sim)) == (3, 0)


def test_what_differed_is_recorded_before_the_older_answer_goes(sim: World) -> None:
    about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE}
    sim.exchange.faults.add([{"correct": {**about, "volume": "1"}}])
    cells = [APRIL]
    sim.pipeline.fill(HOURLY, cells)
    verdict = sim.pipeline.derive(HOURLY, cells, now_ms=sim.clock())[APRIL]
    assert verdict.revisions == 1
    assert len(batches(sim)) == 1
    assert [row.kind for row in sim.query("select kind from kline.candle_revisions")] == ["changed"]


def test_the_last_batch_that_has_a_vanished_candle_stays(sim: World) -> None:
    about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE}
    sim.exchange.faults.add([{"drop": about}])
    before = batches(sim)
    assert run(sim)
    assert len(batches(sim) & before) == 1
    assert len(sim.table("linear:BTCUSDT:60")) == 720
    assert sim.pipeline.verify(HOURLY, APRIL, declared=[HOURLY], now_ms=sim.clock()).disagreements == ()


def test_of_a_quarantined_month_nothing_is_pruned(sim: World) -> None:
    about = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-04-25T07:00"}
    sim.exchange.faults.add([{"drop": about}])
    assert not run(sim)
    assert len(batches(sim)) == 5  # the three of before, the whole month, and the hour asked once more
    assert epoch(sim) == 0


@pytest.mark.parametrize("killed", ["before the first file", "between two files", "after the last file"])
def test_a_killed_prune_is_harmless(sim: World, tmp_path: Path, killed: str) -> None:
    before = batches(sim)
    kept = shutil.copytree(folder(sim), tmp_path / "kept")
    assert run(sim)
    whole = state(sim)
    # What a kill leaves: the epoch of the pruning, and the ledger and the sinks as the derivation before it wrote them.
    back = {"before the first file": 3, "between two files": 2, "after the last file": 0}[killed]
    for name in sorted(before)[:back]:
        shutil.copy(kept / name, folder(sim) / name)
    parts = Generation.parse(sim.query("select generation from kline.coverage")[0][0])
    earlier = f"0/{parts.server_time_ms}/4/{'f' * 16}"
    sim.query("update kline.coverage set generation = :g, postgres_generation = :g, parquet_generation = :g", g=earlier)
    sim.pipeline.derive(HOURLY, [APRIL], now_ms=sim.clock())
    sim.pipeline.land_parquet(HOURLY, [APRIL])
    sim.pipeline.land_postgres(HOURLY, [APRIL])
    assert state(sim) == whole
    assert batches(sim).isdisjoint(before)
    assert run(sim)
    assert state(sim) == whole


STEPS = ("derive", "land_postgres", "land_parquet", "fill")


@pytest.mark.parametrize("order", list(permutations(STEPS))[::5])
def test_in_any_order_the_same_remains(sim: World, order: tuple[str, ...]) -> None:
    sim.pipeline.fill(HOURLY, [APRIL])
    for step in order:
        options = {"now_ms": sim.clock()} if step == "derive" else {}
        getattr(sim.pipeline, step)(HOURLY, [APRIL], **options)
    assert run(sim)
    table, _, ledger = state(sim)
    assert len(table) == 720
    assert (ledger[0][0], ledger[0][1:5], ledger[0][6], ledger[0][-1]) == ("landed", (720, 720, 0, 0), True, True)
    assert len(batches(sim)) == 1


def test_a_landing_from_before_the_pruning_steps_back(sim: World) -> None:
    working = sim.settings.home / "work/candles/linear/60/BTCUSDT/2024-04-01.parquet"
    old = working.read_bytes()
    assert run(sim)
    whole = state(sim)
    working.write_bytes(old)
    landings = sim.pipeline.land_postgres(HOURLY, [APRIL]), sim.pipeline.land_parquet(HOURLY, [APRIL])
    assert all(landing[APRIL].stepped_back for landing in landings)
    assert state(sim) == whole


def test_a_generation_of_a_release_without_pruning_is_of_epoch_0() -> None:
    assert Generation.parse("1704067200000/3/abc") == Generation(0, 1_704_067_200_000, 3, "abc")
    assert Generation.parse("1704067200000/3/abc") < Generation(1, 1, 1, "abc")
    assert Generation.parse(str(Generation(2, 1, 1, "abc"))) == Generation(2, 1, 1, "abc")


def test_a_spoilt_batch_is_broken_moved_aside_and_read_again(sim: World) -> None:
    assert run(sim)
    whole = state(sim)
    (file,) = folder(sim).iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert sim.pipeline.broken(HOURLY, [APRIL], declared=[HOURLY], now_ms=sim.clock()) == [APRIL]
    with pytest.raises(CorruptFile, match="digest differs"):
        sim.pipeline.derive(HOURLY, [APRIL], now_ms=sim.clock())
    asked = sim.pages("60")
    assert run(sim)
    assert sim.pages("60") - asked == 1
    assert state(sim) == whole
    assert (sim.settings.home / "work/corrupt/linear/60/BTCUSDT/2024-04-01" / file.name).exists()
    assert sim.pipeline.broken(HOURLY, [APRIL], declared=[HOURLY], now_ms=sim.clock()) == []


def test_what_a_sink_lost_is_broken(sim: World) -> None:
    assert run(sim)
    sim.query("delete from kline.candles where open_time = '2024-04-10 05:00Z'")
    assert sim.pipeline.broken(HOURLY, [APRIL], declared=[HOURLY], now_ms=sim.clock()) == [APRIL]
    assert run(sim)
    assert sim.pipeline.broken(HOURLY, [APRIL], declared=[HOURLY], now_ms=sim.clock()) == []
    (sim.settings.home / "snapshots/linear/60/BTCUSDT/2024-04-01.parquet").write_bytes(b"spoilt")
    assert sim.pipeline.broken(HOURLY, [APRIL], declared=[HOURLY], now_ms=sim.clock()) == [APRIL]
