"""Prometheus' own promtool on rules, cases, panels and configuration; a threshold that is moved turns a case red."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.ops

DEPLOY = Path(str(files("kline_pipeline") / "deploy"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"] for rule in group["rules"]
]
CASES = yaml.safe_load((DEPLOY / "prometheus/rules_test.yml").read_text())["tests"]
_BOUND = re.compile(r"(?P<sign>==|>|<) (?P<number>[\d.]+(?:e\d+)?)")


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def alone(folder: Path, rule: dict[str, Any]) -> bool:
    """Return whether the cases of one alert pass with this rule for it."""
    folder.mkdir()
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "one", "rules": [rule]}]}))
    cases = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [case for case in CASES if case["name"] == rule["alert"]],
    }
    (folder / "cases.yml").write_text(json.dumps(cases))
    done = promtool("test", "rules", str(folder / "cases.yml"))
    assert done.returncode in {0, 1}
    assert ("SUCCESS" in done.stdout) == (done.returncode == 0)
    return done.returncode == 0


def moved(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rule with each of its bounds looser and tighter, and with another patience."""
    for bound in _BOUND.finditer(rule["expr"]):
        sign, number = bound["sign"], float(bound["number"])
        if sign == "==":
            others = ["== 2", ">= 0"]
        elif number == 0:
            others = ["> 1e12", ">= 0"]
        else:
            others = [f"{sign} {number * 1.5}", f"{sign} {number * 0.7}"]
        for other in others:
            text = f"{rule['expr'][: bound.start()]}{other}{rule['expr'][bound.end() :]}"
            yield f"{bound[0]} as {other}", {**rule, "expr": text}
    if "for" in rule:
        minutes = int(rule["for"][:-1]) * {"m": 1, "h": 60}[rule["for"][-1]]
        yield "no patience", {**rule, "for": "0m"}
        yield "too much patience", {**rule, "for": f"{minutes * 3}m"}


def test_the_rules_pass_their_cases() -> None:
    done = promtool("test", "rules", str(DEPLOY / "prometheus/rules_test.yml"))

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_bound_that_is_moved_turns_a_case_red(tmp_path: Path) -> None:
    changed = [(rule["alert"], what, other) for rule in RULES for what, other in moved(rule)]

    def unnoticed(number: int) -> str | None:
        alert, what, other = changed[number]
        return f"{alert}: {what}" if alone(tmp_path / str(number), other) else None

    with ThreadPoolExecutor(2) as threads:
        found = [one for one in threads.map(unnoticed, range(len(changed))) if one]
        unmoved = list(threads.map(lambda rule: alone(tmp_path / rule["alert"], rule), RULES))

    assert len(changed) > 3 * len(RULES)
    assert found == []
    assert all(unmoved)


def test_the_rules_are_rules() -> None:
    done = promtool("check", "rules", str(DEPLOY / "prometheus/rules.yml"))

    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_every_panel_asks_something_that_prometheus_understands(tmp_path: Path) -> None:
    assert recorded(tmp_path / "panels.yml", _panels()) == (0, len(_panels()))
    assert recorded(tmp_path / "wrong.yml", ["histogram_quantil(0.9, kline_series)"])[0] == 1


def recorded(path: Path, expressions: Sequence[str]) -> tuple[int, int]:
    """Return the exit code of promtool for the expressions as recording rules, and how many it read."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    read = re.search(r"(\d+) rules found", done.stdout)
    return done.returncode, int(read[1]) if read else 0


def _panels() -> list[str]:
    return [
        target["expr"].replace("$__rate_interval", "5m")
        for path in (DEPLOY / "grafana/dashboards").iterdir()
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]


def test_the_configuration_of_prometheus_is_one(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token")
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    assert text.count("/run/secrets/ops_token") == 1
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/ops_token", str(tmp_path / "token")))
    (tmp_path / "rules.yml").write_text((DEPLOY / "prometheus/rules.yml").read_text())

    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))

    assert done.returncode == 0, done.stdout + done.stderr
