"""An open partition while time goes on: what closes between the first question and the last is no gap."""

from datetime import date

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell
from kline_pipeline_tests.worlds import MINUTELY, world

APRIL = ("2024-04-01", "BTCUSDT")


@pytest.mark.parametrize("step_ms", [1_000, 7_000, 25_000])
def test_what_closes_while_it_is_fetched_is_fetched_too(settings: Settings, database: Database, step_ms: int) -> None:
    with world(settings, database) as sim:
        sim.clock.step_ms = step_ms

        for _ in range(3):
            landed = sim.run(MINUTELY, APRIL)
            assert all(one.result.passed for pair in landed.values() for one in pair)

        verdict = sim.pipeline.verdict(MINUTELY, Cell(date.fromisoformat(APRIL[0]), APRIL[1]))
        assert (verdict.missing, verdict.quarantined) == (0, False)


def test_a_candle_that_closes_meanwhile_and_is_not_served_is_a_gap(settings: Settings, database: Database) -> None:
    with world(settings, database) as sim:
        hole = {"category": "linear", "symbol": "BTCUSDT", "interval": "1", "open_time": "2024-04-10T12:34:00Z"}
        sim.exchange.faults.add([{"drop": hole}])
        sim.clock.step_ms = 25_000

        sim.run(MINUTELY, APRIL)

        verdict = sim.pipeline.verdict(MINUTELY, Cell(date.fromisoformat(APRIL[0]), APRIL[1]))
        assert verdict.missing == 1
