"""The runbook has a section for each alert, and every command that stands there exists with its options."""

import re
import shlex
from importlib.resources import files
from pathlib import Path

import yaml
from typer.testing import CliRunner

from kline_pipeline.cli.app import app
from kline_pipeline.cli.checkup.examination import CHECKS

DEPLOY = Path(str(files("kline_pipeline") / "deploy"))
RUNBOOK = (DEPLOY / "runbook.md").read_text()
README = Path(__file__).parents[2] / "README.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
BLOCKS = [line.strip() for line in RUNBOOK.splitlines() if re.match(r" {4,6}[a-z]", line)]
COMMANDS = [*BLOCKS, *re.findall(r"`(kline-pipeline [^`]+)`", RUNBOOK)]
OTHER_PROGRAMS = {"docker", "systemctl", "timedatectl", "curl", "du", "dagster"}
GROUPS = {"series", "db", "cache", "deploy"}


def anchor(title: str) -> str:
    """Return the anchor of a title, as GitHub and its like make it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_every_alert_has_its_section_and_the_other_way_round() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]
    urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]]

    assert sorted(urls) == sorted(f"runbook.md#{anchor(title)}" for title in SECTIONS if title.startswith("Kline"))


def test_every_section_says_symptom_cause_and_what_to_do() -> None:
    for title, body in SECTIONS.items():
        assert re.findall(r"^- \*\*(\w+)\*\*", body, re.MULTILINE) == ["Symptom", "Cause", "Do"], title


def test_every_link_leads_to_a_section() -> None:
    links = re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)

    assert links
    assert set(links) <= {anchor(title) for title in SECTIONS}


def test_every_command_of_the_runbook_exists_with_its_options() -> None:
    assert len(COMMANDS) > len(SECTIONS)
    for command in COMMANDS:
        words = shlex.split(command)
        ours = [number for number, word in enumerate(words[:-1]) if Path(word).name == "kline-pipeline"]
        words = ["kline-pipeline", *words[ours[-1] + 1 :]] if ours else words
        if words[0] in OTHER_PROGRAMS:
            continue
        assert words[0] == "kline-pipeline", command
        names = [word for word in words[1:] if not word.startswith("-")]
        names = names[: 2 if names[0] in GROUPS else 1]
        shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, command
        for option in (word for word in words if word.startswith("--") and word not in {"--simulate", "--help"}):
            assert option in shown.output, command


def test_a_service_of_compose_that_the_runbook_names_is_one() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    named = [
        re.sub(r" -\w+", "", line).split()[3:] for line in BLOCKS if re.match(r"docker compose (up|restart)", line)
    ]

    assert named
    assert {name for names in named for name in names} <= set(services)


def test_the_checks_that_doctor_makes_are_told() -> None:
    for check in CHECKS:
        assert check.removeprefix("API ").split()[-1].lower() in RUNBOOK.lower(), check


def test_the_readme_leads_to_the_runbook() -> None:
    assert "(kline_pipeline/deploy/runbook.md)" in README.read_text()
