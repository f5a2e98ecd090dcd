"""Every command of the README exists, with the options that stand there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kline_pipeline.cli.app import app
from kline_pipeline.datasets import load

README = (Path(__file__).parents[2] / "README.md").read_text()
LINES = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    ")]
COMMANDS = sorted({found for line in LINES for found in re.findall(r"kline-pipeline [^&]*", line)})


def test_the_readme_begins_with_the_two_commands() -> None:
    assert [line.split(" #")[0].strip() for line in README.splitlines()[2:4]] == [
        "pip install -e '.[dev]' && kline-pipeline demo",
        "pip install -e '.[dev]' && pytest",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)[1:]
    names = [word for word in words if not word.startswith("-")][: 2 if words[0] in {"series", "db", "deploy"} else 1]

    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})

    assert shown.exit_code == 0
    for option in (word for word in words if word.startswith("-")):
        assert option in shown.output


def test_the_dataset_of_the_readme_is_one(tmp_path: Path) -> None:
    text = re.search(r"    \[\[dataset\]\]\n(?:    .+\n)+", README)
    assert text is not None
    path = tmp_path / "datasets.toml"
    path.write_text(re.sub("^    ", "", text[0], flags=re.MULTILINE))

    assert load(path)[0].symbols == ("BTCUSDT", "ETHUSDT")
