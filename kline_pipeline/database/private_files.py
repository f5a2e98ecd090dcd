"""Files and folders of the embedded server that no other user may read, replace or put there; their use is not here."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from kline_pipeline.errors import StorageError


def private_folder(folder: Path, *, for_others: bool) -> None:
    """Make a folder that only we change; refuse one that somebody else has put there.

    Args:
        folder: may exist.
        for_others: others may pass through it to what is in it, as the server's user must when we are root.

    Raises:
        StorageError: it cannot be made, or is another user's.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if folder.is_symlink() or not folder.is_dir() or folder.lstat().st_uid != os.geteuid():
            raise StorageError(f"{folder} belongs to another user; remove it or set another KLINE_HOME")
        folder.chmod(0o711 if for_others else 0o700)
    except OSError as exc:
        raise StorageError(f"{folder} cannot be made: {exc.strerror}; set another KLINE_HOME") from exc


def write_private(path: Path, content: str) -> None:
    """Write a file that only we read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)


def digest(path: Path) -> str:
    """Return a short name for a path, the same in every process."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
