"""The sensors that follow the exchange and ask it again, against a simulator on loopback with a clock of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance

from kline_pipeline import cli, datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.definitions import definitions_of
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.symbols import known_symbols, remove_symbol, sync_symbols
from kline_pipeline.errors import ExchangeError
from kline_pipeline.evidence import instruments, listings
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.worlds import Clock, ms

# NEW2305USDT is listed on 2023-05-01 at 08:00 and delisted on 2024-05-16 at 09:00; NEW2405USDT comes on 2024-05-01.
NEWEST = '{ quote = "USDT", pattern = "NEW2[34]0[56]*" }'


def declare(settings: Settings, *lines: str) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    text = "\n".join(['[[dataset]]\ncategory = "linear"\ninterval = "60"\nstart = 2024-01-01', *lines])
    (settings.home / "datasets.toml").write_text(text + "\n")


@pytest.fixture
def clock() -> Clock:
    return Clock(ms("2024-04-20 12:00:00"))


@pytest.fixture
def exchange(clock: Clock) -> Exchange:
    return Exchange(SyntheticHistory(7, now_ms=ms("2025-01-01")), clock=clock, requests_per_5s=10**9)


@pytest.fixture
def world(exchange: Exchange, tell_environment: Callable[[str], Any], settings: Settings) -> Iterator[Settings]:
    """Settings as the code server finds them, with one hourly dataset that follows."""
    with SimulatorServer(exchange) as server:
        tell_environment(server.url)
        declare(settings, 'symbols = ["BTCUSDT"]', f"follow = {NEWEST}")
        yield Settings.load()


@pytest.fixture
def instance(world: Settings) -> Iterator[DagsterInstance]:
    with open_instance(world) as opened:
        yield opened


def dataset_of(settings: Settings) -> Dataset:
    (dataset,) = datasets.load(settings.datasets_file)
    return dataset


def tick(instance: DagsterInstance, settings: Settings, name: str = "follow_linear_60", cursor: str = "") -> Any:
    """Evaluate a sensor and add the symbols that it asks for, as the daemon does."""
    repository = definitions_of([dataset_of(settings)]).get_repository_def()
    context = dg.build_sensor_context(instance, repository_def=repository, cursor=cursor or None)
    result = repository.get_sensor_def(name).evaluate_tick(context)
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return result


def status(database: Database, symbol: str) -> str:
    with database.engine.begin() as connection:
        return instruments.seen(connection, "linear")[symbol].status


def test_declared_and_fitting_symbols_are_added_once_and_all_that_was_seen_is_kept(
    instance: DagsterInstance, world: Settings, database: Database
) -> None:
    assert tick(instance, world).dynamic_partitions_requests
    assert known_symbols(instance, dataset_of(world)) == ["BTCUSDT", "NEW2305USDT", "NEW2306USDT"]
    again = tick(instance, world)
    assert not again.dynamic_partitions_requests
    assert "has the 3 symbols it is to have" in again.skip_message
    assert status(database, "NEW2405USDT") == "PreLaunch"


def test_what_is_newly_listed_is_added_when_it_has_a_candle(
    instance: DagsterInstance, world: Settings, clock: Clock
) -> None:
    tick(instance, world)
    clock.now_ms = ms("2024-05-01 07:00:00")
    tick(instance, world)
    assert "NEW2405USDT" not in known_symbols(instance, dataset_of(world))
    clock.now_ms = ms("2024-05-01 08:10:00")
    tick(instance, world)
    assert "NEW2405USDT" in known_symbols(instance, dataset_of(world))


def test_an_announced_symbol_without_a_candle_waits(instance: DagsterInstance, world: Settings) -> None:
    declare(world, 'follow = { status = "PreLaunch" }')
    told = tick(instance, world)
    assert known_symbols(instance, dataset_of(world)) == []
    assert "Not yet, for want of a candle: NEW2405USDT" in told.skip_message


def test_a_delisted_symbol_stays_is_marked_and_its_grid_ends(
    instance: DagsterInstance, world: Settings, database: Database, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    tick(instance, world)
    clock.now_ms = ms("2024-06-20 12:00:00")  # Delivering for 30 days, and over
    told = tick(instance, world)
    assert "NEW2305USDT: delisted" in f"{told.skip_message}"
    assert "NEW2305USDT" in known_symbols(instance, dataset_of(world))
    assert status(database, "NEW2305USDT") == "Closed"
    with database.engine.begin() as connection:
        listing = listings.read(connection, "linear", "NEW2305USDT")
    assert listing is not None
    assert listing.lives[-1].end_ms == ms("2024-05-16 09:00:00")
    assert "delisted" not in f"{tick(instance, world).skip_message}"
    capsys.readouterr()
    assert cli.run(["series", "list"]) == 0
    printed = capsys.readouterr()
    assert "linear:NEW2305USDT:60" in printed.out.splitlines()
    assert "linear:NEW2305USDT:60 is delisted" in printed.err


def test_an_excluded_symbol_is_not_brought_back(instance: DagsterInstance, world: Settings) -> None:
    tick(instance, world)
    assert cli.run(["series", "remove", "linear:NEW2306USDT:60"]) == 0
    tick(instance, world)
    assert known_symbols(instance, dataset_of(world)) == ["BTCUSDT", "NEW2305USDT"]


def test_a_followed_symbol_is_backfilled_without_a_place_in_the_file(
    instance: DagsterInstance, world: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    tick(instance, world)
    before = (world.home / "datasets.toml").read_text()
    assert cli.run(["backfill", "linear:NEW2306USDT:60", "--from", "2024-03-01", "--to", "2024-03-31"]) == 0
    assert (world.home / "datasets.toml").read_text() == before
    capsys.readouterr()
    assert cli.run(["series", "list", "--json"]) == 0
    assert '{"series": "linear:NEW2306USDT:60", "declared": false, "delisted": false}' in capsys.readouterr().out


def test_an_exchange_that_cannot_be_asked_fails_the_tick_with_one_sentence_and_takes_nothing_away(
    instance: DagsterInstance, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick(instance, world)
    before = known_symbols(instance, dataset_of(world))
    monkeypatch.setenv("BYBIT_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BYBIT_RETRY_MAX_ATTEMPTS", "1")
    with pytest.raises(ExchangeError) as caught:
        tick(instance, world)
    assert "127.0.0.1:9" in str(caught.value)
    assert known_symbols(instance, dataset_of(world)) == before


def test_an_exchange_that_lists_nothing_at_all_is_not_believed(
    instance: DagsterInstance, world: Settings, clock: Clock, database: Database
) -> None:
    tick(instance, world)
    clock.now_ms = ms("1998-06-01")
    with pytest.raises(ExchangeError) as caught:
        tick(instance, world)
    assert "lists no linear instrument at all" in str(caught.value)
    assert status(database, "BTCUSDT") == "Trading"


def test_a_dataset_does_not_grow_beyond_what_dagster_holds(instance: DagsterInstance, world: Settings) -> None:
    declare(world, 'grain = "day"', 'symbols = ["BTCUSDT"]', f"follow = {NEWEST}")
    text = (world.home / "datasets.toml").read_text().replace("2024-01-01", "1700-01-01")
    (world.home / "datasets.toml").write_text(text)
    told = tick(instance, world)
    assert known_symbols(instance, dataset_of(world)) == []
    assert "none of 3 new symbols was added" in told.skip_message
    assert "Dagster holds 100,000 at most" in told.skip_message


def test_nothing_is_asked_again_before_anything_is_due(instance: DagsterInstance, world: Settings) -> None:
    sync_symbols(instance, dataset_of(world))
    assert "nothing is due" in tick(instance, world, "asking_again").skip_message


def test_what_no_daily_schedule_would_finish_is_asked_for_once_a_day(
    instance: DagsterInstance, world: Settings, exchange: Exchange
) -> None:
    declare(world, 'symbols = ["BTCUSDT"]', "schedule = { daily = false }")
    hole = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-02-10T05:00"}
    exchange.faults.replace([{"drop": hole}])
    assert cli.run(["backfill", "linear:BTCUSDT:60", "--from", "2024-02-01", "--to", "2024-03-31"]) == 1
    first = tick(instance, world, "asking_again")
    assert [one.tags["dagster/partition"] for one in first.run_requests] == ["2024-02-01|BTCUSDT"]
    assert first.run_requests[0].job_name == "repair_linear_60"
    assert tick(instance, world, "asking_again", first.cursor).run_requests == []
    # A tick that was cut short before its cursor was saved asks for the run by the same key.
    assert tick(instance, world, "asking_again").run_requests[0].run_key == first.run_requests[0].run_key


@pytest.mark.parametrize(
    ("job", "keys", "group", "left"),
    [
        ("repair_linear_60", ("2024-02-01|BTCUSDT",), None, True),
        ("__ASSET_JOB", ("2024-01-01|BTCUSDT", "2024-03-01|BTCUSDT"), "60", True),
        ("repair_linear_60", ("2024-03-01|BTCUSDT",), None, False),
        ("__ASSET_JOB", ("2024-01-01|BTCUSDT", "2024-03-01|BTCUSDT"), "1", False),
        ("repair_linear_1", ("2024-02-01|BTCUSDT",), None, False),
        ("repair_linear_60", ("2024-02-01|ETHUSDT",), None, False),
    ],
)
def test_what_a_run_is_about_to_make_is_left_to_it_whoever_started_it(
    instance: DagsterInstance,
    world: Settings,
    exchange: Exchange,
    job: str,
    keys: tuple[str, ...],
    group: str | None,
    left: bool,
) -> None:
    declare(world, 'symbols = ["BTCUSDT"]', "schedule = { daily = false }")
    hole = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-02-10T05:00"}
    exchange.faults.replace([{"drop": hole}])
    assert cli.run(["backfill", "linear:BTCUSDT:60", "--from", "2024-02-01", "--to", "2024-02-29"]) == 1
    names = ("asset_partition_range_start", "asset_partition_range_end") if len(keys) > 1 else ("partition",)
    run = dg.DagsterRun(
        job,
        tags={f"dagster/{name}": key for name, key in zip(names, keys, strict=True)},
        asset_selection={dg.AssetKey(["linear", group, "candles"])} if group else None,
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.add_run(run)
    first = tick(instance, world, "asking_again")
    assert [one.tags["dagster/partition"] for one in first.run_requests] == ([] if left else ["2024-02-01|BTCUSDT"])

    instance.report_run_canceled(run)
    asked = tick(instance, world, "asking_again", first.cursor)
    assert len(asked.run_requests) == (1 if left else 0)


def test_a_symbol_that_was_removed_is_not_asked_for(
    instance: DagsterInstance, world: Settings, exchange: Exchange
) -> None:
    declare(world, 'symbols = ["BTCUSDT"]', "schedule = { daily = false }")
    hole = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-02-10T05:00"}
    exchange.faults.replace([{"drop": hole}])
    assert cli.run(["backfill", "linear:BTCUSDT:60", "--from", "2024-02-01", "--to", "2024-02-29"]) == 1
    remove_symbol(instance, dataset_of(world), "BTCUSDT")
    assert tick(instance, world, "asking_again").run_requests == []
