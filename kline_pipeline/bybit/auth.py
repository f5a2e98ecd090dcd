"""Signing requests with an API key: the v5 signature, the clock it is made by, and what the key may do.

Market data needs none of it. Which requests are signed is decided in connection; what a refusal means, in refusals.
"""

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn
from urllib.parse import quote

import httpx
import msgspec
from pydantic import SecretStr

from kline_pipeline.bybit.messages import Answer, Envelope, malformed
from kline_pipeline.config import BybitSettings
from kline_pipeline.errors import ConfigError

RECV_WINDOW_MS: Final = 5000  # the exchange takes a signed time this old, and one less than 1 s ahead (bybit-v5.md 4)
_VISIBLE: Final = re.compile("[!-~]+")
_HEADERS: Final = (
    "X-BAPI-API-KEY", "X-BAPI-TIMESTAMP", "X-BAPI-RECV-WINDOW", "X-BAPI-SIGN", "X-BAPI-SIGN-TYPE",
)  # fmt: skip


class ServerClock:
    """The clock of the exchange, as its answers tell it; safe in threads.

    Before the first answer it is the clock of this machine. An answer names the moment in which it was written, so
    that this clock is late by the time an answer takes: the exchange accepts late ones longer than early ones.
    """

    def __init__(self, local_ms: Callable[[], int]) -> None:
        """Begin with the local clock, UTC milliseconds."""
        self._local_ms = local_ms
        self._lock = threading.Lock()
        self._newest_ms = 0
        self._offset_ms = 0

    def now_ms(self) -> int:
        """Return the time of the exchange, UTC milliseconds."""
        return self._local_ms() + self._offset_ms

    def heard(self, server_ms: int) -> None:
        """Set the clock by an answer that was just received; one that is older than another is ignored."""
        local_ms = self._local_ms()
        with self._lock:
            if server_ms > self._newest_ms:
                self._newest_ms, self._offset_ms = server_ms, server_ms - local_ms

    def forget(self) -> None:
        """Let the next answer set the clock, whatever it says: what was heard turned out to be wrong."""
        with self._lock:
            self._newest_ms = 0


class V5Signature(httpx.Auth):
    """Adds the headers of a signature to a request, and takes them off again once it was sent.

    Key and secret are in no repr and no error, and it cannot be pickled.
    """

    def __init__(self, key: SecretStr, secret: SecretStr, now_ms: Callable[[], int]) -> None:
        """Keep the key.

        Args:
            key: BYBIT_API_KEY.
            secret: BYBIT_API_SECRET, of a key that signs by HMAC.
            now_ms: the clock of the exchange, UTC milliseconds.

        Raises:
            ConfigError: one of them holds what no header can, such as a line break.
        """
        for name, text in (("BYBIT_API_KEY", key), ("BYBIT_API_SECRET", secret)):
            if not _VISIBLE.fullmatch(text.get_secret_value()):
                msg = f"{name} holds a space, a line break or another character that no key has; copy it anew"
                raise ConfigError(msg)
        self._key = key
        self._secret = secret
        self._now_ms = now_ms

    def __repr__(self) -> str:
        return f"{type(self).__name__}(recv_window_ms={RECV_WINDOW_MS})"

    def __reduce__(self) -> NoReturn:
        msg = f"{type(self).__name__} holds a secret and is not pickled"
        raise TypeError(msg)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign one request at the moment it is sent."""
        key, timestamp, window = self._key.get_secret_value(), str(self._now_ms()), str(RECV_WINDOW_MS)
        signature = self.sign(timestamp, request.url.query.decode("ascii"))
        request.headers.update(dict(zip(_HEADERS, (key, timestamp, window, signature, "2"), strict=True)))
        try:
            yield request
        finally:
            # An error of httpx carries its request, and so would everything that shows one.
            for name in _HEADERS:
                del request.headers[name]

    def sign(self, timestamp: str, payload: str) -> str:
        """Return the signature in lower-case hex.

        Args:
            timestamp: UTC milliseconds, as in its header.
            payload: the query string exactly as sent, without the question mark.
        """
        text = f"{timestamp}{self._key.get_secret_value()}{RECV_WINDOW_MS}{payload}"
        return hmac.new(self._secret.get_secret_value().encode(), text.encode(), hashlib.sha256).hexdigest()

    def hide(self, text: str) -> str:
        """Return the text with *** in place of the key and of the secret, as they are, or quoted for JSON or a URL."""
        for secret in (self._secret.get_secret_value(), self._key.get_secret_value()):
            for spelled in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote(secret)):
                text = text.replace(spelled, "***")
        return text


def signature_of(settings: BybitSettings, clock: ServerClock) -> V5Signature | None:
    """Return what signs the requests of the settings; None where they have no key.

    Raises:
        ConfigError: the key or its secret holds what no header can.
    """
    if not settings.api_key or not settings.api_secret:
        return None
    return V5Signature(settings.api_key, settings.api_secret, clock.now_ms)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What an API key may do.

    Attributes:
        read_only: it may change nothing.
        permissions: rights by area, ("Wallet: AccountTransfer", ...) to read or more by `read_only`; empty: none.
        ips: addresses it may be used from; ("*",) or empty means any.
        expires_at: with UTC offset; None where the exchange names no end.
    """

    read_only: bool
    permissions: tuple[str, ...]
    ips: tuple[str, ...]
    expires_at: datetime | None


class _Key(msgspec.Struct, rename="camel"):
    read_only: int
    permissions: dict[str, list[str]] = {}
    ips: list[str] = []
    expired_at: str = ""


def key_info(answer: Answer, envelope: Envelope) -> KeyInfo:
    """Return what an answer of GET /v5/user/query-api says.

    Raises:
        MalformedAnswer: not the documented shape.
    """
    try:
        key = msgspec.json.decode(envelope.result, type=_Key)
        expires_at = msgspec.convert(key.expired_at, datetime, strict=False) if key.expired_at else None
    except msgspec.MsgspecError as exc:
        raise malformed(answer, f"a result that holds no rights of a key ({exc})") from exc
    permissions = tuple(f"{area}: {', '.join(sorted(rights))}" for area, rights in key.permissions.items() if rights)
    return KeyInfo(key.read_only == 1, permissions, tuple(key.ips), expires_at)
