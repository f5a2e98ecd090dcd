"""One GET to the host and what came back; budget, retries and meaning are told elsewhere.

The only module of bybit/ that knows httpx.
"""

import re
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, Self

import httpx
import msgspec

from kline_pipeline.bybit.messages import Answer, malformed
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import ConfigError, ExchangeUnavailable

_MAX_BODY_BYTES: Final = 32 * 2**20  # a candle page has 0.1 MB, all linear instruments about 1 MB
_OK: Final = 200
_HOST: Final = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")  # httpx takes anything
_VENUES: Final = {
    "api.bybit.com": "bybit",
    "api.bytick.com": "bybit",
    "api-testnet.bybit.com": "bybit-testnet",
}
# Words in the names of the exchange's own hosts (bybit-v5.md 3.5); any other may be a simulator.
_EXCHANGE_NAMES: Final = frozenset({"bybit", "bytick", "bybitgeorgia", "manepa"})


class Connection:
    """A pool of connections to one host, for any number of threads; a context manager.

    Attributes:
        host: name and, where it is not the usual one, port.
    """

    def __init__(self, settings: BybitSettings, transport: httpx.BaseTransport | None = None) -> None:
        """Prepare the pool; nothing is sent.

        Raises:
            ConfigError: BYBIT_BASE_URL is no URL.
        """
        url = _url(settings.base_url)
        count = settings.concurrency
        self._http = httpx.Client(
            base_url=url,
            timeout=settings.timeout_s,
            limits=httpx.Limits(max_connections=count, max_keepalive_connections=count),
            transport=transport,
            headers={"user-agent": "kline-pipeline", "accept-encoding": "gzip"},
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not _is_loopback(url.host),
        )
        self.host = url.netloc.decode()
        self._name = url.host
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str], asked: str) -> Answer:
        """Return the answer to one GET, whatever its status.

        Args:
            path: below BYBIT_BASE_URL.
            params: of the query; a body is never sent, it is answered with 403 (bybit-v5.md 3.2).
            asked: the question in words, for errors.

        Raises:
            ExchangeUnavailable: no connection, a time-out, a connection that broke.
            MalformedAnswer: a body that does not end.
        """
        started = time.monotonic()
        try:
            with self._http.stream("GET", path, params=params) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body, whole = _read(response)
                answer = Answer(
                    host=self.host,
                    asked=asked,
                    status=response.status_code,
                    headers=headers,
                    body=body,
                )
        except httpx.RequestError as exc:
            what = self._failure(exc, time.monotonic() - started)
            msg = f"asked {self.host} for {asked} and {what}"
            raise ExchangeUnavailable(msg) from exc
        if not whole:
            raise malformed(answer, f"more than {_MAX_BODY_BYTES} bytes")
        return answer

    def venue(self) -> str:
        """Return the name of what stands behind the host.

        A simulator names itself in GET /_sim/stats, which the exchange's own hosts are not asked
        for; elsewhere the host is the name.

        Raises:
            ExchangeUnavailable: a host that may be a simulator does not answer.
        """
        if self._name in _VENUES:
            return _VENUES[self._name]
        if not _is_loopback(self._name) and _EXCHANGE_NAMES & set(self._name.split(".")):
            return self._name
        answer = self.get("/_sim/stats", {}, "its name")
        try:
            named = msgspec.json.decode(answer.body, type=_Named) if answer.status == _OK else None
        except msgspec.MsgspecError:
            named = None
        return named.venue if named else self.host

    def _failure(self, exc: httpx.RequestError, elapsed_s: float) -> str:
        reason = str(exc) or type(exc).__name__
        if isinstance(exc, httpx.TimeoutException):
            waited = f"no answer came within {self._settings.timeout_s:g} s"
            return f"{waited} ({reason}); check the network, or raise BYBIT_TIMEOUT_S"
        if isinstance(exc, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.ProxyError):
            return f"no connection could be made ({reason}); check BYBIT_BASE_URL and the network"
        return f"the connection broke after {elapsed_s:.1f} s ({reason}); check the network"


class _Named(msgspec.Struct):
    venue: str


def venue_of(settings: BybitSettings, transport: httpx.BaseTransport | None = None) -> str:
    """Return the venue of the configured host without a budget, which needs the name itself.

    Raises:
        ConfigError: BYBIT_BASE_URL is no URL.
        ExchangeUnavailable: a host that may be a simulator does not answer.
    """
    with Connection(settings, transport) as connection:
        return connection.venue()


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as exc:
        msg = f"BYBIT_BASE_URL {text!r} is no URL ({exc}); write https://api.bybit.com or the like"
        raise ConfigError(msg) from exc
    if not _HOST.fullmatch(url.raw_host):
        msg = f"BYBIT_BASE_URL {text!r} names no host; write https://api.bybit.com or the like"
        raise ConfigError(msg)
    return url


def _read(response: httpx.Response) -> tuple[bytes, bool]:
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MAX_BODY_BYTES:
            return b"".join(parts), False
    return b"".join(parts), True


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
