"""What a URL, a path or an address in a setting must look like, and what it resolves to; settings are in config.py."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pydantic import SecretStr

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")  # what a header can carry (RFC 6750), and nobody guesses at once
_WORD: Final = re.compile(r"[a-z]{1,15}")  # a part of a URL such as services, alerts, true
_SHORT: Final = 6  # characters; a part of a URL that is shorter is no secret


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


def secrets_of(name: str, value: object) -> set[str]:
    """Return what is secret of a setting: all that is a SecretStr, and of any URL what the functions below say.

    Args:
        name: of the field.
        value: of any type.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return set()
    if name == "alert_urls":
        return {secret for url in text.split() for secret in alert_secrets(url)}
    if "://" in text:
        return url_secrets(text)
    return {text} if isinstance(value, SecretStr) and not text.startswith("file:") else set()


def url_secrets(url: str) -> set[str]:
    """Return what is secret of the URL of a database, a cache, a folder or a host: its user with password, both ways.

    What is in a query by a name such as password counts too. Empty where it has no password.
    """
    _, _, rest = url.partition("://")
    authority, after = _parted(rest)
    login, _, _ = authority.rpartition("@")
    _, _, password = login.partition(":")
    named = re.findall(r"(?:password|passwd|secret|token|key)=([^&#]+)", after, re.IGNORECASE)
    told = {login, password, *named} if password else set(named)
    return {one for part in told if part for one in (part, unquote(part))}


def alert_secrets(url: str) -> set[str]:
    """Return the parts of a URL of apprise that may be secret: all of it but scheme, host, and plain short words.

    Some services have a token in place of the host.
    """
    _, mark, rest = url.partition("://")
    if not mark:
        return {url}
    authority, after = _parted(rest)
    login, _, host = authority.rpartition("@")
    _, _, password = login.partition(":")
    parts = {*re.split(r"[/?&=#,]+", after), *re.split(r"[:@]", login)}
    if not re.fullmatch(r"(localhost|\d+(\.\d+){3}|\[[\da-f:]+\]|[\w-]+(\.[\w-]+)+)(:\d+)?", host, re.IGNORECASE):
        parts |= {host, *host.split(":")}
    told = {part for part in parts if len(part) >= _SHORT and not _WORD.fullmatch(part)}
    told |= {password, login} if password else set()
    return {one for part in told for one in (part, unquote(part))}


def _parted(rest: str) -> tuple[str, str]:
    """Return the authority of a URL, and what comes after it, of what follows its scheme."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return authority, rest[len(authority) :]
