"""Where people reach Dagster's UI of a KLINE_HOME, and the lock by which one `up` alone holds that folder.

The file up.lock names the process of the `up` and the address of its UI; that counts only while the lock is held.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from kline_pipeline.config import Settings
from kline_pipeline.errors import StorageError

_LOCK: Final = "up.lock"
_LOOK_S: Final = 0.1  # far longer than another command holds the lock to see whether it is held


@contextmanager
def only_up(home: Path, url: str) -> Iterator[None]:
    """Hold KLINE_HOME for this `up` alone, and leave the address of its UI there.

    Raises:
        StorageError: another `up` holds it, or it cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        opened = (home / _LOCK).open("a+")
    except OSError as exc:
        msg = f"{exc.filename} cannot be written: {exc.strerror}; make it writable, or set KLINE_HOME to another folder"
        raise StorageError(msg) from exc
    with opened as lock:
        if not _taken(lock):
            time.sleep(_LOOK_S)
            if not _taken(lock):
                first = (_words(lock) or ["unknown"])[0]
                raise StorageError(f"`up` runs on {home} already, as process {first}; use that, or stop it first")
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n{url}\n")
        lock.flush()
        yield


def ui_url(settings: Settings) -> str | None:
    """Return the address of the UI, without a slash at the end; None where none is set and no `up` runs here."""
    return settings.ui_url or running_up(settings.home)


def running_up(home: Path) -> str | None:
    """Return the address of the UI of the `up` that holds a KLINE_HOME; None while none does."""
    try:
        lock = (home / _LOCK).open()
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return next(iter(_words(lock)[1:]), None)
        return None


def run_link(url: str | None, run_id: str) -> str:
    """Return the page of a run; its id alone where there is no UI."""
    return f"{url}/runs/{run_id}" if url else run_id


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _words(lock: IO[str]) -> list[str]:
    lock.seek(0)
    return lock.read().split()
