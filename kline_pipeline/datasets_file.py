"""Changing datasets.toml: series are added and taken out, comments stay; what the file may say is told in datasets."""

from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions

from kline_pipeline.config import Settings
from kline_pipeline.datasets import read_text
from kline_pipeline.errors import DatasetsError, UnknownSeries
from kline_pipeline.market.series import Series


def add_symbol(settings: Settings, series: Series) -> Path:
    """Write a series into datasets.toml, declaring its dataset where there is none, and return the file's path.

    The packaged default is copied to KLINE_HOME/datasets.toml first where no file of one's own exists; comments stay.

    Raises:
        DatasetsError: the file cannot be read or written.
    """
    path, document = _editable(settings)
    entry = _entry(document, series)
    if entry is None:
        entry = tomlkit.table()
        entry.update({"category": series.category, "interval": series.interval.code, "symbols": tomlkit.array()})
        document.setdefault("dataset", tomlkit.aot()).append(entry)
    if series.symbol in entry.get("exclude", []):
        entry["exclude"].remove(series.symbol)
    if series.symbol not in entry.setdefault("symbols", tomlkit.array()):
        entry["symbols"].append(series.symbol)
    _write(path, document)
    return path


def remove_symbol(settings: Settings, series: Series) -> Path:
    """Take a series out of datasets.toml, note it under `exclude`, and return the file's path; stored candles stay.

    Raises:
        DatasetsError: the file cannot be read or written.
        UnknownSeries: no dataset of the file has the category and interval.
    """
    path, document = _editable(settings)
    entry = _entry(document, series)
    if entry is None:
        raise UnknownSeries(f"{path} declares no dataset for {series}; nothing to remove")
    if series.symbol in entry.get("symbols", []):
        entry["symbols"].remove(series.symbol)
    if series.symbol not in entry.setdefault("exclude", tomlkit.array()):
        entry["exclude"].append(series.symbol)
    _write(path, document)
    return path


def _editable(settings: Settings) -> tuple[Path, tomlkit.TOMLDocument]:
    path = settings.datasets_file or settings.home / "datasets.toml"
    text = read_text(path if path.exists() else None)
    try:
        return path, tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as exc:
        raise DatasetsError(f"{path} is not TOML: {exc}; mend that line") from exc


def _entry(document: tomlkit.TOMLDocument, series: Series) -> Any:
    for entry in document.get("dataset", []):
        if (entry.get("category"), str(entry.get("interval"))) == (series.category, series.interval.code):
            return entry
    return None


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(tomlkit.dumps(document))
        temporary.replace(path)
    except OSError as exc:
        raise DatasetsError(f"{path} cannot be written: {exc}; check KLINE_DATASETS_FILE") from exc
