"""What BYBIT_BASE_URL says by itself: a host, the venue behind it, the budget it shares; nothing is asked here."""

import re
from ipaddress import ip_address
from typing import Final

import httpx

from kline_pipeline.errors import ConfigError

_HOST: Final = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")  # httpx takes anything
_VENUES: Final = {
    "api.bybit.com": "bybit",
    "api.bytick.com": "bybit",
    "api-testnet.bybit.com": "bybit-testnet",
}
# Words in the names of the exchange's own hosts (bybit-v5.md 3.5); any other may be a simulator.
_EXCHANGE_NAMES: Final = frozenset({"bybit", "bytick", "bybitgeorgia", "manepa"})


def url_of(text: str) -> httpx.URL:
    """Return the URL.

    Raises:
        ConfigError: it is none; a password in it is not shown.
    """
    shown = re.sub("//.*@", "//***@", text)
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as exc:
        msg = f"BYBIT_BASE_URL {shown!r} is no URL ({exc}); write https://api.bybit.com or the like"
        raise ConfigError(msg) from exc
    if not _HOST.fullmatch(url.raw_host):
        msg = f"BYBIT_BASE_URL {shown!r} names no host; write https://api.bybit.com or the like"
        raise ConfigError(msg)
    return url


def known_venue(host: str) -> str | None:
    """Return the venue of one of the exchange's own hosts; None for any other, which may be a simulator."""
    if host in _VENUES:
        return _VENUES[host]
    return host if not is_loopback(host) and _EXCHANGE_NAMES & set(host.split(".")) else None


def budget_name(base_url: str) -> str:
    """Return the name under which requests are counted: the venue of the exchange's own hosts, else host and port.

    Without user, password and the usual port, which make no other exchange; the hosts of one venue share its limit.

    Raises:
        ConfigError: the URL is none.
    """
    url = url_of(base_url)
    name = known_venue(url.host) or ("loopback" if is_loopback(url.host) else url.host)
    return name if url.host in _VENUES or url.port is None else f"{name}:{url.port}"


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
