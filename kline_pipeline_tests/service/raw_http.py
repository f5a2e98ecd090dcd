"""Bytes on a socket, as anybody may send them, and what comes back."""

import random
import socket
import string
from contextlib import suppress
from urllib.parse import urlsplit

PAGES = ("/health", "/health/bybit", "/health/live", "/health/ready", "/metrics")
_PATIENCE_S = 10.0
_METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "G\x00T", "", "É",
)  # fmt: skip
_TARGETS = (
    "/", "*", "//", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/health/%00", "/%ff%fe", "/health?x=' or 1=1 --",
    "http://example.org/health", "example.org:443", "/" + "a" * 5000, "/health#x", "/health;drop table", "", " ",
    "/health/bybit?series=%F0%9F%92%A9",
)  # fmt: skip
_HEADERS = (
    "Host: localhost", "Host:", "Host: a\r\nHost: b", "Content-Length: -1", "Content-Length: 5", "Content-Length: x",
    "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, x",
    "Expect: 100-continue", "Connection: close", "Connection: upgrade\r\nUpgrade: websocket", "X: " + "y" * 20_000,
    "X-Forwarded-For: <script>, \x01", "Authorization: Bearer \xff", "no colon here", ": no name", "A\x00B: c",
    " folded: x", "Range: bytes=0-,0-,0-", "Cookie: " + "a=b; " * 500, "Accept: " + "*/*," * 100,
)  # fmt: skip
_BODIES = ("", "x", "{}", '{"a":' * 2000, "5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "\x00" * 5000)


def sent(url: str, data: bytes, *, half_close: bool = True) -> bytes:
    """Return all that comes back for some bytes until the other end closes, which half of a close makes it do."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=_PATIENCE_S) as connection:
        got = bytearray()
        with suppress(OSError):  # cut off before all was sent, which is no reason not to read
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                got += part
        return bytes(got)


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of the answers that some bytes hold."""
    return [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")] + [
        int(part[:3]) for part in answer.split(b"}HTTP/1.1 ")[1:]
    ]


def malformed(source: random.Random) -> bytes:
    """Return a request that is wrong in some way, or garbage."""
    if source.random() < 0.2:
        return source.randbytes(source.randint(0, 3000))
    if source.random() < 0.1:
        return "".join(source.choices(string.printable, k=source.randint(1, 2000))).encode()
    method = source.choice(_METHODS)
    target = source.choice(_TARGETS + PAGES)
    version = source.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "ICAP/1.0"))
    headers = source.sample(_HEADERS, source.randint(0, 4))
    ending = source.choice(("\r\n", "\r\n", "\r\n", "\n", "\r"))
    head = ending.join([f"{method} {target} {version}".strip(" " * source.randint(0, 1)), *headers, "", ""])
    whole = (head + source.choice(_BODIES)).encode("latin-1")
    return whole if source.random() < 0.8 else whole[: source.randint(0, len(whole))]
