"""How long Dagster's pages of a large dataset take in a browser: until they are usable, and each query they poll.

The times of a query are those of the browser's network log, from the request sent to the answer loaded. What is in the
dataset is told in scale.py.
"""

import json
import os
import re
import statistics
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from selenium.webdriver.common.by import By

from kline_pipeline_tests.browser.chromium import chromium

_MOST_S = 90.0
_STATS = (
    "query($keys: [AssetKeyInput!]) { assetNodes(assetKeys: $keys) { assetKey { path }"
    " partitionStats { numMaterialized numPartitions numFailed numMaterializing } } }"
)
_LAUNCH = (
    "mutation($given: ExecutionParams!) { launchPipelineExecution(executionParams: $given)"
    " { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
)
_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status startTime endTime } } }"
_ENDS = ("SUCCESS", "FAILURE", "CANCELED")


class Page(NamedTuple):
    """A page, and the texts (expressions) that make it usable.

    Attributes:
        tabs: the last of so many tabs named Partitions is clicked first, as soon as there are so many.
    """

    name: str
    path: str
    texts: tuple[str, ...]
    tabs: int = 0


class Poll(NamedTuple):
    """One answered query: of which page, and how long it took."""

    page: str
    query: str
    seconds: float
    size: int


def ask(url: str, query: str, **variables: object) -> Any:
    """Return the data that Dagster's GraphQL answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    asked = urllib.request.Request(f"{url}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=_MOST_S) as answer:
        return json.load(answer)["data"]


def partition_counts(url: str, keys: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """Return per asset key what Dagster counts of its partitions."""
    nodes = ask(url, _STATS, keys=[{"path": key.split("/")} for key in keys])["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): node["partitionStats"] for node in nodes}


def launch(url: str, keys: Sequence[str], partition: str) -> str:
    """Run the assets over one partition with all their checks, as the UI does, and return how the run ended."""
    given = {
        "selector": {
            "repositoryName": "__repository__",
            "repositoryLocationName": "kline_pipeline",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": key.split("/")} for key in keys],
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
    }
    run_id = ask(url, _LAUNCH, given=given)["launchPipelineExecution"]["run"]["runId"]
    while (run := ask(url, _STATUS, id=run_id)["runOrError"])["status"] not in _ENDS:
        time.sleep(1)
    return f"{run['status']} in {run['endTime'] - run['startTime']:.1f} s"


class Browser:
    """A browser that times pages; a context manager.

    Attributes:
        polls: every query answered so far.
    """

    def __init__(self, url: str, folder: Path, pictures: Path) -> None:
        self._url = url
        self._pictures = pictures
        self._driver = chromium(folder, network_log=True)
        self.polls: list[Poll] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.quit()

    def time(self, page: Page) -> float:
        """Return the seconds from navigation until the page shows all its texts.

        Raises:
            TimeoutError: it does not show them.
        """
        self._driver.get("about:blank")
        self._log()  # what came before belongs to no page
        began = time.monotonic()
        self._driver.execute_script("window.location.href = arguments[0]", self._url + page.path)
        clicked = not page.tabs
        while time.monotonic() - began < _MOST_S:
            if not clicked:
                found = self._driver.find_elements(By.XPATH, "//*[text()='Partitions']")
                clicked = len(found) == page.tabs
                if clicked:
                    found[-1].click()
            shown = str(self._driver.execute_script("return document.body ? document.body.innerText : ''"))
            if clicked and all(re.search(one, shown) for one in page.texts):
                return time.monotonic() - began
            time.sleep(0.02)
        self.picture(f"{page.name} failed")
        raise TimeoutError(f"{page.name} shows not all of {page.texts}, see the picture: {shown}")

    def stay(self, page: Page, seconds: float) -> None:
        """Leave the page open and add to `polls` what it has asked since it was opened."""
        time.sleep(seconds)
        self.polls += _answers(page.name, self._log())

    def _log(self) -> list[dict[str, Any]]:
        """Return what the network log has got since it was last asked for."""
        found: list[dict[str, Any]] = self._driver.get_log("performance")  # type: ignore[no-untyped-call]
        return found

    def picture(self, name: str) -> None:
        """Save what is seen."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._driver.save_screenshot(str(self._pictures / f"scale_{re.sub('[^a-z0-9]+', '_', name.lower())}.png"))


def time_pages(url: str, pages: Sequence[Page], folder: Path, pictures: Path, *, times: int, stay_s: float) -> None:
    """Print how long each page takes, `times` times, and each query that it has asked more than once."""
    with Browser(url, folder, pictures) as browser:
        for page in pages:
            found = []
            for number in range(times):
                found.append(browser.time(page))
                browser.stay(page, stay_s if number == times - 1 else 1)
            browser.picture(page.name)
            print(
                f"{page.name:40} usable after {_spread(found)} s; first {found[0]:.2f}, load {os.getloadavg()[0]:.1f}"
            )
            for query, polls in _by_query(poll for poll in browser.polls if poll.page == page.name).items():
                took = _spread([poll.seconds for poll in polls])
                print(f"    {query:36} {len(polls):3} x {took} s, {max(poll.size for poll in polls) / 1000:8.1f} kB")


def _by_query(polls: Iterator[Poll]) -> dict[str, list[Poll]]:
    found: dict[str, list[Poll]] = {}
    for poll in polls:
        found.setdefault(poll.query, []).append(poll)
    return dict(sorted(found.items(), key=lambda item: -max(poll.seconds for poll in item[1])))


def _spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f}"


def _answers(page: str, log: Sequence[Mapping[str, Any]]) -> list[Poll]:
    """Return the queries of a network log that were answered in it."""
    sent: dict[str, tuple[str, float]] = {}
    found = []
    for entry in log:
        message = json.loads(entry["message"])["message"]
        told = message["params"]
        if message["method"] == "Network.requestWillBeSent" and "/graphql" in told["request"]["url"]:
            named = re.search(r'"operationName":"(\w+)"', told["request"].get("postData", ""))
            sent[told["requestId"]] = (named[1] if named else "?", told["timestamp"])
        elif message["method"] == "Network.loadingFinished" and told["requestId"] in sent:
            query, began = sent.pop(told["requestId"])
            found.append(Poll(page, query, told["timestamp"] - began, int(told["encodedDataLength"])))
    return found + [Poll(page, f"{query} (never answered)", 0.0, 0) for query, _ in sent.values()]
