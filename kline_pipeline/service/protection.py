"""What stands before every page of the service: size, token, requests per minute; the pages are in app.

Plain ASGI: a refusal is an answer and no exception that something else would have to turn into one.
"""

import hmac
import json
from collections.abc import Sequence
from typing import Final

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from kline_pipeline.service.clients import Clients
from kline_pipeline.service.rate_limit import RateLimit

LIVE: Final = "/health/live"
READY: Final = "/health/ready"
METRICS: Final = "/metrics"
# Kubernetes asks these without a token, and however often it was told to.
_TOKEN_FREE: Final = frozenset({LIVE, READY})
_UNCOUNTED: Final = frozenset({LIVE, READY, METRICS})
_LONGEST_URL: Final = 1024
LARGEST_HEAD: Final = 16 * 1024  # of a request: its line and headers, bytes
Headers = Sequence[tuple[bytes, bytes]]


class Protection:
    """Middleware that lets through what may pass.

    A wrong or absent token is counted on every page, also where requests are not: nobody may guess without end.

    Args:
        app: what is protected.
        limit: requests per minute and client.
        clients: tells clients apart.
        token: who asks must bear it, but for /health/live and /health/ready; None: nobody must.
    """

    def __init__(self, app: ASGIApp, *, limit: RateLimit, clients: Clients, token: SecretStr | None) -> None:
        self._app = app
        self._limit = limit
        self._clients = clients
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 401, 413, 414, 429 or 431."""
        if scope["type"] != "http":
            return
        path, headers = scope["path"], scope["headers"]
        borne = path in _TOKEN_FREE or self._bears_token(headers)
        if not borne or path not in _UNCOUNTED:
            peer = scope["client"][0] if scope.get("client") else None
            forwarded = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
            wait_s = self._limit.refused_for_s(self._clients.client(peer, forwarded))
            if wait_s:
                told = f"too many requests; ask again in {wait_s} s"
                await _refuse(send, 429, told, [(b"retry-after", str(wait_s).encode())])
                return
        if not borne:
            told = "a token is needed: Authorization: Bearer TOKEN"
            await _refuse(send, 401, told, [(b"www-authenticate", b"Bearer")])
        elif len(scope.get("raw_path") or path) + len(scope["query_string"]) > _LONGEST_URL:
            await _refuse(send, 414, "the URL is too long")
        elif sum(len(name) + len(value) for name, value in headers) > LARGEST_HEAD:
            await _refuse(send, 431, "the headers are too large")
        elif _has_body(headers):
            # Not read: the connection ends with the answer.
            await _refuse(send, 413, "no page takes a body", [(b"connection", b"close")])
        else:
            await self._app(scope, receive, send)

    def _bears_token(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        told = [value for name, value in headers if name == b"authorization"]
        kind, _, token = (told[0] if len(told) == 1 else b"").partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and kind.lower() == b"bearer"


def _has_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")) for name, value in headers
    )


async def _refuse(send: Send, status: int, told: str, headers: Headers = ()) -> None:
    body = json.dumps({"error": told}).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
