"""Files that children of ours print into (Dagster's, workers, the simulator): begun anew each day, kept for 30 days."""

import fcntl
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

KEPT_DAYS: Final = 30
_MODE: Final = 0o600
_DAY: Final = "[0-9]" * 4 + "-[0-9][0-9]-[0-9][0-9]"


def begin_anew(path: Path) -> None:
    """Put aside what a file of children has from before today, UTC, as FILE.2024-01-31; 30 such files are kept.

    Without a file a new one is made, for its owner alone.

    Its content is copied and the file emptied, as children that run keep it open: they must append to it.

    Args:
        path: the file; one of today is left alone.

    Raises:
        OSError: the folder cannot be written.
    """
    turn = path.with_name(f".{path.name}.lock")
    with turn.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        begun = turn.with_suffix(".day")
        since = begun.read_text() if begun.exists() else _day_of(path)
        begun.write_text(today)
        if since not in {"", today} and path.exists() and path.stat().st_size:
            old = path.with_name(f"{path.name}.{since}")
            with path.open("rb") as content, old.open("ab") as kept:
                old.chmod(_MODE)
                shutil.copyfileobj(content, kept)
            os.truncate(path, 0)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE))
        for old in sorted(path.parent.glob(f"{path.name}.{_DAY}"))[:-KEPT_DAYS]:
            old.unlink(missing_ok=True)


def _day_of(path: Path) -> str:
    return f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}" if path.exists() else ""
