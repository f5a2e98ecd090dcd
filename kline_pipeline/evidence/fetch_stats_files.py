"""What processes without a database counted, in files of KLINE_HOME until one with a database takes them in.

KLINE_HOME/fetch_stats/{source}.json    the counts, replaced whole; {source}.alive is locked while the process lives
"""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

from kline_pipeline.database.engine import Database
from kline_pipeline.errors import StorageError
from kline_pipeline.evidence.fetch_stats import EVERY_S, take_in
from kline_pipeline.files import Folder
from kline_pipeline.metrics import Tally


@contextmanager
def kept_in_files(home: Path, tally: Tally, *, every_s: float = EVERY_S) -> Iterator[None]:
    """Keep what a tally counts for the length of the block; for nobody where nothing else makes a KLINE_HOME.

    Args:
        home: KLINE_HOME.
        tally: what the process counts.
        every_s: between two writings; what a killed process loses at most.
    """
    source, done = uuid4().hex, Event()

    def keep() -> None:
        written: dict[str, float] = {}
        with ExitStack() as stack:
            while True:
                last = done.wait(every_s)
                values = tally.values()
                if values != written and home.is_dir():
                    with suppress(StorageError, OSError):  # metrics are never a reason to fail
                        if not written:
                            (home / "fetch_stats").mkdir(mode=0o700, exist_ok=True)
                            stack.enter_context(_alive(home / "fetch_stats" / f"{source}.alive"))
                        _folder(home).replace(f"{source}.json", json.dumps(values).encode())
                        written = values
                if last:
                    return

    thread = Thread(target=keep, name="fetch stats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def collect(database: Database, home: Path) -> None:
    """Take in what ended processes left, and remove their files; what living ones count stays.

    Raises:
        DatabaseUnavailable: no server answers; the files stay.
    """
    folder = home / "fetch_stats"
    for file in sorted(folder.glob("*.json")):
        if not _has_ended(file.with_suffix(".alive")):
            continue
        try:
            counts = {str(key): float(value) for key, value in json.loads(file.read_bytes()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            counts = {}  # not ours, or taken in by another process meanwhile
        if not all(math.isfinite(value) and value >= 0 for value in counts.values()):
            counts = {}  # not ours: nothing counts backwards
        if counts:
            with database.translate_errors(), database.engine.begin() as connection:
                take_in(connection, file.stem, counts)
        for left in (file, file.with_suffix(".alive")):
            with suppress(OSError):
                left.unlink()


@contextmanager
def _alive(path: Path) -> Iterator[None]:
    """Hold the lock that says that the process lives.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _has_ended(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _folder(home: Path) -> Folder:
    return Folder(str(home / "fetch_stats"))
