"""The commands of the containers as plain processes, with the files that are shipped, over a real PostgreSQL.

What only differs on one machine is replaced: addresses, ports and the place of workspace.yaml.
"""

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from kline_pipeline.config import Settings
from kline_pipeline_tests.expressions import parsed
from kline_pipeline_tests.programs import environment, free_port

pytestmark = [pytest.mark.ops, pytest.mark.timeout(240)]

DEPLOY = Path(str(files("kline_pipeline") / "deploy"))
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
_START_S, _GRACE_S = 120.0, 60.0
_WORKSPACE = """query { workspaceOrError { ... on Workspace {
    locationEntries { name loadStatus locationOrLoadError { __typename } } } } }"""
_LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "kline_pipeline",
    repositoryName: "__repository__", jobName: "housekeeping"}})
    { __typename ... on LaunchRunSuccess { run { runId } } } }"""


class Stack:
    """The services of compose.yaml as processes.

    Attributes:
        ports: of 127.0.0.1, by the service.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        assert settings.database_url is not None
        home = folder / "home"
        (home / "dagster").mkdir(parents=True)
        (home / "dagster" / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
        self.ports = {name: free_port() for name in ("code", "webserver", "service")}
        location = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
        location["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": self.ports["code"]}
        self._workspace = folder / "workspace.yaml"
        self._workspace.write_text(json.dumps(location))
        self._folder = folder
        variables = {"KLINE_DATABASE_URL": settings.database_url.get_secret_value(), "HOME": str(home)}
        self.env = environment(home, DAGSTER_HOME=str(home / "dagster"), KLINE_LOG_FORMAT="json", **variables)

    def command(self, service: str, words: list[str]) -> list[str]:
        """Return the words of a command of a service as they are here."""
        here = {"0.0.0.0": "127.0.0.1", "/etc/kline/workspace.yaml": str(self._workspace)}
        words = [here.get(word, word) for word in words]
        if inside := {"code": "4000", "webserver": "3000", "service": "8000"}.get(service):
            words = [re.sub(rf"(^|:){inside}(/|$)", rf"\g<1>{self.ports[service]}\2", word) for word in words]
        if words[0] == "kline-pipeline":
            return [sys.executable, "-m", "kline_pipeline.cli", *words[1:]]
        return [str(Path(sys.executable).with_name(words[0])), *words[1:]]

    def checks(self, service: str) -> bool:
        """Return whether the health check of a service that is a command of ours is green."""
        test = SERVICES[service]["healthcheck"]["test"]
        assert test[0] == "CMD"
        return self.run(service, test[1:])

    def run(self, service: str, words: list[str]) -> bool:
        """Run a command of a service to its end, and return whether it went well."""
        done = subprocess.run(self.command(service, words), env=self.env, capture_output=True, check=False)
        return done.returncode == 0

    @contextmanager
    def running(self, service: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a service for the length of the block; it must end by the SIGTERM of `docker stop`, in time."""
        log = self._folder / f"{service}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(service, SERVICES[service]["command"]),
                env={**self.env, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )
        try:
            yield process
            assert process.poll() is None, log.read_text()[-2000:]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def ask(self, query: str) -> Any:
        """Return what Dagster's webserver says to a query."""
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['webserver']}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]


def until(true: Callable[[], bool], what: str) -> None:
    """Return once it is true, looking again and again.

    Raises:
        AssertionError: it did not become so.
    """
    deadline, between = time.monotonic() + _START_S, threading.Event()
    while not true():
        assert time.monotonic() < deadline, what
        between.wait(0.2)


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture
def stack(settings: Settings, tmp_path: Path) -> Stack:
    made = Stack(settings, tmp_path)
    assert made.run("migrate", SERVICES["migrate"]["command"])
    return made


def test_code_webserver_and_daemon_find_each_other_and_a_run_succeeds(stack: Stack) -> None:
    with ExitStack() as running:
        running.enter_context(stack.running("code"))
        until(lambda: stack.checks("code"), "the code location does not answer")
        assert not stack.checks("daemon")
        running.enter_context(stack.running("webserver"))
        running.enter_context(stack.running("daemon"))
        until(lambda: stack.checks("webserver"), "the webserver does not answer")

        (location,) = stack.ask(_WORKSPACE)["workspaceOrError"]["locationEntries"]
        assert (location["name"], location["loadStatus"]) == ("kline_pipeline", "LOADED")
        assert location["locationOrLoadError"]["__typename"] == "RepositoryLocation"

        launched = stack.ask(_LAUNCH)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess"
        run = f'query {{ runOrError(runId: "{launched["run"]["runId"]}") {{ ... on Run {{ status }} }} }}'
        until(lambda: stack.ask(run)["runOrError"]["status"] in {"SUCCESS", "FAILURE"}, "the run does not end")
        assert stack.ask(run)["runOrError"]["status"] == "SUCCESS"
        assert stack.checks("daemon")


@contextmanager
def prometheus(folder: Path, target: str, token: str) -> Iterator[str]:
    """Run a real Prometheus with the shipped files against a target, at a quicker pace; give its address."""
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "rules.yml").write_text((DEPLOY / "prometheus/rules.yml").read_text())
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    for shipped, here in (("service:8000", target), ("/run/secrets/ops_token", str(folder / "token")), ("15s", "1s")):
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "prometheus.yml").write_text(text.replace("scrape_timeout: 10s", "scrape_timeout: 1s"))
    listen = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options, f"--web.listen-address={listen}"], stdout=log, stderr=log)
    try:
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(_GRACE_S)


def told(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


def test_the_service_answers_where_the_image_and_prometheus_look(stack: Stack, tmp_path: Path) -> None:
    here, token = f"127.0.0.1:{stack.ports['service']}", "of-the-tests"
    address = f"http://{here}"
    # Nobody is asked: what is looked at is whether the numbers get where they are used.
    with (
        stack.running("service", KLINE_OPS_TOKEN=token, KLINE_PROBE_SERIES="none", BYBIT_BASE_URL="http://127.0.0.1:9"),
        prometheus(tmp_path / "prometheus", here, token) as seen,
    ):
        until(lambda: answers(f"{address}/health/live"), "the service does not live")
        until(lambda: answers(f"{address}/health/ready"), "the service is not ready")
        assert answers(f"{address}/metrics", {"Authorization": f"Bearer {token}"})
        assert not answers(f"{address}/metrics")

        until(lambda: answers(f"{seen}/-/ready"), "Prometheus is not ready")
        until(lambda: _healths(seen) == ["up"], "it is not scraped")
        until(lambda: all(rule["health"] == "ok" for rule in _rules(seen)), "not every rule is evaluated")
        until(lambda: told(f"{seen}/api/v1/query?query=kline_database_up")["result"] != [], "nothing is scraped")
        names = set(told(f"{seen}/api/v1/label/__name__/values"))
        counted = {selector.name for rule in _rules(seen) for selector in parsed(rule["query"])[0]}
        assert {name for name in counted if name.endswith(("_total", "_bucket"))} <= names


def _rules(seen: str) -> list[dict[str, Any]]:
    return [rule for group in told(f"{seen}/api/v1/rules")["groups"] for rule in group["rules"]]


def _healths(seen: str) -> list[str]:
    return [target["health"] for target in told(f"{seen}/api/v1/targets")["activeTargets"]]
