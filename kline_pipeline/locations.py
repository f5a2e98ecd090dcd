"""What a URL or a path in a setting must look like, and what it resolves to; the settings are in config.py."""

from pathlib import Path

from pydantic import SecretStr


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
