"""Looks at what is on our side: database, snapshot storage, disk, Dagster's daemon; the exchange is in exchange_looks.

A sentence of a look is for everybody who may ask; paths, hosts and texts of errors are in the log alone.
"""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kline_pipeline.database import migrate
from kline_pipeline.database.late import LateDatabase
from kline_pipeline.errors import DatabaseUnavailable, StorageError
from kline_pipeline.files import Folder
from kline_pipeline.metrics import DAEMON_AGE, DATABASE_UP, DISK_FREE, STORAGE_UP, Reading
from kline_pipeline.service.probes import Look
from kline_pipeline.service.room import room

DATABASE_DOWN: Final = (Reading(DATABASE_UP, 0.0),)
STORAGE_DOWN: Final = (Reading(STORAGE_UP, 0.0),)
_PROBE_FILE: Final = ".probe"  # one for all services of a storage; with a dot: it is no snapshot
_SILENCE_S: Final = 90.0  # of a daemon that has a heartbeat every 30 s


def database_look(database: LateDatabase) -> Callable[[], Look]:
    """Return a look whether the database answers with our tables at the newest revision."""

    def look() -> Look:
        try:
            revision, newest = database.look(), migrate.head()
        except DatabaseUnavailable as exc:
            return Look("failed", "it does not answer", readings=DATABASE_DOWN, reason=str(exc))
        except StorageError as exc:
            seen = "it cannot be started or used; the log of the service says why"
            return Look("failed", seen, readings=DATABASE_DOWN, reason=str(exc))
        up, facts = (Reading(DATABASE_UP, 1.0),), {"revision": revision}
        if revision == newest:
            return Look("ok", f"it answers, and its tables are at revision {revision}", facts, up)
        has = "has no tables of ours" if revision is None else f"is at revision {revision} instead of {newest}"
        return Look("failed", f"it answers and {has}; run kline-pipeline db upgrade", facts, up)

    return look


def storage_look(url: str, *, clock_s: Callable[[], float] = time.time) -> Callable[[], Look]:
    """Return a look whether the snapshots can be listed, written and read: a file of a few bytes is replaced.

    Args:
        url: path or fsspec URL of the snapshots.
        clock_s: Unix time, which is written into that file.
    """

    def look() -> Look:
        folder = Folder(url)
        folder.names("")
        content = f"{datetime.fromtimestamp(clock_s(), UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode()
        folder.replace(_PROBE_FILE, content)
        if folder.read(_PROBE_FILE) is None:
            return Look("failed", "what was written cannot be read", readings=STORAGE_DOWN)
        return Look("ok", "snapshots can be listed, written and read", readings=(Reading(STORAGE_UP, 1.0),))

    return look


def disk_look(
    home: Path, *, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Callable[[], Look]:
    """Return a look at the room under KLINE_HOME, judged as `doctor` does."""

    def look() -> Look:
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        free = free_bytes(there)
        facts, readings = {"free_bytes": free}, (Reading(DISK_FREE, float(free)),)
        told = f"{free / 10**9:,.1f} GB are free under KLINE_HOME"
        judged = room(free)
        if judged == "too few":
            return Look("failed", f"{told}, too little to work with", facts, readings)
        if judged == "few":
            return Look("degraded", f"{told}; free some before a large backfill", facts, readings)
        return Look("ok", told, facts, readings)

    return look


def daemon_look(age_s: Callable[[], float | None]) -> Callable[[], Look]:
    """Return a look at the heartbeat of Dagster's daemon.

    Args:
        age_s: says how old its newest heartbeat is, seconds; None where there never was one.
    """

    def look() -> Look:
        try:
            age = age_s()
        except DatabaseUnavailable:
            return Look("degraded", "nobody can tell: its heartbeats are in the database, which does not answer")
        if age is None:
            return Look("degraded", "it was never heard of; kline-pipeline up starts it")
        facts, readings = {"heartbeat_age_s": round(age, 1)}, (Reading(DAEMON_AGE, age),)
        if age > _SILENCE_S:
            return Look("failed", f"it was last heard of {age:.0f} s ago; kline-pipeline up starts it", facts, readings)
        return Look("ok", "it was heard of in time", facts, readings)

    return look
