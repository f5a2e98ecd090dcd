"""The folder that Dagster calls DAGSTER_HOME, written without loading Dagster; what is in its storage is told there."""

import os
from importlib.resources import files
from pathlib import Path

from kline_pipeline.config import Settings


def write_dagster_home(settings: Settings) -> Path:
    """Write the packaged dagster.yaml to KLINE_HOME/dagster and return that folder, the DAGSTER_HOME."""
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    packaged = (files("kline_pipeline") / "deploy" / "dagster.yaml").read_text()
    target = folder / "dagster.yaml"
    if not target.exists() or target.read_text() != packaged:
        temporary = folder / f".dagster.yaml.{os.getpid()}"
        temporary.write_text(packaged)
        temporary.replace(target)
    return folder
