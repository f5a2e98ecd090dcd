"""A receiver of alerts on a loopback port: keeps what it got, and can refuse, be slow to answer, or kill the sender."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhook:
    """What was received.

    Attributes:
        url: of apprise.
        payloads: of every request that was answered with 200, in order.
        refusals: HTTP statuses that the next requests are answered with, first one first.
        before_answer: called with the payload of a request that is taken, before it is answered.
    """

    url: str
    payloads: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    before_answer: Callable[[dict[str, Any]], None] = lambda _: None

    @property
    def titles(self) -> list[str]:
        """The titles of what was taken, in order."""
        return [payload["title"] for payload in self.payloads]

    @property
    def ids(self) -> list[str]:
        """The ids of what was taken, in order."""
        return [payload["alert_id"] for payload in self.payloads]


@contextmanager
def webhook(path: str = "/hook") -> Iterator[Webhook]:
    """Receive for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = made.refusals.pop(0) if made.refusals else 200
            (made.payloads if status == 200 else made.refused).append(payload)
            if status == 200:
                made.before_answer(payload)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Webhook(f"json://127.0.0.1:{server.server_address[1]}{path}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
