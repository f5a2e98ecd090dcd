"""Dashboards and rules ask for nothing that the service does not export, and say where to read on."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from kline_pipeline.deploy import dashboards
from kline_pipeline_tests.expressions import faults, parsed

DEPLOY = Path(str(files("kline_pipeline") / "deploy"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"] for rule in group["rules"]
]
CASES = yaml.safe_load((DEPLOY / "prometheus/rules_test.yml").read_text())["tests"]
BOARDS = {path.name: json.loads(path.read_text()) for path in (DEPLOY / "grafana/dashboards").iterdir()}
TARGETS = [
    (f"{name}: {panel['title']}", target)
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel["targets"]
]
EXPRESSIONS = [(rule["alert"], rule["expr"]) for rule in RULES] + [(of, target["expr"]) for of, target in TARGETS]


def test_every_expression_asks_only_for_what_is_exported() -> None:
    found = {of: faults(expression.replace("$__rate_interval", "5m")) for of, expression in EXPRESSIONS}

    assert {of: told for of, told in found.items() if told} == {}
    assert len(EXPRESSIONS) > len(RULES) > 0


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(kline_nonsense_total)", "kline_nonsense_total is not exported"),
        ("rate(kline_exchange_requests[5m])", "kline_exchange_requests is not exported"),
        ("kline_exchange_request_seconds > 1", "kline_exchange_request_seconds is not exported"),
        ("sum by (symbol) (kline_gaps_open)", "kline_gaps_open has no label symbol"),
        ('kline_gaps_open{venue="bybit"}', "kline_gaps_open has no label venue"),
        ('kline_partitions{state="lost"}', "state of kline_partitions is never lost"),
        ('kline_partitions{state=~"landed|lost"}', "state of kline_partitions is never lost"),
        ("kline_database_up == 1 and on (le) kline_exchange_up", "kline_database_up has no label le"),
        ("vector(1) > 0", "it asks for no metric"),
    ],
)
def test_what_is_not_exported_is_found(expression: str, fault: str) -> None:
    assert fault in faults(expression)


def test_the_legend_of_a_panel_names_labels_that_its_expression_leaves() -> None:
    for of, target in TARGETS:
        selectors, grouped = parsed(target["expr"].replace("$__rate_interval", "5m"))
        legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert legend <= (grouped or {"series"}), of
        assert selectors


def test_the_dashboards_are_those_that_the_program_makes() -> None:
    made = dashboards.written()

    assert made == {path.name: path.read_text() for path in dashboards.FOLDER.iterdir()}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 3


def test_panels_have_a_place_each_and_none_lies_on_another() -> None:
    for name, board in BOARDS.items():
        taken = [
            (x, y)
            for panel in board["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(taken) == len(set(taken)), name
        assert max(x for x, _ in taken) < 24
        assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))


def test_the_series_of_the_cases_are_exported_too() -> None:
    for case in CASES:
        for series in case["input_series"]:
            # `le` is a label of samples, and a target of another job is one of the cases.
            plain = re.sub(r',?le="[^"]*"', "", series["series"])
            assert 'job="another"' in plain or faults(plain) == [], plain


def test_every_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"runbook.md#{rule['alert'].lower()}"
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    for rule in RULES:
        looks = [
            look["exp_samples"] for case in CASES if case["name"] == rule["alert"] for look in case["promql_expr_test"]
        ]
        assert [] in looks, rule["alert"]
        assert [look for look in looks if look], rule["alert"]
