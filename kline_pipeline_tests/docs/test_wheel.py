"""The built wheel, not the checkout, holds everything that runs: migrations, TOML, YAML, the type marker."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_ships_every_file_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True, text=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "kline_pipeline").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert sources <= names
    assert "kline_pipeline/database/migrations/versions/r0001_first_tables.py" in names
    assert {"kline_pipeline/datasets.toml", "kline_pipeline/deploy/dagster.yaml", "kline_pipeline/py.typed"} <= names
    # `deploy init` of who installed the wheel writes these.
    assert {"kline_pipeline/deploy/dockerignore", "kline_pipeline/deploy/compose.env"} <= names
    assert not [name for name in names if name.startswith("kline_pipeline_tests")]


def test_the_top_level_dagster_yaml_is_the_packaged_one() -> None:
    assert (ROOT / "dagster.yaml").read_text() == (ROOT / "kline_pipeline/deploy/dagster.yaml").read_text()
