"""What `doctor` sees without asking anybody: variables, datasets.toml, the disk, where alerts go."""

import difflib
import os
import shutil
from pathlib import Path

from kline_pipeline import datasets
from kline_pipeline.alerting.delivery import targets
from kline_pipeline.cli.checkup.finding import Seen
from kline_pipeline.config import Settings, given_variables, known_variables
from kline_pipeline.defs.size import size_warning
from kline_pipeline.service.room import room


def variables_seen() -> Seen:
    """Look for variables that nobody reads: their names are misspelt, or of another release."""
    known = known_variables()
    unknown = sorted(given_variables() - known)
    if not unknown:
        return "ok", "every BYBIT_ and KLINE_ variable that is set is one of ours"
    # Without their first word: which of the two it is, is mixed up as well.
    endings = {name.partition("_")[2]: name for name in sorted(known)}
    told = []
    for name in unknown:
        near = difflib.get_close_matches(name.partition("_")[2], endings, n=1)
        told.append(f"{name} (is {endings[near[0]]} meant?)" if near else name)
    return "warn", f"nobody reads {', '.join(told)}; unset it, or write it as in .env.example"


def datasets_seen(settings: Settings, now_ms: int) -> Seen:
    """Look whether datasets.toml can be read and what it declares is of a size that Dagster's pages bear."""
    declared = datasets.load(settings.datasets_file)
    where = str(settings.datasets_file or "the packaged default")
    if not declared:
        return "warn", f"{where} declares none; add a series with kline-pipeline series add linear:BTCUSDT:1"
    told = f"{where} declares {', '.join(dataset.name for dataset in declared)}"
    sizes = [size_warning(dataset, len(dataset.symbols), now_ms) for dataset in declared]
    if large := [size for size in sizes if size]:
        return "warn", f"{told}; {'; '.join(large)}"
    return "ok", told


def disk_seen(home: Path) -> Seen:
    """Look whether KLINE_HOME can be written and has room."""
    there = nearest(home)
    if not may_write(there):
        return "FAIL", f"{there} is no folder that can be written; set another KLINE_HOME"
    return room_seen(shutil.disk_usage(there).free, there)


def room_seen(free_bytes: int, folder: Path) -> Seen:
    """Return what is to be said of the free bytes under a folder."""
    told = f"{free_bytes / 10**9:,.1f} GB are free under {folder}"
    judged = room(free_bytes)
    if judged == "too few":
        return "FAIL", f"{told}, too little to work with; free some, or set another KLINE_HOME"
    return ("warn", f"{told}; free some before a large backfill") if judged == "few" else ("ok", told)


def nearest(path: Path) -> Path:
    """Return what is there of a path: itself, or the nearest above it."""
    return next(one for one in (path, *path.parents) if one.exists())


def may_write(folder: Path) -> bool:
    """Return whether it is a folder that this user can write into."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def alerts_seen(settings: Settings) -> Seen:
    """Look whether each URL of KLINE_ALERT_URLS can be used; nothing is sent."""
    good, wrong = targets(settings.alert_urls)
    if wrong:
        return "FAIL", "; ".join(map(str, wrong))
    if not good:
        return "ok", "go nowhere, as KLINE_ALERT_URLS is not set; failures are red in the UI all the same"
    return "ok", f"go to {', '.join(target.shown for target in good)}"
