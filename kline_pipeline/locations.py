"""What a URL, a path or an address in a setting must look like, and what it resolves to; settings are in config.py."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from pydantic import SecretStr

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")  # what a header can carry (RFC 6750), and nobody guesses at once


def http_url(value: str) -> str:
    """Return a URL without a slash at its end.

    Raises:
        ValueError: it is no http URL.
    """
    if not value.startswith(("http://", "https://")):
        msg = "must begin with http:// or https://"
        raise ValueError(msg)
    return value.rstrip("/")


def optional_http_url(value: str | None) -> str | None:
    """Return what `http_url` makes of it, None of None."""
    return None if value is None else http_url(value)


def postgres_url(value: SecretStr | None) -> SecretStr | None:
    """Return the URL as it is.

    Raises:
        ValueError: it is no URL of PostgreSQL.
    """
    if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        msg = "must be a postgresql:// URL"
        raise ValueError(msg)
    return value


def networks(value: str | None) -> str | None:
    """Return the addresses and networks as they are, blanks between them.

    Raises:
        ValueError: one is none.
    """
    for text in (value or "").split():
        try:
            ip_network(text)
        except ValueError as exc:
            msg = f"{exc}; write addresses or networks such as 10.0.0.7 or 10.0.0.0/8, with blanks between"
            raise ValueError(msg) from None
    return value


def bearer_token(value: SecretStr | None) -> SecretStr | None:
    """Return the token as it is.

    Raises:
        ValueError: a header cannot carry it, or it is too short to keep anybody out.
    """
    if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
        msg = "must be at least 8 letters, digits or . _ ~ + / = -"
        raise ValueError(msg)
    return value


def cache_url(value: SecretStr | None) -> SecretStr | None:
    """Return the URL as it is.

    Raises:
        ValueError: it is neither a folder, nor a Redis, nor `none`.
    """
    text = value.get_secret_value() if value is not None else "none"
    if text != "none" and not (text.removeprefix("file:") and text.startswith(("file:", "redis://", "rediss://"))):
        msg = "must be file:FOLDER, redis://HOST:PORT/N or none"
        raise ValueError(msg)
    return value


def home(configured: Path | None) -> Path:
    """Return the absolute path of KLINE_HOME: as configured, else the nearest folder .kline upward, else ./.kline."""
    if configured is not None:
        return configured.expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".kline").is_dir():
            return folder / ".kline"
    return here / ".kline"


def location(configured: str | None, default: Path, *, simulated: bool) -> str:
    """Return where files go, an absolute path or an fsspec URL; simulated ones always go to the default."""
    if configured is None or simulated:
        return str(default)
    return configured if "://" in configured else str(Path(configured).expanduser().absolute())


def cache_location(configured: SecretStr | None, default: Path, *, simulated: bool) -> SecretStr | None:
    """Return where pages are kept, file:ABSOLUTE_FOLDER or a Redis URL; None for no cache."""
    if configured is None or simulated:
        return SecretStr(f"file:{default}")
    text = configured.get_secret_value()
    if text == "none":
        return None
    if text.startswith("file:"):
        return SecretStr(f"file:{Path(text.removeprefix('file:')).expanduser().absolute()}")
    return configured
