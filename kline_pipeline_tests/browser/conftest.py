"""A simulator, a run of a command, then an `up` and a headless Chromium.

Where the programs are missing the tests fail, they are not skipped. KLINE_SCREENSHOTS names the folder that the
pictures go to; else they are in pytest's temporary folder.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kline_pipeline_tests.holders import home_of
from kline_pipeline_tests.programs import environment, free_port, run, running

if TYPE_CHECKING:
    from kline_pipeline_tests.browser.dagster_ui import DagsterUi


@dataclass(frozen=True, slots=True)
class World:
    """What runs beside the tests of a module.

    Attributes:
        ui: a browser on the UI of `up`.
        exchange: URL of the simulator.
        env: of commands in the same KLINE_HOME.
        command_run: id of the run of `backfill linear:BTCUSDT:1` over three months, made before `up` started.
    """

    ui: "DagsterUi"
    exchange: str
    env: dict[str, str]
    command_run: str

    def set_faults(self, *faults: Mapping[str, object]) -> None:
        """Have the simulator make these faults and no others."""
        body = json.dumps({"faults": faults}).encode()
        ask = urllib.request.Request(f"{self.exchange}/_sim/faults", data=body, method="POST")
        urllib.request.urlopen(ask).close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An `up` over what a command has backfilled."""
    arguments = ("backfill", "linear:BTCUSDT:1", "--from", "2024-01-01", "--to", "2024-03-31", "--json")
    with world_after(tmp_path_factory.mktemp("browser"), arguments) as made:
        yield made


@contextmanager
def world_after(folder: Path, arguments: Sequence[str]) -> Iterator[World]:
    """Run a simulator, a command that makes one run and prints it, then `up`; all ends with the block."""
    # Both need the extra `browser`: nothing here imports them before a test asks for it.
    from kline_pipeline_tests.browser.chromium import chromium  # noqa: PLC0415
    from kline_pipeline_tests.browser.dagster_ui import DagsterUi  # noqa: PLC0415

    pictures = Path(os.environ.get("KLINE_SCREENSHOTS") or folder / "screenshots")
    with (
        home_of(None) as home,
        chromium(folder / "profile") as driver,
        running(environment(home), "simulate", "--port", "0", says="listening", ends_by=signal.SIGTERM) as told,
    ):
        exchange = next(word for word in told.split() if word.startswith("http://"))
        declared = str(_without_schedules(folder / "datasets.toml"))
        cache = str(folder / "cache")
        env = environment(home, XDG_CACHE_HOME=cache, BYBIT_BASE_URL=exchange, KLINE_DATASETS_FILE=declared)
        done = run(env, *arguments)
        assert done.returncode == 0, done.stderr
        (made,) = json.loads(done.stdout)["runs"]
        port = str(free_port())
        with running(env, "up", "--port", port, "--ops-port", "0", says="Dagster UI", ends_by=signal.SIGTERM):
            ui = DagsterUi(driver, f"http://127.0.0.1:{port}", pictures)
            # Within two minutes it would run a partition again that a test has left red, while its page is read.
            ui.switch_off("asking_again")
            yield World(ui, exchange, env, made["run_id"])


def _without_schedules(path: Path) -> Path:
    """Write the packaged datasets, none of which comes by itself: after midnight the pages would count its cells."""
    packaged = (files("kline_pipeline") / "datasets.toml").read_text()
    path.write_text(packaged.replace("[[dataset]]\n", "[[dataset]]\nschedule = { daily = false }\n"))
    return path
