"""One GET to the host and what came back; budget, retries and meaning are told elsewhere.

With auth, which signs, and hosts, which reads URLs, the only module of bybit/ that knows httpx.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Final, Self

import httpx
import msgspec

from kline_pipeline.bybit.auth import ServerClock, signature_of
from kline_pipeline.bybit.hosts import is_loopback, known_venue, url_of
from kline_pipeline.bybit.messages import Answer, malformed
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import ConfigError, ExchangeUnavailable, TimedOut

_MAX_BODY_BYTES: Final = 32 * 2**20  # a candle page has 0.1 MB, all linear instruments about 1 MB
_OK: Final = 200
_LEAST_READ_S: Final = 0.001
_SIGNED: Final = "/v5/"
_TIME: Final = "/v5/market/time"  # is asked when a signature was refused for its time


class Connection:
    """A pool of connections to one host, for any number of threads; a context manager.

    Attributes:
        host: name and, where it is not the usual one, port.
        clock: of the exchange, by which requests are signed; whoever reads an answer sets it.
    """

    def __init__(
        self,
        settings: BybitSettings,
        transport: httpx.BaseTransport | None = None,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the pool; nothing is sent.

        Args:
            settings: host, time-out, pool size, API key.
            transport: instead of the network, for tests.
            clock_ms: the local clock, UTC milliseconds.
            elapsed_s: a clock that only goes forward, seconds.

        Raises:
            ConfigError: BYBIT_BASE_URL is no URL, the API key cannot be one, or a proxy of the environment is none.
        """
        url = url_of(settings.base_url)
        count = settings.concurrency
        try:
            self._http = httpx.Client(
                base_url=url,
                timeout=settings.timeout_s,
                limits=httpx.Limits(max_connections=count, max_keepalive_connections=count),
                transport=transport,
                headers={"user-agent": "kline-pipeline", "accept-encoding": "gzip"},
                # A proxy of the environment cannot reach this machine's own loopback.
                trust_env=not is_loopback(url.host),
                # Without TLS nobody is verified, and to load the certificates takes 0.2 s.
                verify=url.scheme != "http" or not is_loopback(url.host),
                # Another host must not get the key.
                follow_redirects=False,
            )
        except (ValueError, ImportError, OSError) as exc:
            msg = f"a proxy or a certificate file of the environment cannot be used ({exc})"
            raise ConfigError(f"{msg}; check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE, SSL_CERT_DIR") from exc
        self._urls: dict[str, httpx.URL] = {}
        self.host = url.netloc.decode()
        self._name = url.host
        self._settings = settings
        self._elapsed_s = elapsed_s
        self.clock = ServerClock(clock_ms)
        self._signature = signature_of(settings, self.clock)
        self._hide: Callable[[str], str] = self._signature.hide if self._signature else str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str], asked: str) -> Answer:
        """Return the answer to one GET, whatever its status; with an API key, questions under /v5/ are signed.

        BYBIT_TIMEOUT_S is for connecting, for the headers, and for all of it when the body comes in pieces.

        Args:
            path: below BYBIT_BASE_URL.
            params: of the query; a body is never sent, it is answered with 403 (bybit-v5.md 3.2).
            asked: the question in words, for errors.

        Raises:
            ExchangeUnavailable: no connection, or one that broke; TimedOut where it took too long.
            MalformedAnswer: a body that does not end, or cannot be unpacked.
        """
        started_s = self._elapsed_s()
        signature = self._signature if path.startswith(_SIGNED) and path != _TIME else None
        try:
            with closing(self._http.send(self._request(path, params), auth=signature, stream=True)) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body, whole = _read(response, lambda: self._left_s(started_s))
        except httpx.DecodingError as exc:
            told = self._answer(response, asked, headers, b"")
            raise malformed(told, f"HTTP {response.status_code} and a body that cannot be unpacked ({exc})") from exc
        except httpx.RequestError as exc:
            what = self._failure(exc, self._elapsed_s() - started_s)
            msg = f"asked {self.host} for {asked} and {what}"
            kind = TimedOut if isinstance(exc, httpx.TimeoutException) else ExchangeUnavailable
            raise kind(msg) from exc
        answer = self._answer(response, asked, headers, body)
        if not whole:
            raise malformed(answer, f"more than {_MAX_BODY_BYTES} bytes")
        return answer

    def _request(self, path: str, params: Mapping[str, str]) -> httpx.Request:
        """Return a request as the pool itself would build it, its URL parsed once instead of three times."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._http.build_request("GET", path).url
        if params:
            url = url.copy_with(query=str(httpx.QueryParams(params)).encode())
        return httpx.Request(
            "GET", url, headers=self._http.headers, extensions={"timeout": self._http.timeout.as_dict()}
        )

    def _answer(self, response: httpx.Response, asked: str, headers: Mapping[str, str], body: bytes) -> Answer:
        return Answer(
            host=self.host,
            asked=asked,
            status=response.status_code,
            headers=headers,
            body=body,
            cool_down_s=self._settings.cool_down_s,
            hide=self._hide,
        )

    def _left_s(self, started_s: float) -> float:
        return started_s + self._settings.timeout_s - self._elapsed_s()

    def venue(self) -> str:
        """Return the name of what stands behind the host.

        A simulator names itself in GET /_sim/stats, which the exchange's own hosts are not asked
        for; elsewhere the host is the name.

        Raises:
            ExchangeUnavailable: a host that may be a simulator does not answer.
        """
        known = known_venue(self._name)
        if known is not None:
            return known
        answer = self.get("/_sim/stats", {}, "its name")
        try:
            named = msgspec.json.decode(answer.body, type=_Named) if answer.status == _OK else None
        except msgspec.MsgspecError:
            named = None
        return named.venue if named else self.host

    def _failure(self, exc: httpx.RequestError, elapsed_s: float) -> str:
        reason = self._hide(str(exc)) or type(exc).__name__
        if isinstance(exc, httpx.TimeoutException):
            waited = f"no whole answer came within {self._settings.timeout_s:g} s"
            return f"{waited} ({reason}); check the network, or raise BYBIT_TIMEOUT_S"
        if isinstance(exc, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.ProxyError):
            return f"no connection could be made ({reason}); check BYBIT_BASE_URL and the network"
        return f"the connection broke after {elapsed_s:.1f} s ({reason}); check the network"


class _Named(msgspec.Struct):
    venue: str


class _Bounded(httpx.SyncByteStream):
    """A body that must end in time; httpx itself only bounds the wait for each next piece."""

    def __init__(self, stream: httpx.SyncByteStream, left_s: Callable[[], float]) -> None:
        self._stream = stream
        self._left_s = left_s

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if self._left_s() < 0:
                raise httpx.ReadTimeout("the body did not end")
            yield part

    def close(self) -> None:
        self._stream.close()


def _read(response: httpx.Response, left_s: Callable[[], float]) -> tuple[bytes, bool]:
    """Return the body, and whether it is whole or was given up for its size."""
    if isinstance(response.stream, httpx.SyncByteStream):
        # Below the decoder, which may take many pieces before it gives one.
        response.stream = _Bounded(response.stream, left_s)
    # httpcore reads this when the body begins: a piece that never comes does not start the time anew.
    response.request.extensions["timeout"]["read"] = max(left_s(), _LEAST_READ_S)
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MAX_BODY_BYTES:
            return b"".join(parts), False
    return b"".join(parts), True
