"""Faults of whole pages and of the clock: lost, mislabelled, swapped, stale, and a candle closed too early."""

import pytest

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.fault_plan import FaultPlanError
from kline_pipeline.simulator.grid import MINUTE_MS, utc_ms
from kline_pipeline_tests.simulator.conftest import NOW_MS, Ask

AT = utc_ms(2024, 2, 10, 12, 0)
SERIES = {"category": "linear", "symbol": "BTCUSDT", "interval": "1"}
WINDOW = {**SERIES, "start": AT, "end": AT + 2 * MINUTE_MS}


def rows(ask: Ask, **query: object) -> list[list[str]]:
    found: list[list[str]] = ask(**{**WINDOW, **query})["result"]["list"]
    return found


def test_a_page_comes_empty_as_often_as_the_fault_says(exchange: Exchange, ask: Ask) -> None:
    whole = rows(ask)
    exchange.faults.replace([{"empty": {**SERIES, "times": 1}}])

    assert rows(ask) == []
    assert rows(ask) == whole


def test_another_category_is_answered(exchange: Exchange, ask: Ask) -> None:
    exchange.faults.replace(
        [{"wrong_category": {"symbol": "BTCUSDT", "times": 1}}, {"wrong_category": {"answer": "inverse"}}]
    )

    assert [ask(**WINDOW)["result"]["category"] for _ in range(2)] == ["spot", "inverse"]


def test_two_columns_change_places_in_one_candle_or_in_all(exchange: Exchange, ask: Ask) -> None:
    whole = rows(ask)
    exchange.faults.replace([{"swap": {"columns": ["volume", "turnover"], "open_time": AT + MINUTE_MS}}])
    one = rows(ask)
    exchange.faults.replace([{"swap": {"columns": ["open", "high"]}}])
    every = rows(ask)

    assert one == [whole[0], [*whole[1][:5], whole[1][6], whole[1][5]], whole[2]]
    assert every == [[row[0], row[2], row[1], *row[3:]] for row in whole]


def test_a_stale_series_has_no_candle_from_then_on(exchange: Exchange, ask: Ask) -> None:
    whole = rows(ask)
    exchange.faults.replace([{"stale": {**SERIES, "after": AT + 2 * MINUTE_MS}}])

    assert rows(ask) == whole[1:]
    assert ask(**SERIES, limit=1)["result"]["list"] == [whole[1]]
    assert ask(**{**SERIES, "interval": "5"}, limit=1)["result"]["list"][0][0] > str(AT)
    assert ask("instruments-info", category="linear", symbol="BTCUSDT")["result"]["list"][0]["status"] == "Trading"


def test_a_clock_ahead_takes_a_candle_for_closed_that_partial_leaves_unfinished(exchange: Exchange, ask: Ask) -> None:
    opened = NOW_MS // MINUTE_MS * MINUTE_MS
    now = {"start": opened, "end": opened}
    forming = rows(ask, **now)
    exchange.faults.replace([{"clock_skew": {"seconds": 60}}])
    finished = rows(ask, **now)
    exchange.faults.add([{"partial": {}}])
    answer = ask(**{**WINDOW, **now})

    assert answer["result"]["list"] == forming != finished
    assert answer["time"] == NOW_MS + MINUTE_MS


@pytest.mark.parametrize(
    "plan",
    [
        {"swap": {}},
        {"swap": {"columns": ["volume"]}},
        {"swap": {"columns": ["volume", "price"]}},
        {"swap": {"columns": "volume,turnover"}},
        {"stale": {}},
        {"stale": {"after": "soon"}},
        {"empty": {"open_time": AT}},
        {"wrong_category": {"answer": 1}},
    ],
)
def test_nonsense_is_refused(exchange: Exchange, plan: dict[str, object]) -> None:
    with pytest.raises(FaultPlanError):
        exchange.faults.replace([plan])
