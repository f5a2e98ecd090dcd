"""The files of a deployment and how they are written out: all of them or none, over nothing that is there."""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from kline_pipeline.deploy.release import Release
from kline_pipeline.errors import StorageError, UsageError

PRIVATE: Final = ".env"
_UNDER: Final = ("prometheus", "grafana", "kubernetes", "systemd")
_PLAIN: Final = ("Dockerfile", "compose.yaml", "dagster.yaml", "workspace.yaml", "runbook.md")
_DOTTED: Final = {"dockerignore": ".dockerignore", "gitignore": ".gitignore"}  # not to act where they are kept
_FIRST_LINE: Final = "# Every package below kline-pipeline, as it was where these files were written.\n"
_SECRET: Final = re.compile(r"^(POSTGRES_PASSWORD|REDIS_PASSWORD|GRAFANA_PASSWORD|KLINE_OPS_TOKEN)=$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Written:
    """What was done, as names relative to the folder, sorted.

    Attributes:
        new: files that were written.
        kept: files that were there, and are as they were.
    """

    new: tuple[str, ...]
    kept: tuple[str, ...]


def contents(release: Release) -> dict[str, bytes]:
    """Return every file of a deployment by its name; passwords are made anew each time."""
    packaged = files("kline_pipeline") / "deploy"
    found = {name: (packaged / name).read_bytes() for name in _PLAIN}
    found |= {name: (packaged / source).read_bytes() for source, name in _DOTTED.items()}
    for folder in _UNDER:
        found |= _all_below(packaged / folder, folder)
    example = (packaged / "compose.env").read_text()
    found[PRIVATE] = _SECRET.sub(lambda line: f"{line[1]}={secrets.token_urlsafe(24)}", example).encode()
    found["requirements.txt"] = f"{release.requirement}\n".encode()
    found["constraints.txt"] = (_FIRST_LINE + "".join(f"{line}\n" for line in release.constraints)).encode()
    found["wheels/.gitkeep"] = b""
    return found


def write(folder: Path, wanted: Mapping[str, bytes]) -> Written:
    """Write the files that are not there; the private one is left as it is where it is there, others must be equal.

    Raises:
        UsageError: the folder is none.
        StorageError: something else has the name of a file, or a file cannot be written; nothing was written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give another one")
    try:
        kept = [name for name in wanted if _is_there(folder, name)]
        other = [name for name in kept if name != PRIVATE and not _equal(folder / name, wanted[name])]
    except OSError as exc:
        raise StorageError(f"could not read {exc.filename}: {exc.strerror}; nothing was written") from exc
    if other:
        raise StorageError(
            f"{folder} holds other files of these names: {', '.join(sorted(other))}; nothing was written: "
            "move them away, or give another folder"
        )
    new = sorted(set(wanted) - set(kept))
    _write_all(folder, {name: wanted[name] for name in new})
    return Written(tuple(new), tuple(sorted(kept)))


def _all_below(folder: Traversable, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        found |= _all_below(entry, name) if entry.is_dir() else {name: entry.read_bytes()}
    return found


def _is_there(folder: Path, name: str) -> bool:
    """Return whether something has the name, or what should be a folder above it is none; dead links count too."""
    return os.path.lexists(folder / name) or any(
        os.path.lexists(folder / above) and not (folder / above).is_dir() for above in Path(name).parents
    )


def _equal(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _write_all(folder: Path, wanted: Mapping[str, bytes]) -> None:
    made: list[Path] = []
    try:
        for name, content in wanted.items():
            path = folder / name
            for above in reversed([parent for parent in path.parents if not parent.exists()]):
                above.mkdir()
                made.append(above)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            try:
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(name)), "wb") as file:
                    file.write(content)
                os.link(temporary, path)  # not over a file that came meanwhile
                made.append(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as exc:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        reason = exc.strerror or exc
        raise StorageError(f"could not write into {folder}: {reason}; nothing was written, give another one") from exc


def _mode(name: str) -> int:
    return 0o600 if name == PRIVATE else 0o666  # less the umask
