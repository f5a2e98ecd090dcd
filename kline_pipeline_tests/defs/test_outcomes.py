"""What a command says of a run that broke off, read from what Dagster stored."""

from collections.abc import Callable
from datetime import date

import dagster as dg
import pytest

from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.outcomes import read_outcome
from kline_pipeline.defs.ranges import RangeRun
from kline_pipeline.defs.run_messages import RunOutcome
from kline_pipeline.errors import DatabaseUnavailable, ExchangeUnavailable
from kline_pipeline.market.interval import Interval

RUN = RangeRun(Dataset("linear", Interval("60"), date(2024, 1, 1), "month", ("A",)), (date(2024, 1, 1),), ("A",))
SENTENCE = "asked https://x 5 times and got no answer; check the network"


def _retried(exc: Exception) -> None:
    raise dg.RetryRequested(max_retries=0, seconds_to_wait=0) from exc


def _failed(exc: Exception) -> None:
    raise dg.Failure(str(exc), allow_retries=False) from exc


def _passed_on(exc: Exception) -> None:
    raise exc


def _outcome(body: Callable[[], None]) -> RunOutcome:
    @dg.asset
    def raw_batches() -> None:
        body()

    with dg.DagsterInstance.ephemeral() as instance:
        ran = dg.materialize([raw_batches], instance=instance, raise_on_error=False)
        return read_outcome(instance, RUN, ran.run_id)


@pytest.mark.parametrize("error", [ExchangeUnavailable, DatabaseUnavailable])
@pytest.mark.parametrize("raise_it", [_retried, _failed, _passed_on])
def test_our_sentence_is_told_and_not_what_caused_it(
    raise_it: Callable[[Exception], None], error: type[Exception]
) -> None:
    def body() -> None:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as exc:
            ours = error(SENTENCE)
            ours.__cause__ = exc
            raise_it(ours)

    outcome = _outcome(body)
    assert (outcome.success, outcome.status, outcome.error) == (False, "failed", f"raw_batches: {SENTENCE}")


def test_of_a_strange_error_the_innermost_cause_is_told() -> None:
    def body() -> None:
        try:
            raise ZeroDivisionError("nothing to divide by")
        except ZeroDivisionError as exc:
            raise RuntimeError("outer") from exc

    assert _outcome(body).error == "raw_batches: nothing to divide by"
