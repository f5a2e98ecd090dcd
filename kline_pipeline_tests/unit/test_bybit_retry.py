"""The total deadline of a question, with a clock and waits of the test's own."""

from collections.abc import Callable

import pytest

from kline_pipeline.bybit.retry import with_retries
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import BadSymbol, ExchangeUnavailable, KlineError

SETTINGS = BybitSettings(
    retry_initial_delay_s=0, retry_max_delay_s=0, retry_max_attempts=100, retry_total_s=60, timeout_s=10
)


class Exchange:
    """Fails for ever; a try takes `try_s`, of which `turn_s` are spent waiting for the budget."""

    def __init__(self, try_s: float, turn_s: float = 0.0, error: type[KlineError] = ExchangeUnavailable) -> None:
        self.now_s = 0.0
        self.tries = 0
        self.try_s, self.turn_s, self.error = try_s, turn_s, error

    def __call__(self) -> None:
        self.tries += 1
        self.now_s += self.try_s
        raise self.error("no")

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


def given_up(exchange: Exchange, uncounted_s: Callable[[], float] = lambda: 0.0) -> KlineError:
    with pytest.raises(KlineError) as caught:
        with_retries(
            exchange, SETTINGS, asked="it", sleep=exchange.wait, clock_s=lambda: exchange.now_s, uncounted_s=uncounted_s
        )
    return caught.value


def test_the_time_of_the_tries_counts_for_the_deadline() -> None:
    exchange = Exchange(try_s=20)
    given_up(exchange)
    assert exchange.tries == 4  # after the fourth 80 s are gone


def test_waiting_for_a_turn_does_not_count() -> None:
    exchange = Exchange(try_s=20, turn_s=20)
    given_up(exchange, lambda: exchange.tries * exchange.turn_s)
    assert exchange.tries == 100


def test_what_is_given_up_says_after_how_many_tries() -> None:
    assert str(given_up(Exchange(try_s=31))) == "no (given up after 2 tries)"


def test_what_is_permanent_is_tried_once_and_said_as_it_is() -> None:
    exchange = Exchange(try_s=1, error=BadSymbol)
    assert str(given_up(exchange)) == "no"
    assert exchange.tries == 1
