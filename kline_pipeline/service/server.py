"""The service on a port: uvicorn, with bounds on what a connection may cost; the pages are in app."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from h11 import LocalProtocolError
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from kline_pipeline.errors import StorageError, UsageError
from kline_pipeline.service.protection import LARGEST_HEAD

_MOST_CONNECTIONS: Final = 256
_HEAD_S: Final = 5.0  # for a request to come, after the connection or after the answer before
_ANSWER_S: Final = 30.0  # for an answer to be made and taken
_STOP_S: Final = 2
_START_S: Final = 10.0


class Bounded(H11Protocol):
    """uvicorn's HTTP/1.1 for one connection, which also cuts off who is slow.

    uvicorn itself waits for ever for the first request, and for each next byte of a head.
    """

    head_s = _HEAD_S
    answer_s = _ANSWER_S
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._within(self.head_s)

    def data_received(self, data: bytes) -> None:
        """Read on; once the head of a request is there, its answer has its own time."""
        idle = self._is_idle
        super().data_received(data)
        if idle and not self._is_idle:
            self._within(self.answer_s)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._within(self.head_s)
        super().on_response_complete()
        if not self._is_idle:  # it was there already
            self._within(self.answer_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _within(self, seconds: float) -> None:
        if self._cut is not None:
            self._cut.cancel()
        # Not closed in order: that would wait until the client takes what is still to be sent.
        self._cut = self.loop.call_later(seconds, self.transport.abort)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address and a port; 0 takes a free one.

    Raises:
        UsageError: it cannot be.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise UsageError(f"--host {host} is no address of this machine ({exc.strerror}): give another one") from exc
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
    except OSError as exc:
        taken.close()
        told = f"port {port} of {host} cannot be used ({exc.strerror}): give another one with --port, or another --host"
        raise UsageError(told) from exc
    return taken


def is_loopback(taken: socket.socket) -> bool:
    """Return whether only this machine reaches a bound socket."""
    return ip_address(taken.getsockname()[0].partition("%")[0]).is_loopback


def url_of(taken: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class OpsServer:
    """An app on a bound socket, in front or, as a context manager, in a daemon thread.

    Attributes:
        url: of the pages.
    """

    def __init__(
        self,
        app: ASGIApp,
        taken: socket.socket,
        *,
        protocol: type[H11Protocol] = Bounded,
        announce: Callable[[str], object] = lambda _: None,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare; nothing is answered yet.

        Args:
            app: the pages.
            taken: see `bound`; closed at the end.
            protocol: of a connection.
            announce: is told the URL when it is answered.
            ended: says, once it is answered, whether it was to end before that.
        """
        self.url = url_of(taken)
        self._socket = taken
        self._server = _Server(_config(app, protocol), lambda: announce(self.url), ended)
        self._thread = threading.Thread(target=self.run, name="ops service", daemon=True)

    def run(self) -> None:
        """Answer until SIGINT or SIGTERM, which then goes to whoever handled it before; or until the end of `with`."""
        with self._socket:
            self._server.run([self._socket])

    def __enter__(self) -> Self:
        """Answer from a thread, from now on.

        Raises:
            StorageError: it does not begin to.
        """
        self._thread.start()
        if not self._server.listening.wait(_START_S):
            raise StorageError(f"the service did not start on {self.url}: see the log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(_START_S)


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, and ends then if it was to end before."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], object], ended: Callable[[], bool]) -> None:
        super().__init__(config)
        self._announce = announce
        self._ended = ended
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.should_exit = self.should_exit or self._ended()
        self._announce()
        self.listening.set()


def _is_ours(record: logging.LogRecord) -> bool:
    """Say whether a line of uvicorn tells of a defect: a body that breaks off is none, and anybody can send it."""
    return record.exc_info is None or not isinstance(record.exc_info[1], LocalProtocolError)


def _config(app: ASGIApp, protocol: type[H11Protocol]) -> uvicorn.Config:
    options: dict[str, Any] = {
        # Of the HTTP implementations the one whose heads are bounded.
        "http": protocol,
        "ws": "none",
        "lifespan": "off",
        # Counts while a head is incomplete; one that comes at once is measured in protection.
        "h11_max_incomplete_event_size": LARGEST_HEAD,
        "limit_concurrency": _MOST_CONNECTIONS,
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": _STOP_S,
        "server_header": False,
        "access_log": False,
        # It would believe the X-Forwarded-For of anybody on this machine.
        "proxy_headers": False,
        "log_config": None,
        # Its warnings are of requests that are none: anybody could fill the log.
        "log_level": "error",
    }
    logging.getLogger("uvicorn.error").addFilter(_is_ours)  # the same one again is none more
    return uvicorn.Config(app, **options)
