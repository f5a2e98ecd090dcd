"""What a look at the exchange sees: it answers, hangs, refuses, is not asked; against the simulator on a real port."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.ratelimit import Lag, no_lag
from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.errors import ConfigError, RateLimited
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.metrics import CLOCK_SKEW, EXCHANGE_UP, PROBE_SECONDS
from kline_pipeline.service.exchange import Exchange
from kline_pipeline.service.exchange_looks import series_look, time_look
from kline_pipeline.service.probes import Look
from kline_pipeline.service.watching import probe_series
from kline_pipeline.simulator.exchange import Exchange as SimulatedExchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.service.asking import Seconds
from kline_pipeline_tests.worlds import Clock, ms

MINUTES = Series.parse("linear:BTCUSDT:1")


class Turns(FileBudget):
    """A budget in a file by a clock of its own, which a test may find busy."""

    def __init__(self, path: Path) -> None:
        clock = Clock(ms("2024-04-10 12:34:56"))
        clock.step_ms = 100
        super().__init__(path, 50, clock_ms=clock, sleep=lambda _: None)
        self.is_busy = False
        self.waited_s: list[float] = []

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        self.waited_s.append(timeout_s)
        if self.is_busy:
            raise RateLimited(f"no turn came within {timeout_s} s")
        super().acquire(timeout_s, lag_s)


@dataclass
class World:
    clock: Clock
    local: Clock
    seconds: Seconds
    simulated: SimulatedExchange
    exchange: Exchange
    budget: Turns

    def fault(self, *plan: dict[str, dict[str, object]]) -> None:
        self.simulated.faults.replace(list(plan))

    def asked(self) -> int:
        return int(self.simulated.stats.snapshot()["market_requests"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    now_ms = ms("2024-04-10 12:34:56")
    clock, local, seconds = Clock(now_ms), Clock(now_ms), Seconds()
    simulated = SimulatedExchange(SyntheticHistory(7, now_ms=now_ms), clock=clock)
    budget = Turns(tmp_path / "budget")
    with SimulatorServer(simulated) as server:
        settings = Settings(BybitSettings(base_url=server.url, timeout_s=0.3), KlineSettings(home=tmp_path))
        exchange = Exchange(settings, LateDatabase(settings), clock_ms=local, clock_s=seconds, budget=lambda *_: budget)
        yield World(clock, local, seconds, simulated, exchange, budget)
        exchange.close()


def values(look: Look) -> dict[str, float]:
    return {reading.metric.name: reading.value for reading in look.readings}


def test_an_exchange_that_answers_is_up_and_its_clock_is_compared(world: World) -> None:
    world.local.now_ms += 250

    look = time_look(world.exchange)()

    assert look.status == "ok"
    assert look.facts["clock_skew_s"] == 0.25
    assert values(look) == {EXCHANGE_UP.name: 1, CLOCK_SKEW.name: 0.25}


@pytest.mark.parametrize(("off_ms", "side"), [(3_000, "ahead of"), (-3_000, "behind")])
def test_a_clock_that_is_off_is_degraded(world: World, off_ms: int, side: str) -> None:
    world.local.now_ms += off_ms

    for look in (time_look(world.exchange)(), series_look(world.exchange, MINUTES)()):
        assert look.status == "degraded"
        assert f"3.0 s {side}" in look.seen


def test_a_series_has_its_newest_candles_and_the_price_exactly_as_served(world: World) -> None:
    open_ms = Interval("1").floor(world.clock())
    world.fault(
        {"correct": {"category": "linear", "symbol": "BTCUSDT", "interval": "1", "open_time": open_ms,
                     "close": "58295.10"}}
    )  # fmt: skip

    look = series_look(world.exchange, MINUTES)()

    assert look.status == "ok"
    assert (look.facts["candles"], look.facts["last_price"]) == (5, "58295.10")
    assert look.facts["newest_open_time"] == "2024-04-10T12:34:00Z"
    assert [reading.labels for reading in look.readings] == [(("series", "linear:BTCUSDT:1"),)]
    assert set(values(look)) == {PROBE_SECONDS.name}


def test_a_series_without_new_candles_is_degraded(world: World) -> None:
    world.fault({"empty": {}})

    look = series_look(world.exchange, MINUTES)()

    assert (look.status, look.facts["candles"], look.facts["last_price"]) == ("degraded", 0, None)


def test_an_exchange_that_never_answers_has_failed_after_one_try_and_is_seen_again(world: World) -> None:
    world.fault({"slow": {"seconds": 86_400}})
    look = time_look(world.exchange)

    hung = look()
    assert (hung.status, values(hung)) == ("failed", {EXCHANGE_UP.name: 0})
    assert world.asked() == 1
    assert "127.0.0.1" not in hung.seen

    world.fault()
    assert look().status == "ok"


@pytest.mark.parametrize(
    "fault", [{"reset": {}}, {"http": {"status": 502}}, {"country_block": {}}, {"ret_code": {"code": 10016}}]
)
def test_no_usable_answer_is_a_failure(world: World, fault: dict[str, dict[str, object]]) -> None:
    world.fault(fault)

    for look in (time_look(world.exchange)(), series_look(world.exchange, MINUTES)()):
        assert look.status == "failed"
        assert "http" not in look.seen.lower()
    assert world.asked() == 2


def test_during_a_cool_down_nothing_is_asked_and_that_is_no_failure(world: World) -> None:
    world.fault({"ban": {"seconds": 1}})
    assert time_look(world.exchange)().status == "degraded"
    asked = world.asked()

    for look in (time_look(world.exchange)(), series_look(world.exchange, MINUTES)()):
        assert look.status == "degraded"
        assert "cool-down" in look.seen
        assert EXCHANGE_UP.name not in values(look)
    assert world.asked() == asked


def test_an_exchange_that_asks_for_fewer_requests_answers(world: World) -> None:
    world.fault({"ret_code": {"code": 10006}})

    look = time_look(world.exchange)()

    assert (look.status, values(look)) == ("degraded", {EXCHANGE_UP.name: 1})


def test_an_unknown_series_is_named_as_the_mistake(world: World) -> None:
    look = series_look(world.exchange, Series.parse("linear:NOSUCHUSDT:1"))()

    assert look.status == "failed"
    assert "KLINE_PROBE_SERIES" in look.seen


def test_without_a_turn_the_last_answer_counts_for_a_minute_unless_something_went_wrong_since(world: World) -> None:
    look = time_look(world.exchange)
    assert look().status == "ok"
    began_s = world.seconds.now_s

    world.budget.is_busy = True
    world.seconds.now_s += 30
    assert (look().status, look().asked_s) == ("ok", began_s)
    world.seconds.now_s += 31
    assert look().status == "degraded"

    world.budget.is_busy = False
    assert look().status == "ok"
    world.fault({"reset": {}})
    assert look().status == "failed"
    world.budget.is_busy = True
    assert look().status == "degraded"


def test_a_look_waits_for_its_turn_at_most_two_seconds(world: World) -> None:
    time_look(world.exchange)()

    assert world.budget.waited_s == [2.0]


def test_series_come_from_the_settings_at_most_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(text: str | None) -> list[str]:
        if text is not None:
            monkeypatch.setenv("KLINE_PROBE_SERIES", text)
        return [str(series) for series in probe_series(Settings.load())]

    assert of(None) == ["linear:BTCUSDT:1"]
    assert of("none") == []
    assert of("linear:BTCUSDT:1m  spot:ETHUSDT:60 linear:BTCUSDT:1") == ["linear:BTCUSDT:1", "spot:ETHUSDT:60"]
    with pytest.raises(ConfigError, match=r"KLINE_PROBE_SERIES.*NO-SUCH"):
        of("NO-SUCH")
    with pytest.raises(ConfigError, match="at most 10"):
        of(" ".join(f"linear:B{number}USDT:1" for number in range(11)))
