"""A folder of ours, local or behind any fsspec URL: list, read, replace a file whole; content is not known here.

A reader never sees a half-written file: locally a temporary name, fsync and rename; on an object store a single PUT.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import fsspec

from kline_pipeline.errors import ConfigError, StorageError, VenueMismatch

_ABANDONED_AFTER_S: Final = 3600


class Folder:
    """A root folder by absolute path or fsspec URL; names inside are relative, with slashes.

    Raises:
        ConfigError: the URL's protocol is not known here.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._local = Path(self.url.removeprefix("file://")) if _is_local(self.url) else None
        self._remote: Any = None
        if self._local is None:
            try:
                self._remote, self._root = fsspec.core.url_to_fs(self.url)
            except (ValueError, ImportError) as exc:
                msg = f"{self.url} cannot be opened: {exc}; give a path or an fsspec URL whose package is installed"
                raise ConfigError(msg) from exc

    def locate(self, name: str) -> str:
        """Return the path or URL of a file, for people and for readers of other libraries."""
        return f"{self._local}/{name}" if self._local else f"{self.url}/{name}"

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in `folder`, without temporary ones; empty when it is not there."""
        try:
            if self._local:
                found = [entry.name for entry in os.scandir(self._local / folder) if entry.is_file()]
            else:
                self._remote.invalidate_cache()
                found = [path.rsplit("/", 1)[-1] for path in self._remote.ls(f"{self._root}/{folder}", detail=False)]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def read(self, name: str) -> bytes | None:
        """Return the whole file, None when there is none.

        Raises:
            StorageError: it is there and cannot be read.
        """
        try:
            if self._local:
                return (self._local / name).read_bytes()
            content: bytes = self._remote.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._failed("read", name, exc) from exc
        return content

    def replace(self, name: str, content: bytes) -> None:
        """Put `content` in the place of the file, whole or not at all.

        Raises:
            StorageError: the folder cannot be written or the disk is full; the file is as it was.
        """
        if self._local is None:
            self._put(name, content)
            return
        target = self._local / name
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._rename(temporary, target)
        except OSError as exc:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise self._failed("write", name, exc) from exc

    def delete(self, name: str) -> None:
        """Take the file away; nothing happens when it is gone already.

        Raises:
            StorageError: it cannot be deleted.
        """
        try:
            if self._local:
                (self._local / name).unlink(missing_ok=True)
            else:
                self._remote.rm_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
        except OSError as exc:
            raise self._failed("delete", name, exc) from exc

    def claim(self, venue: str) -> None:
        """Record at the first write which exchange this folder belongs to.

        Raises:
            VenueMismatch: it belongs to another one.
            StorageError: the folder cannot be read or written.
        """
        recorded = self.read("venue")
        if recorded is None:
            self.replace("venue", f"{venue}\n".encode())
        elif (owner := recorded.decode().strip()) != venue:
            raise VenueMismatch(
                f"{self.url} holds candles of {owner} and the exchange is {venue}; "
                "use another KLINE_HOME, or point BYBIT_BASE_URL at the exchange it belongs to"
            )

    @staticmethod
    def _rename(temporary: Path, target: Path) -> None:
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        # What a killed writer of the same file left; a living one has had an hour.
        for left in target.parent.glob(f".{target.name}.*.tmp"):
            if left.stat().st_mtime < target.stat().st_mtime - _ABANDONED_AFTER_S:
                left.unlink(missing_ok=True)

    def _put(self, name: str, content: bytes) -> None:
        try:
            self._remote.pipe_file(f"{self._root}/{name}", content)
        except OSError as exc:
            raise self._failed("write", name, exc) from exc

    def _failed(self, verb: str, name: str, exc: OSError) -> StorageError:
        return StorageError(f"could not {verb} {self.locate(name)}: {exc.strerror or exc}; free space or mend the path")


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")
