"""A headless Chromium that asks for nothing outside this machine; what it is shown is in dagster_ui."""

import shutil
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1600,1200",
)  # fmt: skip


def chromium(profile: Path, *, network_log: bool = False) -> Chrome:
    """Start a browser with a profile folder of its own; with `network_log`, its log `performance` tells of requests.

    Raises:
        AssertionError: Chromium or its driver is not installed.
    """
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        assert path, f"{name} is missing: apt-get install chromium chromium-driver"
    options = ChromeOptions()
    options.binary_location = programs["chromium"] or ""
    for argument in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    if network_log:
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    return Chrome(options, ChromeService(programs["chromedriver"]))
