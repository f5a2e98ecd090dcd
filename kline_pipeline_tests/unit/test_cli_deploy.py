"""`kline-pipeline deploy init`: all files or none, over nothing that is there, with passwords of their own."""

import json
import re
import stat
from importlib.metadata import version
from pathlib import Path

import pytest

from kline_pipeline import cli
from kline_pipeline.deploy.release import installed, origin

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "kline_pipeline" / "deploy"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_written_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "deployment"

    assert cli.run(["deploy", "init", str(folder)]) == 0

    told = capsys.readouterr().out
    made = tree(folder)
    assert {line.split()[1] for line in told.splitlines() if line.startswith("written ")} == {
        str(folder / name) for name in made
    }
    assert "docker compose up -d --build --wait" in told
    packaged = {name for name in tree(DEPLOY) if not name.endswith((".py", ".pyc"))}
    renamed = {"dockerignore": ".dockerignore", "gitignore": ".gitignore", "compose.env": ".env"}
    generated = {"requirements.txt", "constraints.txt", "wheels/.gitkeep"}
    assert set(made) == {renamed.get(name, name) for name in packaged} | generated
    for name in packaged - {"compose.env"}:
        assert made[renamed.get(name, name)] == (DEPLOY / name).read_bytes()


def test_passwords_are_made_for_each_deployment_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    passwords = []
    for name in ("one", "two"):
        assert cli.run(["deploy", "init", str(tmp_path / name)]) == 0
        private = tmp_path / name / ".env"
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        lines = dict(re.findall(r"^(\w+)=(.*)$", private.read_text(), re.MULTILINE))
        passwords += [
            lines[key] for key in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD", "KLINE_OPS_TOKEN")
        ]

    assert len(set(passwords)) == 8
    assert all(re.fullmatch(r"[\w-]{32}", password) for password in passwords)


def test_given_again_it_keeps_what_is_there_and_puts_back_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["deploy", "init", str(tmp_path)]) == 0
    before = tree(tmp_path)
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=mine\n")
    (tmp_path / "prometheus" / "rules.yml").unlink()
    capsys.readouterr()

    assert cli.run(["deploy", "init", str(tmp_path)]) == 0

    assert tree(tmp_path) == before | {".env": b"POSTGRES_PASSWORD=mine\n"}
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("written")] == [
        f"written  {tmp_path / 'prometheus/rules.yml'}"
    ]


def test_another_file_of_the_same_name_stops_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "grafana").write_text("a file where a folder must be")

    assert cli.run(["deploy", "init", str(tmp_path)]) == 1

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "compose.yaml, grafana/dashboards/data.json" in told
    assert "nothing was written" in told
    assert set(tree(tmp_path)) == {"compose.yaml", "grafana"}


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "deployment").mkdir()
    (tmp_path / "deployment" / "compose.yaml").symlink_to(tmp_path / "elsewhere")

    assert cli.run(["deploy", "init", str(tmp_path / "deployment")]) == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("name", "code"), [("file", 2), ("file/below", 1), ("n" * 300, 1)])
def test_what_can_be_no_folder_is_one_sentence_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    (tmp_path / "file").write_text("mine")

    assert cli.run(["deploy", "init", str(tmp_path / name)]) == code

    assert capsys.readouterr().err.count("\n") == 1
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_failure_in_the_middle_takes_back_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deployment"
    (folder / "grafana").mkdir(parents=True)
    # Nobody can make a file there, not even root; other files come before.
    (folder / "kubernetes").symlink_to("/proc/self")

    assert cli.run(["deploy", "init", str(folder)]) == 1

    assert "nothing was written" in capsys.readouterr().err
    assert tree(folder) == {}
    assert sorted(path.name for path in folder.iterdir()) == ["grafana", "kubernetes"]


def test_the_image_installs_the_release_that_runs_here_and_what_it_runs_with() -> None:
    release = installed()

    assert release.requirement.startswith("kline-pipeline")
    assert list(release.constraints) == sorted(set(release.constraints))
    for name in ("dagster", "dagster-postgres", "pyarrow", "psycopg2-binary", "socksio"):
        assert f"{name}=={version(name)}" in release.constraints
    assert not [line for line in release.constraints if line.startswith(("pytest", "kline-pipeline"))]


@pytest.mark.parametrize(
    ("direct_url", "requirement", "source"),
    [
        (None, "kline-pipeline==1.2", None),
        ({"url": "file:///src/kline%20pipeline", "dir_info": {}}, "kline-pipeline==1.2", "/src/kline pipeline"),
        (
            {"url": "https://me:secret@host/kline.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "kline-pipeline @ git+https://host/kline.git@abc",
            None,
        ),
        (
            {"url": "ssh://git@host/kline.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "py"},
            "kline-pipeline @ git+ssh://git@host/kline.git@abc#subdirectory=py",
            None,
        ),
        ({"url": "https://host/k-1.2.whl", "archive_info": {}}, "kline-pipeline @ https://host/k-1.2.whl", None),
    ],
)
def test_where_a_release_came_from_is_where_the_image_takes_it_from(
    direct_url: dict[str, object] | None, requirement: str, source: str | None
) -> None:
    found = origin("1.2", None if direct_url is None else json.dumps(direct_url))

    assert found == (requirement, None if source is None else Path(source))


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["deploy", "init", "--help"]) == 0
    assert "Example: kline-pipeline deploy init deployment" in " ".join(capsys.readouterr().out.split())
