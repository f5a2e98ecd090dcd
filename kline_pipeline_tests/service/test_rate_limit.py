"""Requests per minute: exact in a burst, sliding, honest about when to come again, and of bounded memory."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.service.rate_limit import RateLimit
from kline_pipeline_tests.service.asking import Seconds


def test_sixty_pass_and_the_next_one_waits() -> None:
    clock = Seconds(0.0)
    limit = RateLimit(60, clock_s=clock)

    assert [limit.refused_for_s("a") for _ in range(60)] == [0] * 60
    assert limit.refused_for_s("a") > 0
    assert limit.refused_for_s("b") == 0


def test_the_window_slides() -> None:
    clock = Seconds(59.0)
    limit = RateLimit(60, clock_s=clock)
    for _ in range(60):
        limit.refused_for_s("a")

    clock.now_s = 61.0  # a fixed window would have begun anew
    assert [limit.refused_for_s("a") == 0 for _ in range(2)] == [True, False]
    clock.now_s = 90.0
    assert sum(limit.refused_for_s("a") == 0 for _ in range(60)) == 29
    clock.now_s = 1000.0
    assert [limit.refused_for_s("a") for _ in range(60)] == [0] * 60


@given(
    per_minute=st.integers(1, 200),
    start_s=st.floats(0, 1e6),
    gaps_s=st.lists(st.floats(0, 30), min_size=1, max_size=100),
)
def test_who_waits_as_long_as_was_said_may_pass_and_no_earlier_second_would_do(
    per_minute: int, start_s: float, gaps_s: list[float]
) -> None:
    clock = Seconds(start_s)
    limit = RateLimit(per_minute, clock_s=clock)
    for gap_s in gaps_s:
        clock.now_s += gap_s
        for _ in range(per_minute + 1):
            wait_s = limit.refused_for_s("a")
        assert 1 <= wait_s <= 121
        refused_at_s = clock.now_s
        if wait_s > 2:
            clock.now_s = refused_at_s + wait_s - 2
            assert limit.refused_for_s("a") > 0
        clock.now_s = refused_at_s + wait_s
        assert limit.refused_for_s("a") == 0


def test_any_number_of_clients_takes_bounded_memory() -> None:
    limit = RateLimit(60, clock_s=Seconds(), most_clients=100)
    for number in range(1000):
        limit.refused_for_s(f"10.0.{number // 256}.{number % 256}")
    tracemalloc.start()
    for number in range(20_000):
        limit.refused_for_s(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert len(limit) == 100
    assert grown < 200_000


def test_who_asks_is_not_forgotten_for_others() -> None:
    limit = RateLimit(3, clock_s=Seconds(), most_clients=10)
    for number in range(200):
        passed = limit.refused_for_s("busy") == 0
        assert passed == (number < 3)
        limit.refused_for_s(f"10.0.0.{number}")
