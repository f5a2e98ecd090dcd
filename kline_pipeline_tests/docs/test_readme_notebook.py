"""The five lines of the README do in a new KLINE_HOME what they say, after the command that stands above them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from kline_pipeline import cli
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.worlds import ms

README = (Path(__file__).parents[2] / "README.md").read_text()
NOW_MS = ms("2024-04-10 12:34:56")


@pytest.fixture
def _exchange(tell_environment: Callable[[str], Path]) -> Iterator[None]:
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9)
    with SimulatorServer(exchange) as server:
        tell_environment(server.url)
        yield


@pytest.mark.usefixtures("_exchange")
def test_the_notebook_of_the_readme_runs() -> None:
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line]) == 5
    command = next(
        line for line in README.splitlines() if line.startswith("    kline-pipeline backfill linear:BTCUSDT:1")
    )
    mpl.use("Agg")

    assert cli.run(command.split("#")[0].split()[1:]) == 0
    names: dict[str, object] = {}
    exec(block[1], names)

    assert len(names["fetched"]) == 2 * 1440  # type: ignore[arg-type]
    assert len(names["gaps"]) == 0  # type: ignore[arg-type]
    assert len(names["candles"]) == 44_640  # type: ignore[arg-type]
    assert len(plt.gcf().axes[0].lines) == 1
