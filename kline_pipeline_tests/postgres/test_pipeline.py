"""The whole flow against a simulated exchange and a real PostgreSQL; every promise is broken on purpose."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from kline_pipeline.candles.store import CandleStore
from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import CorruptFile, DatasetsError, ExchangeUnavailable, StorageError, VenueMismatch
from kline_pipeline.files import Folder
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.window import iso, to_ms
from kline_pipeline_tests.worlds import HOURLY, MINUTELY, World, ms, world

JANUARY, FEBRUARY, MARCH = "2024-01-01", "2024-02-01", "2024-03-01"
HOLE = "2024-02-10T07:00:00Z"


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


def drop(sim: World, at: str = HOLE, interval: str = "60") -> None:
    sim.exchange.faults.add(
        [{"drop": {"category": "linear", "symbol": "BTCUSDT", "interval": interval, "open_time": at}}]
    )


def snapshot(sim: World, day: str, symbol: str = "BTCUSDT", interval: str = "60") -> Path:
    return Path(sim.settings.snapshot_url) / "linear" / interval / symbol / f"{day}.parquet"


def truth(sim: World, interval: str, start: str, end: str, symbol: str = "BTCUSDT") -> list[tuple[object, ...]]:
    """Ask the exchange itself, page by page, oldest first, as numbers."""
    step = 60_000 * int(interval)
    rows = []
    for first in range(ms(start), ms(end), 1000 * step):
        last = min(first + 999 * step, ms(end) - step)
        query = {"category": "linear", "symbol": symbol, "interval": interval, "start": str(first), "end": str(last)}
        answer = sim.exchange.handle("GET", "/v5/market/kline", {**query, "limit": "1000"})
        rows += reversed(json.loads(answer.body)["result"]["list"])
    return [(int(row[0]), *(Decimal(text) for text in row[1:])) for row in rows]


def test_what_lands_is_exactly_what_the_exchange_said(sim: World) -> None:
    landed = sim.run(MINUTELY, (JANUARY, "BTCUSDT"))

    stored = sim.table("linear:BTCUSDT:1")
    assert len(stored) == 44_640
    assert stored == truth(sim, "1", "2024-01-01", "2024-02-01")
    file = pq.read_table(snapshot(sim, JANUARY, interval="1"))
    columns = [file["open_time"].cast("int64").to_pylist(), *(file[name].to_pylist() for name in file.column_names[4:])]
    assert list(zip(*columns, strict=True)) == stored
    assert all(one.result.passed for pair in landed.values() for one in pair)


def test_a_month_of_minutes_is_45_requests_and_a_second_run_none(sim: World) -> None:
    sim.run(MINUTELY, (JANUARY, "BTCUSDT"))
    first = sim.pages("1")
    before = snapshot(sim, JANUARY, interval="1").stat()

    again = sim.run(MINUTELY, (JANUARY, "BTCUSDT"))

    assert first - 45 <= 1  # the probe of the listing reads one page of minutes at most
    assert sim.pages("1") == first
    assert [one.written for one in again[Cell(date(2024, 1, 1), "BTCUSDT")]] == [0, 0]
    after = snapshot(sim, JANUARY, interval="1").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_neighbouring_partitions_are_one_span_of_full_pages(sim: World) -> None:
    sim.run(HOURLY, (JANUARY, "BTCUSDT"))
    alone = sim.pages("60")

    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"), (MARCH, "BTCUSDT"))

    assert sim.pages("60") - alone == 2  # 696 + 743 hours


def test_landing_a_partition_leaves_its_neighbours_alone(sim: World) -> None:
    cells = ((JANUARY, "BTCUSDT"), (FEBRUARY, "BTCUSDT"), (FEBRUARY, "ETHUSDT"))
    sim.run(HOURLY, *cells)

    again = sim.run(HOURLY, *cells)

    assert [one.written for pair in again.values() for one in pair] == [0] * 6
    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-01-01", "2024-03-01")


def test_a_dropped_candle_keeps_its_month_out_and_only_its_month(sim: World) -> None:
    drop(sim)

    landed = sim.run(HOURLY, (JANUARY, "BTCUSDT"), (FEBRUARY, "BTCUSDT"), (MARCH, "BTCUSDT"))

    passed = {cell.date.isoformat(): [one.result.passed for one in pair] for cell, pair in landed.items()}
    assert passed == {JANUARY: [True, True], FEBRUARY: [False, False], MARCH: [True, True]}
    stored = [row[0] for row in sim.table("linear:BTCUSDT:60")]
    assert not [time for time in stored if ms("2024-02-01") <= time < ms("2024-03-01")]
    assert len(stored) == 2 * 744
    assert not snapshot(sim, FEBRUARY).exists()
    verdict = sim.pipeline.verdict(HOURLY, Cell(date(2024, 2, 1), "BTCUSDT"))
    assert HOLE in verdict.reasons[0]
    assert verdict.results["no_gaps"].counts["missing"] == 1


def test_a_gap_is_asked_once_more_before_it_counts(sim: World) -> None:
    sim.exchange.faults.add(
        [{"drop": {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE, "times": 1}}]
    )

    landed = sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert all(one.result.passed for pair in landed.values() for one in pair)


def test_after_the_fault_only_what_was_missing_is_fetched(sim: World) -> None:
    drop(sim)
    sim.run(HOURLY, (JANUARY, "BTCUSDT"), (FEBRUARY, "BTCUSDT"))
    sim.exchange.faults.clear()
    before = sim.exchange.stats.snapshot()["candles_served"]

    landed = sim.run(HOURLY, (JANUARY, "BTCUSDT"), (FEBRUARY, "BTCUSDT"))

    assert all(one.result.passed for pair in landed.values() for one in pair)
    assert sim.exchange.stats.snapshot()["candles_served"] - before == 1
    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-01-01", "2024-03-01")


def test_contradicting_rows_quarantine_and_a_later_single_answer_lands(sim: World) -> None:
    sim.exchange.faults.add(
        [{"contradict": {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE}}]
    )
    red = sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    verdict = sim.pipeline.verdict(HOURLY, Cell(date(2024, 2, 1), "BTCUSDT"))
    sim.exchange.faults.clear()
    sim.clock.now_ms += 1

    green = sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert not any(one.result.passed for pair in red.values() for one in pair)
    assert "two rows" in verdict.reasons[0]
    assert all(one.result.passed for pair in green.values() for one in pair)
    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-02-01", "2024-03-01")
    kept = sim.query("select kind, open_time from kline.candle_revisions")
    assert [(row.kind, to_ms(row.open_time)) for row in kept] == [("changed", ms("2024-02-10 07:00"))]


def test_an_exact_duplicate_is_stored_once(sim: World) -> None:
    sim.exchange.faults.add(
        [{"duplicate": {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE}}]
    )

    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    sim.exchange.faults.clear()

    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-02-01", "2024-03-01")
    assert sim.pipeline.verdict(HOURLY, Cell(date(2024, 2, 1), "BTCUSDT")).duplicates == 1


def test_the_open_candle_is_not_stored_before_it_has_closed(sim: World) -> None:
    april = ("2024-04-01", "BTCUSDT")

    sim.run(HOURLY, april)

    assert sim.table("linear:BTCUSDT:60")[-1][0] == ms("2024-04-10 11:00")
    sim.clock.now_ms = ms("2024-04-10 13:00:05")
    sim.run(HOURLY, april)
    assert sim.table("linear:BTCUSDT:60")[-1][0] == ms("2024-04-10 11:00"), "the grace is not over"
    sim.clock.now_ms = ms("2024-04-10 13:00:10")
    sim.run(HOURLY, april)
    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-04-01", "2024-04-10 13:00")


def test_of_an_open_partition_the_good_part_before_a_gap_lands(sim: World) -> None:
    drop(sim, "2024-04-05T00:00:00Z")

    landed = sim.run(HOURLY, ("2024-04-01", "BTCUSDT"))

    assert not any(one.result.passed for pair in landed.values() for one in pair)
    assert [row[0] for row in sim.table("linear:BTCUSDT:60")][-1] == ms("2024-04-04 23:00")
    assert len(pq.read_table(snapshot(sim, "2024-04-01"))) == 96


def test_an_open_partition_never_shrinks_what_a_sink_holds(sim: World) -> None:
    april = ("2024-04-01", "BTCUSDT")
    sim.run(HOURLY, april)
    held, file = sim.table("linear:BTCUSDT:60"), snapshot(sim, "2024-04-01").read_bytes()
    for batch in (Path(sim.settings.work_url) / "raw/linear/60/BTCUSDT/2024-04-01").iterdir():
        batch.unlink()
    sim.clock.now_ms += 1000
    drop(sim, "2024-04-05T00:00:00Z")

    landed = sim.run(HOURLY, april)

    assert not any(one.result.passed for pair in landed.values() for one in pair)
    assert sim.table("linear:BTCUSDT:60") == held
    assert snapshot(sim, "2024-04-01").read_bytes() == file


def test_a_refused_probe_leaves_what_was_proved_before(sim: World) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    sim.clock.now_ms += 8 * 86_400_000
    sim.exchange.faults.add([{"ret_code": {"code": 10001, "message": "Not supported symbols", "symbol": "BTCUSDT"}}])

    landed = sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert all(one.result.passed for pair in landed.values() for one in pair)


def test_a_row_deleted_by_hand_is_put_back(sim: World) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    sim.query("delete from kline.candles where open_time = '2024-02-10 07:00Z'")

    landed = sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert [pair[0].written for pair in landed.values()] == [1]
    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-02-01", "2024-03-01")


def test_a_row_changed_or_added_by_hand_is_made_right(sim: World) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    sim.query("update kline.candles set close = close + 0.1 where open_time = '2024-02-10 07:00Z'")
    sim.query(
        "insert into kline.candles select series_id, '2024-02-10 07:30Z', open, high, low, close, volume, turnover "
        "from kline.candles where open_time = '2024-02-10 07:00Z'"
    )

    landed = sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert [pair[0].written for pair in landed.values()] == [2]
    assert sim.table("linear:BTCUSDT:60") == truth(sim, "60", "2024-02-01", "2024-03-01")


@pytest.mark.parametrize("content", [b"", b"not parquet"])
def test_a_snapshot_spoilt_by_hand_is_written_again_byte_for_byte(sim: World, content: bytes) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    file = snapshot(sim, FEBRUARY)
    good = file.read_bytes()
    file.write_bytes(content)

    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert file.read_bytes() == good


def test_table_and_snapshots_are_rebuilt_from_raw_batches_without_a_request(sim: World) -> None:
    cell = Cell(date(2024, 2, 1), "BTCUSDT")
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    stored, file = sim.table("linear:BTCUSDT:60"), snapshot(sim, FEBRUARY).read_bytes()
    sim.query("delete from kline.candles")
    snapshot(sim, FEBRUARY).unlink()
    asked = sum(sim.client.requests.values())

    sim.pipeline.derive(HOURLY, [cell], now_ms=sim.clock())
    sim.pipeline.land_postgres(HOURLY, [cell])
    sim.pipeline.land_parquet(HOURLY, [cell])

    assert sim.table("linear:BTCUSDT:60") == stored
    assert snapshot(sim, FEBRUARY).read_bytes() == file
    assert sum(sim.client.requests.values()) == asked


def test_an_older_derivation_steps_back_before_a_newer_landing(sim: World) -> None:
    cell = Cell(date(2024, 2, 1), "BTCUSDT")
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    raw = Path(sim.settings.work_url) / "raw/linear/60/BTCUSDT/2024-02-01"
    sim.clock.now_ms += 1000
    (raw.parent / "aside").mkdir()
    for batch in raw.iterdir():
        batch.rename(raw.parent / "aside" / batch.name)
    sim.exchange.faults.add(
        [{"correct": {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": HOLE, "volume": "1"}}]
    )
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    newer = sim.table("linear:BTCUSDT:60")
    verdict = sim.pipeline.verdict(HOURLY, cell)
    for batch in raw.iterdir():
        batch.unlink()
    for batch in (raw.parent / "aside").iterdir():
        batch.rename(raw / batch.name)

    stepped_back = sim.pipeline.derive(HOURLY, [cell], now_ms=sim.clock())
    sim.pipeline.land_postgres(HOURLY, [cell])
    sim.pipeline.land_parquet(HOURLY, [cell])

    assert stepped_back[cell] == sim.pipeline.verdict(HOURLY, cell) == verdict
    assert sim.table("linear:BTCUSDT:60") == newer
    assert next(row for row in newer if row[0] == ms("2024-02-10 07:00"))[5] == Decimal(1)


def test_partitions_before_the_listing_are_empty_and_say_so(sim: World) -> None:
    early = Dataset("linear", Interval("60"), date(2020, 1, 1), "month", ("BTCUSDT",))

    landed = sim.run(early, ("2020-01-01", "BTCUSDT"), (MARCH.replace("2024", "2020"), "BTCUSDT"))

    assert all(one.result.passed for pair in landed.values() for one in pair)
    assert sim.pipeline.verdict(early, Cell(date(2020, 1, 1), "BTCUSDT")).not_listed
    assert sim.table("linear:BTCUSDT:60")[0][0] == ms("2020-03-25 10:00")


def test_an_unknown_symbol_is_quarantined_and_the_others_land(sim: World) -> None:
    landed = sim.run(HOURLY, (FEBRUARY, "NOSUCHUSDT"), (FEBRUARY, "BTCUSDT"))

    assert {cell.symbol: pair[0].result.passed for cell, pair in landed.items()} == {
        "NOSUCHUSDT": False,
        "BTCUSDT": True,
    }
    assert "refused" in sim.pipeline.verdict(HOURLY, Cell(date(2024, 2, 1), "NOSUCHUSDT")).reasons[0]


def test_an_exchange_that_is_down_raises_and_keeps_what_had_come(sim: World) -> None:
    sim.pipeline.listing("linear", "BTCUSDT", now_ms=sim.clock())
    sim.exchange.faults.add([{"http": {"status": 503, "path": "kline"}}])

    with pytest.raises(ExchangeUnavailable):
        sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert sim.table("linear:BTCUSDT:60") == []


def test_a_sink_that_failed_is_not_hidden_by_an_exchange_that_failed_after_it(sim: World) -> None:
    sim.pipeline.fill(HOURLY, [Cell(date(2024, 1, 1), "BTCUSDT")])
    sim.exchange.faults.add([{"http": {"status": 503, "path": "kline"}}])
    (Path(sim.settings.snapshot_url) / "linear").write_text("a file where a folder belongs")

    with pytest.raises(StorageError, match="linear") as raised:
        sim.pipeline.run(HOURLY, [Cell(date(2024, month, 1), "BTCUSDT") for month in (1, 2)])

    assert isinstance(raised.value.__cause__, ExchangeUnavailable)


def test_of_more_partitions_than_may_wait_at_once_all_land(sim: World) -> None:
    cells = [Cell(date(2022 + month // 12, month % 12 + 1, 1), "BTCUSDT") for month in range(20)]
    sim.pipeline.fill(HOURLY, cells)

    passed = sim.pipeline.run(HOURLY, cells)

    assert list(passed) == cells
    assert all(one.landed for one in passed.values())


def test_rows_of_another_symbol_are_never_taken(sim: World) -> None:
    sim.pipeline.listing("linear", "BTCUSDT", now_ms=sim.clock())
    sim.exchange.faults.add([{"wrong_symbol": {"answer": "ETHUSDT"}}])

    with pytest.raises(Exception, match="ETHUSDT"):
        sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    assert sim.table("linear:BTCUSDT:60") == []


def test_a_raw_batch_that_was_changed_stops_the_derivation(sim: World) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    file = next((Path(sim.settings.work_url) / "raw/linear/60/BTCUSDT/2024-02-01").iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    with pytest.raises(CorruptFile, match="digest differs"):
        sim.pipeline.derive(HOURLY, [Cell(date(2024, 2, 1), "BTCUSDT")], now_ms=sim.clock())


def test_working_candles_that_are_not_those_judged_never_land(sim: World) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    series, cell = HOURLY.series("BTCUSDT"), Cell(date(2024, 2, 1), "BTCUSDT")
    working = CandleStore(Folder(sim.settings.work_url))
    found = working.read(series, cell.date)
    assert found is not None
    working.write(series, cell.date, found.candles.slice(1), msgspec.json.decode(found.verdict, type=Verdict))
    snapshot(sim, FEBRUARY).unlink()
    sim.query("truncate kline.candles")

    for land in (sim.pipeline.land_parquet, sim.pipeline.land_postgres):
        with pytest.raises(CorruptFile, match="not those judged"):
            land(HOURLY, [cell])

    assert not snapshot(sim, FEBRUARY).exists()
    assert sim.table("linear:BTCUSDT:60") == []
    verified = sim.pipeline.verify(HOURLY, cell, declared=[HOURLY], now_ms=sim.clock())
    assert "not those judged" in verified.disagreements[0]
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    assert snapshot(sim, FEBRUARY).exists()
    assert len(sim.table("linear:BTCUSDT:60")) == 696


def test_stores_of_one_exchange_refuse_another(sim: World, settings: Settings, database: Database) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))

    with world(settings, database, seed=8) as other, pytest.raises(VenueMismatch, match="simulated-seed-7"):
        other.run(HOURLY, (FEBRUARY, "BTCUSDT"))


def test_the_grain_of_a_dataset_that_holds_data_is_fixed(sim: World) -> None:
    sim.run(HOURLY, (FEBRUARY, "BTCUSDT"))
    daily = Dataset("linear", Interval("60"), date(2024, 1, 1), "day", ("BTCUSDT",))

    with pytest.raises(DatasetsError, match='grain = "month"'):
        sim.run(daily, (FEBRUARY, "BTCUSDT"))


def test_one_result_over_all_that_is_stored_names_the_bad_partition(sim: World) -> None:
    drop(sim)
    sim.run(HOURLY, (JANUARY, "BTCUSDT"), (FEBRUARY, "BTCUSDT"))

    gaps = sim.pipeline.judge_stored(HOURLY, "no_gaps")
    agrees = sim.pipeline.judge_stored(HOURLY, "postgres_agrees")

    assert (gaps.passed, gaps.counts["partitions"], gaps.counts["failed"]) == (False, 2, 1)
    assert "BTCUSDT 2024-02-01" in gaps.offenders[0].what
    assert not agrees.passed
    assert sim.pipeline.judge_stored(HOURLY, "no_duplicates").passed


def test_the_ledger_tells_what_landed_per_partition_and_day(sim: World) -> None:
    drop(sim)
    sim.run(HOURLY, (JANUARY, "BTCUSDT"), (FEBRUARY, "BTCUSDT"))

    states = sim.query("select state, expected, present, missing from kline.coverage order by date")
    days = sim.query("select day, expected, present from kline.coverage_days order by day")

    assert [tuple(row) for row in states] == [("landed", 744, 744, 0), ("quarantined", 696, 695, 1)]
    assert (len(days), days[0].day, days[-1].day) == (60, date(2024, 1, 1), date(2024, 2, 29))
    assert {row.expected for row in days} == {24}
    assert [(row.day, row.present) for row in days if row.present != 24] == [(date(2024, 2, 10), 23)]


def test_a_partition_has_landed_only_when_every_sink_holds_it(sim: World) -> None:
    cells = [Cell(date(2024, 1, 1), "BTCUSDT")]
    sim.pipeline.fill(HOURLY, cells)
    sim.pipeline.derive(HOURLY, cells, now_ms=sim.clock())
    states: list[Any] = []
    for land in (sim.pipeline.land_postgres, sim.pipeline.land_parquet):
        states += sim.query("select state from kline.coverage")
        land(HOURLY, cells)
    states += sim.query("select state from kline.coverage")

    assert [row.state for row in states] == ["pending", "pending", "landed"]


def test_times_of_the_ledger_and_of_listings_are_utc(sim: World) -> None:
    sim.run(HOURLY, (JANUARY, "BTCUSDT"))

    ledger = sim.query("select window_start, window_end, first_open_time, last_open_time from kline.coverage")[0]
    listing = sim.query("select listed_from, listed_until, probed_at from kline.listings")[0]

    assert [iso(to_ms(moment)) for moment in ledger] == [
        "2024-01-01T00:00:00Z",
        "2024-02-01T00:00:00Z",
        "2024-01-01T00:00:00Z",
        "2024-01-31T23:00:00Z",
    ]
    assert iso(to_ms(listing.listed_from)) == "2020-03-25T10:36:00Z"
    assert listing.listed_until is None
    assert to_ms(listing.probed_at) == sim.clock()
