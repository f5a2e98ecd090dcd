"""Counting in a process: labels that exist, cumulative buckets, counts handed over once."""

import threading
from typing import Any

import pytest

from kline_pipeline.metrics import CHECK_RESULTS, REQUEST_SECONDS, REQUESTS, RETRIES, Tally


@pytest.mark.parametrize("labels", [{"kind": "kline"}, {"kind": "kline", "outcome": "good"}, {"outcome": "ok"}])
def test_a_label_that_is_not_listed_cannot_be_counted(labels: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="kline_exchange_requests_total has no"):
        Tally().add(REQUESTS, **labels)


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    tally = Tally()
    for seconds in (0.025, 0.03, 99):
        tally.observe(REQUEST_SECONDS, seconds, kind="time")
    found = tally.values()
    of = 'kline_exchange_request_seconds_bucket{kind="time",le="'
    assert [found.get(f'{of}{bound}"}}', 0) for bound in ("0.025", "0.05", "10", "+Inf")] == [1, 2, 2, 3]
    assert found['kline_exchange_request_seconds_sum{kind="time"}'] == pytest.approx(99.055)
    assert found['kline_exchange_request_seconds_count{kind="time"}'] == 3


def test_threads_lose_no_count() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(2000):
            tally.add(RETRIES, kind="kline")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.values() == {'kline_exchange_retries_total{kind="kline"}': 16_000}


def test_counts_that_were_handed_over_are_gone_and_those_that_were_not_stay() -> None:
    tally = Tally()
    tally.add(CHECK_RESULTS, check="fresh", result="warned")
    with pytest.raises(OSError, match="full"), tally.handed_over():
        raise OSError("full")
    assert sum(tally.values().values()) == 1
    with tally.handed_over() as given:
        tally.add(CHECK_RESULTS, check="fresh", result="warned")  # meanwhile
    assert sum(given.values()) == 1
    assert sum(tally.values().values()) == 1
