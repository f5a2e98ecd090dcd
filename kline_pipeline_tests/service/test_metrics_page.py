"""The page of /metrics: what the exchange itself counted, what is stored, and nothing that falls."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from threading import Event

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Cell
from kline_pipeline.errors import DatabaseUnavailable
from kline_pipeline.evidence.fetch_stats import kept, totals
from kline_pipeline.metrics import COUNTED, FRESHNESS, METRICS, MOST_SERIES, Reading, Tally, sample_names
from kline_pipeline.service.exposition import page
from kline_pipeline.service.metrics_page import MetricsPage
from kline_pipeline_tests.outcomes import requests_told
from kline_pipeline_tests.worlds import HOURLY, World, ms, world

_SAMPLE = re.compile(r"([a-z_]+(?:\{.*\})?) (\S+)")
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"(?:,|$)')
CELLS = [Cell(date(2024, month, 1), symbol) for month in (1, 2, 3) for symbol in ("BTCUSDT", "ETHUSDT")]
# Whatever can happen to a request, some of it more than once.
FAULTS = [
    {"http": {"status": 503, "path": "kline", "nth": [2, 3]}},
    {"ret_code": {"code": 10006, "path": "kline", "nth": 5}},
    {"http": {"status": 429, "path": "instruments-info", "nth": 1}},
    {"slow": {"seconds": 20, "path": "kline", "nth": [7, 9]}},
    {"reset": {"path": "kline", "nth": [10, 12]}},
    {"truncate": {"path": "kline", "nth": 14}},
    {"wrong_symbol": {"path": "kline", "nth": 16}},
    {"wrong_category": {"path": "kline", "nth": 18}},
    {"ret_code": {"code": 10016, "path": "time", "nth": 1}},
    {"slow": {"seconds": 0.01, "path": "kline", "nth": 20}},
]  # fmt: skip


@pytest.fixture
def sim(settings: Settings, database: Database) -> Iterator[World]:
    with world(settings, database) as made:
        yield made


def page_of(one: World, database: Database, now: str = "2024-04-10 12:34:56") -> MetricsPage:
    return MetricsPage(one.settings, lambda: database, database.tally, lambda: ms(now))


def samples(content: bytes) -> dict[str, float]:
    """Return the samples of a page by key, and see that each line is one, or a comment."""
    lines = [line for line in content.decode().splitlines() if not line.startswith("#")]
    found = [match.groups() for line in lines if (match := _SAMPLE.fullmatch(line))]
    assert len({key for key, _ in found}) == len(lines)
    return {key: float(value) for key, value in found}


def requests(found: dict[str, float]) -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for key, value in found.items():
        if key.startswith("kline_exchange_requests_total"):
            (_, kind), (_, outcome) = _LABEL.findall(key.partition("{")[2].removesuffix("}"))
            counted[kind, outcome] += int(value)
    return +counted


def test_every_counter_is_there_at_zero_before_anything_was_counted() -> None:
    found = samples(page({}, []))
    assert set(found.values()) == {0}
    names = {key.partition("{")[0] for key in found}
    assert names == {name for metric in COUNTED for name in sample_names(metric)}


def test_the_page_counts_what_the_exchange_counted_whatever_happens(sim: World, database: Database) -> None:
    sim.exchange.faults.replace(FAULTS)
    with kept(database):
        passed = sim.pipeline.run(HOURLY, CELLS)
    assert all(one.landed for one in passed.values())

    found = samples(page_of(sim, database).render())

    told = sim.exchange.stats.snapshot()
    assert requests(found) == requests_told(told)
    assert {"timeout", "connection_error", "server_busy", "rate_limited", "malformed"} <= {
        outcome for _, outcome in requests(found)
    }
    candles = sum(value for key, value in found.items() if key.startswith("kline_exchange_candles_total"))
    assert candles == told["candles_served"]
    tried = sum(number for (_, outcome), number in requests(found).items() if outcome != "ok")
    assert sum(value for key, value in found.items() if key.startswith("kline_exchange_retries_total")) == tried
    for kind in ("kline", "instruments", "time"):
        sent = sum(number for (one, _), number in requests(found).items() if one == kind)
        assert found[f'kline_exchange_request_seconds_count{{kind="{kind}"}}'] == sent
        assert found[f'kline_exchange_request_seconds_bucket{{kind="{kind}",le="+Inf"}}'] == sent


def test_the_page_tells_what_is_stored(sim: World, database: Database) -> None:
    gone = {"category": "linear", "symbol": "ETHUSDT", "interval": "60", "open_time": "2024-02-10T07:00"}
    sim.exchange.faults.replace([{"drop": gone}])
    sim.pipeline.run(HOURLY, CELLS)

    found = samples(page_of(sim, database, now="2024-04-10 12:00:00").render())

    hours = 24 * (31 + 29 + 31)
    of = 'category="linear",interval="60"'
    assert found[f"kline_candles_expected{{{of}}}"] == 2 * hours
    assert found[f"kline_candles_present{{{of}}}"] == 2 * hours - 1
    assert found[f"kline_gaps_open{{{of}}}"] == 1
    assert found[f"kline_known_gaps{{{of}}}"] == 0
    assert found[f'kline_partitions{{{of},state="landed"}}'] == 5
    assert found[f'kline_partitions{{{of},state="quarantined"}}'] == 1
    assert found[f"kline_series{{{of}}}"] == 2
    # March ended on the first, so many hours ago.
    assert found['kline_freshness_lag_seconds{series="linear:BTCUSDT:60"}'] == (9 * 24 + 12) * 3600
    assert found['kline_rows_written_total{sink="postgres"}'] == 2 * hours - 29 * 24
    assert found['kline_check_results_total{check="no_gaps",result="failed"}'] == 1
    assert found['kline_check_results_total{check="no_gaps",result="passed"}'] == 5
    assert found['kline_check_results_total{check="parquet_agrees",result="failed"}'] == 1
    assert found["kline_database_up"] == 1
    assert found["kline_cool_down_seconds"] == 0
    assert found['kline_database_connections{application="kline_pipeline"}'] >= 1


def test_without_a_database_the_page_has_no_counters_and_says_so(sim: World) -> None:
    def gone() -> Database:
        raise DatabaseUnavailable("no server answers")

    found = samples(MetricsPage(sim.settings, gone, Tally(), lambda: 0).render())
    assert found["kline_database_up"] == 0
    assert not any(key.startswith(name) for metric in COUNTED for name in sample_names(metric) for key in found)


def test_what_the_page_shows_of_its_own_process_stands_a_kill(sim: World, database: Database) -> None:
    sim.client.server_time_ms()
    shown = samples(page_of(sim, database).render())
    with Database(database.url, None) as other:  # the process is gone, nobody told its row
        again = samples(page_of(sim, other).render())
    assert requests(again) == requests(shown) == {("time", "ok"): 1}


def test_what_the_process_counts_is_kept_though_nobody_asks_for_the_page(sim: World, database: Database) -> None:
    def stored() -> float:
        with database.engine.begin() as connection:
            return totals(connection).get('kline_exchange_requests_total{kind="time",outcome="ok"}', 0)

    metrics, awaited = page_of(sim, database), Event()
    metrics.every_s = 0.01
    with metrics:
        for number in (1, 2):
            sim.client.server_time_ms()
            assert any(stored() == number or awaited.wait(0.02) for _ in range(500))
        sim.client.server_time_ms()
    assert stored() == 3


def test_no_counter_falls_when_processes_begin_and_end(sim: World, database: Database) -> None:
    before: dict[str, float] = {}
    metrics = page_of(sim, database)
    counters = {name for metric in COUNTED for name in sample_names(metric)}

    def look() -> None:
        found = samples(metrics.render())
        for key, value in before.items():
            assert found[key] >= value, key
        before.update({key: value for key, value in found.items() if key.partition("{")[0] in counters})

    for month in (1, 2, 3):
        with Database(database.url, None) as other, world(sim.settings, other) as made, kept(other):
            made.pipeline.run(HOURLY, [Cell(date(2024, month, 1), "BTCUSDT")])
            look()
        look()
    with metrics:
        sim.client.server_time_ms()
    look()
    assert before['kline_exchange_request_seconds_sum{kind="kline"}'] > 0


def test_a_gauge_of_series_has_no_more_samples_than_allowed_and_escapes_what_they_are_called() -> None:
    found = samples(page(None, [Reading(FRESHNESS, math.pi, (("series", 'a"b\\c'),))]))
    assert found == {r'kline_freshness_lag_seconds{series="a\"b\\c"}': math.pi}
    assert MOST_SERIES == 1000


def test_every_metric_has_a_name_with_its_unit_and_labels_of_few_values() -> None:
    for metric in METRICS:
        assert metric.name.startswith("kline_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert len(metric.every()) <= 3 * 13 * 4
        assert metric.about.endswith(".")
