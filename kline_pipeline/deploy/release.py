"""Which release an image installs: the one that runs here, as pip knows where it came from, and all that it needs.

Nothing is asked but the metadata of what is installed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_NAME: Final = "kline-pipeline"


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be installed.

    Attributes:
        requirement: a line of requirements.txt, without a password.
        source: the local folder or wheel that it was installed from and that no index has; None where there is one.
        constraints: lines of constraints.txt, sorted: every package below it in the version that is installed here.
    """

    requirement: str
    source: Path | None
    constraints: tuple[str, ...]


def installed() -> Release:
    """Return the release that runs here."""
    found = distribution(_NAME)
    requirement, source = origin(found.version, found.read_text("direct_url.json"))
    return Release(requirement, source, tuple(sorted(_below(found))))


def origin(version: str, direct_url: str | None) -> tuple[str, Path | None]:
    """Return the requirement of a release, and the local folder or wheel that it came from.

    Args:
        version: of the release.
        direct_url: what pip wrote down of an installation that came from no index (PEP 610); None of one that did.
    """
    if direct_url is None:
        return f"{_NAME}=={version}", None
    told: dict[str, Any] = json.loads(direct_url)
    address = urlsplit(told["url"])
    if address.scheme == "file":
        return f"{_NAME}=={version}", Path(unquote(address.path))
    if address.scheme in {"http", "https"}:
        address = address._replace(netloc=address.netloc.rpartition("@")[2])
    url = urlunsplit(address)
    if "vcs_info" in told:
        url = f"{told['vcs_info']['vcs']}+{url}@{told['vcs_info']['commit_id']}"
    if "subdirectory" in told:
        url += f"#subdirectory={told['subdirectory']}"
    return f"{_NAME} @ {url}", None


def _below(found: Distribution) -> Iterator[str]:
    """Yield name==version of every package that a distribution needs here, each once."""
    seen: set[tuple[str, str]] = set()
    told: set[str] = set()
    waiting = [(found, "")]
    while waiting:
        one, extra = waiting.pop()
        for line in one.requires or []:
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(needed.name)
            try:
                below = distribution(name)
            except PackageNotFoundError:  # wanted on other systems only
                continue
            if name not in told:
                told.add(name)
                yield f"{name}=={below.version}"
            for wanted in ("", *needed.extras):
                if (name, wanted) not in seen:
                    seen.add((name, wanted))
                    waiting.append((below, wanted))
