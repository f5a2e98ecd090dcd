"""A simulator, an `up` and a headless Chromium; where the programs are missing the tests fail, they are not skipped.

KLINE_TEST_SCREENSHOTS names the folder that the pictures go to; else they are in pytest's temporary folder.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from kline_pipeline_tests.browser.dagster_ui import DagsterUi
from kline_pipeline_tests.programs import environment, free_port, running


@dataclass(frozen=True, slots=True)
class World:
    """What runs beside the tests of a module.

    Attributes:
        ui: a browser on the UI of `up`.
        exchange: URL of the simulator.
        env: of commands in the same KLINE_HOME.
    """

    ui: DagsterUi
    exchange: str
    env: dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("browser")
    pictures = Path(os.environ.get("KLINE_TEST_SCREENSHOTS") or folder / "screenshots")
    env = environment(folder / "home", XDG_CACHE_HOME=str(folder / "cache"))
    with (
        _chromium() as driver,
        running(env, "simulate", "--port", "0", says="listening", ends_by=signal.SIGTERM) as told,
    ):
        env["BYBIT_BASE_URL"] = next(word for word in told.split() if word.startswith("http://"))
        port = str(free_port())
        with running(env, "up", "--port", port, says="Dagster UI", ends_by=signal.SIGTERM):
            yield World(DagsterUi(driver, f"http://127.0.0.1:{port}", pictures), env["BYBIT_BASE_URL"], env)


def _chromium() -> Chrome:
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        assert path, f"{name} is missing: apt-get install chromium chromium-driver"
    options = ChromeOptions()
    options.binary_location = programs["chromium"] or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1100"):
        options.add_argument(argument)
    return Chrome(options, ChromeService(programs["chromedriver"]))
