"""Where entries of the cache lie: what every store can do, and the store in a folder; Redis is in redis_store.

A store keeps bytes under names. What they are, how old they may be, and how many there may be is decided in cache.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from kline_pipeline.bybit.cache.entries import NOTES, series_keys
from kline_pipeline.errors import StorageError
from kline_pipeline.market.series import CATEGORIES

_ABANDONED_AFTER_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """That there is an entry; ordered by the time it was written.

    Attributes:
        written_ms: by the writer's clock, UTC.
        name: of the entry.
        size_bytes: as stored.
    """

    written_ms: int
    name: str
    size_bytes: int


class Store(Protocol):
    """Bytes under names, for any number of threads and processes; every method raises StorageError where it fails."""

    @property
    def location(self) -> str:
        """Where it is, without a password."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the whole entry, None when there is none."""
        ...

    def write(self, name: str, content: bytes, written_ms: int) -> None:
        """Put an entry in its place, whole or not at all."""
        ...

    def remove(self, names: Iterable[str]) -> int:
        """Take entries away and return how many were there."""
        ...

    def entries(self) -> list[Stored]:
        """Return all entries, unordered; what broken-off writes and expired entries left is taken away."""
        ...

    def owner(self) -> str | None:
        """Return the exchange that was recorded, None before the first write."""
        ...

    def claim(self, venue: str) -> str:
        """Record the exchange where none is recorded, and return the recorded one."""
        ...

    def disown(self) -> None:
        """Forget the exchange; for a store without entries."""
        ...

    def counts(self) -> tuple[int, int]:
        """Return hits and misses of all processes that were closed."""
        ...

    def count(self, hits: int, misses: int) -> None:
        """Add to them."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class FileStore:
    """Entries as files of a folder, which is made at the first write; other files in it are left alone.

    Args:
        folder: absolute path.
        clock_ms: UTC milliseconds.
    """

    def __init__(self, folder: Path, clock_ms: Callable[[], int]) -> None:
        self._folder = folder
        self._clock_ms = clock_ms
        self.location = f"file:{folder}"

    def read(self, name: str) -> bytes | None:
        """Return the whole file, None when there is none."""
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise self._failed("read", name, exc) from exc

    def write(self, name: str, content: bytes, written_ms: int) -> None:
        """Put a file in its place by a rename; its time of change is `written_ms`.

        Nothing is synced: what a power failure leaves half-written fails its checksum and is fetched again.
        """
        target = self._folder / name
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.utime(temporary, ns=(written_ms * 1_000_000, written_ms * 1_000_000))
            temporary.replace(target)
        except OSError as exc:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise self._failed("write", name, exc) from exc

    def remove(self, names: Iterable[str]) -> int:
        """Unlink files; one that is gone already is not counted."""
        removed = 0
        for name in names:
            try:
                (self._folder / name).unlink()
                removed += 1
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise self._failed("remove", name, exc) from exc
        return removed

    def entries(self) -> list[Stored]:
        """Return the files that are entries, by their names; temporary files of killed writers are removed."""
        found = []
        abandoned_ms = self._clock_ms() - _ABANDONED_AFTER_MS
        try:
            for file in self._files():
                with suppress(FileNotFoundError):  # another process removes them too
                    status = file.stat(follow_symlinks=False)
                    written_ms = status.st_mtime_ns // 1_000_000
                    name = file.path[len(str(self._folder)) + 1 :]
                    if series_keys(name):
                        found.append(Stored(written_ms, name, status.st_size))
                    elif file.name.startswith(".") and file.name.endswith(".tmp") and written_ms < abandoned_ms:
                        Path(file.path).unlink()
        except OSError as exc:
            raise self._failed("list", "", exc) from exc
        return found

    def owner(self) -> str | None:
        """Return what the file `venue` says."""
        recorded = self.read("venue")
        return recorded.decode(errors="replace").strip() or None if recorded is not None else None

    def claim(self, venue: str) -> str:
        """Write the file `venue` where there is none; of two at once the later stays, names keep them apart."""
        if self.owner() is None:
            self.write("venue", f"{venue}\n".encode(), self._clock_ms())
        return self.owner() or venue

    def disown(self) -> None:
        """Remove the file `venue`."""
        self.remove(["venue"])

    def counts(self) -> tuple[int, int]:
        """Return what the file `counts` says; nothing readable is nothing counted."""
        return _parsed(self.read("counts") or b"")

    def count(self, hits: int, misses: int) -> None:
        """Add under a lock on the file, in place: a rename would take the lock away from those who wait for it."""
        try:
            path = self._folder / "counts"
            self._folder.mkdir(parents=True, exist_ok=True)
            path.touch()
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                before = _parsed(file.read())
                file.seek(0)
                file.write(b"hits %015d misses %015d\n" % (before[0] + hits, before[1] + misses))
                file.truncate()
        except OSError as exc:
            raise self._failed("write", "counts", exc) from exc

    def close(self) -> None:
        """Nothing is open."""

    def _files(self) -> Iterator["os.DirEntry[str]"]:
        """Yield every file below the folders that can hold entries; links are not followed."""
        if not self._folder.is_dir():
            return
        for venue in _subfolders(str(self._folder)):
            folders = [folder for folder in _subfolders(venue) if folder.rsplit(os.sep, 1)[-1] in (*CATEGORIES, NOTES)]
            while folders:
                folder = folders.pop()
                folders.extend(_subfolders(folder))
                with suppress(FileNotFoundError), os.scandir(folder) as inside:
                    yield from (file for file in inside if file.is_file(follow_symlinks=False))

    def _failed(self, verb: str, name: str, exc: OSError) -> StorageError:
        where = self._folder / name
        return StorageError(
            f"could not {verb} {where}: {exc.strerror or exc}; free space, mend it or remove the folder"
        )


def _subfolders(folder: str) -> list[str]:
    with suppress(FileNotFoundError), os.scandir(folder) as inside:
        return [entry.path for entry in inside if entry.is_dir(follow_symlinks=False)]
    return []


def _parsed(content: bytes) -> tuple[int, int]:
    match content.split():
        case [b"hits", hits, b"misses", misses] if hits.isdigit() and misses.isdigit():
            return int(hits), int(misses)
    return 0, 0
