"""The simulator on a loopback port: an ASGI application on uvicorn, in a thread or in front."""

import asyncio
import contextlib
import socket
import sys
import threading
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import uvicorn

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.history import HistoryError

START_TIMEOUT_S = 10.0


class _Application:
    """ASGI around Exchange.handle. Plain ASGI: a reset has to leave an answer unfinished."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = scope["query_string"].decode()
        query = dict(parse_qsl(sent, keep_blank_values=True))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._exchange.handle(scope["method"], scope["path"], query, body, headers=headers, query_string=sent)
        if answer.delay_s and await _went_away(receive, answer.delay_s):
            self._exchange.given_up(scope["path"], answer)
            return
        length = len(answer.body)
        headers = {**answer.headers, "content-length": str(length)}
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        if not answer.reset:
            await send({"type": "http.response.body", "body": answer.body})
        # uvicorn closes the connection of an answer that was begun and never finished.


async def _went_away(receive: Any, delay_s: float) -> bool:
    """Wait, and say whether the caller has closed the connection meanwhile."""
    gone = asyncio.ensure_future(receive())
    done, _ = await asyncio.wait({gone}, timeout=delay_s)
    gone.cancel()
    return bool(done)


class _Server(uvicorn.Server):
    """uvicorn that says when it listens."""

    def __init__(self, config: uvicorn.Config, announcement: str) -> None:
        super().__init__(config)
        self._announcement = announcement
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._announcement:
            sys.stdout.write(f"{self._announcement}\n")
            sys.stdout.flush()
        self.listening.set()


class SimulatorServer:
    """An Exchange on a real port, served from a daemon thread while the context lasts.

    Attributes:
        url: http://host:port, known from construction on; requests are answered inside the context.
    """

    def __init__(self, exchange: Exchange, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind the port (0: a free one).

        Raises:
            HistoryError: the port cannot be had.
        """
        self._socket = _bound(host, port)
        self.url = _url(host, self._socket)
        self._server = _Server(_config(exchange), "")
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="simulator", daemon=True)

    def __enter__(self) -> Self:
        """Start answering and return when the port does."""
        self._thread.start()
        if not self._server.listening.wait(START_TIMEOUT_S):
            raise HistoryError(f"The simulator did not start on {self.url}: see the log above.")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop answering and release the port."""
        self._server.should_exit = True
        self._thread.join(START_TIMEOUT_S)
        self._socket.close()


def serve(exchange: Exchange, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve in front until SIGINT or SIGTERM, saying on standard output when it listens.

    Raises:
        HistoryError: the port cannot be had.
    """
    bound = _bound(host, port)
    url = _url(host, bound)
    server = _Server(_config(exchange), f"simulator listening on {url} (venue {exchange.history.venue})")
    # uvicorn raises SIGINT again once it has shut down in order.
    with contextlib.suppress(KeyboardInterrupt), bound:
        server.run([bound])


def _config(exchange: Exchange) -> uvicorn.Config:
    return uvicorn.Config(
        _Application(exchange),
        access_log=False,
        # An answer left unfinished on purpose is an error in uvicorn's eyes.
        log_level="critical",
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=30,
    )


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise HistoryError(
            f"The simulator cannot listen on {host}:{port} ({error.strerror}): choose another port."
        ) from error
    return bound


def _url(host: str, bound: socket.socket) -> str:
    return f"http://{host}:{bound.getsockname()[1]}"
