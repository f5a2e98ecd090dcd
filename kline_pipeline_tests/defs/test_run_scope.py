"""Which symbols a run was over, by the names of its first and last partition and Dagster's order of them."""

from collections.abc import Iterator

import dagster as dg
import pytest

from kline_pipeline.datasets import undeclared
from kline_pipeline.defs.automation.run_scope import partitions_of, symbols_of
from kline_pipeline.defs.symbols import add_symbol
from kline_pipeline.market.interval import Interval

KNOWN = ("BTCUSDT", "ZUSDT", "AUSDT", "ETHUSDT")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        for symbol in KNOWN:
            add_symbol(one, undeclared("linear", Interval("60")), symbol)
        yield one


def over(first: str, last: str) -> dg.DagsterRun:
    ends = {"start": f"2024-01-01|{first}", "end": f"2024-03-01|{last}"}
    return dg.DagsterRun("job", tags={f"dagster/asset_partition_range_{end}": key for end, key in ends.items()})


@pytest.mark.parametrize(
    ("first", "last", "symbols"),
    [
        ("ZUSDT", "ETHUSDT", KNOWN[1:]),
        ("ZUSDT", "ZUSDT", ("ZUSDT",)),
        ("GONEUSDT", "GONEUSDT", ("GONEUSDT",)),
        ("GONEUSDT", "ETHUSDT", ()),
        ("BTCUSDT", "GONEUSDT", ()),
    ],
)
def test_a_run_is_over_the_symbols_that_lay_between(
    instance: dg.DagsterInstance, first: str, last: str, symbols: tuple[str, ...]
) -> None:
    run = over(first, last)
    assert partitions_of(run) == f"2024-01-01|{first}...2024-03-01|{last}"
    assert symbols_of(instance, run, "linear/60") == symbols


def test_a_run_of_a_job_is_over_no_symbol(instance: dg.DagsterInstance) -> None:
    run = dg.DagsterRun("housekeeping")
    assert (partitions_of(run), symbols_of(instance, run, "housekeeping")) == ("", ("",))
