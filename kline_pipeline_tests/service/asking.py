"""Asking an ASGI app without a network: one request, the answer; and pages over looks that a test writes."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.service.app import app_of
from kline_pipeline.service.probes import Look, Probe, Probes
from kline_pipeline.service.rate_limit import RateLimit

PARTS = ("database", "exchange", "snapshot_storage", "disk", "daemon")


class Seconds:
    """A clock that goes forward when a test says so."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Told:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """An app over probes whose looks a test sets: by name what a look sees, or a function."""

    sees: dict[str, Look] = field(default_factory=lambda: dict.fromkeys(PARTS, Look("ok", "it works")))
    clock: Seconds = field(default_factory=Seconds)
    metrics: Callable[[], bytes] = lambda: b"kline_build_info 1\n"
    series: Sequence[str] = ()
    variables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def probe(name: str) -> Probe:
            return Probe(name, lambda: self.sees[name], period_s=5, deadline_s=5, clock_s=self.clock)

        self.probes = Probes([probe(name) for name in PARTS], [probe(name) for name in self.series])
        self.probes.run_once()
        settings = Settings(BybitSettings(), KlineSettings(**self.variables))
        self.limit = RateLimit(settings.ops_requests_per_minute, clock_s=self.clock)
        self.app = app_of(settings, self.probes, self.metrics, limit=self.limit)

    def ask(self, path: str, method: str = "GET", **options: Any) -> Told:
        return asyncio.run(asked(self.app, path, method, **options))


async def asked(
    app: Any,
    path: str,
    method: str = "GET",
    *,
    headers: Sequence[tuple[str, str]] = (),
    client: str | None = "192.0.2.1",
    body: bytes = b"",
) -> Told:
    """Return the answer of an app to one request."""
    found: dict[str, Any] = {"body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.update(status=message["status"], headers=message["headers"])
        else:
            found["body"] += message.get("body", b"")

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": None if client is None else (client, 5000), "http_version": "1.1", "scheme": "http",
        "server": ("127.0.0.1", 8000), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return Told(found["status"], {name.decode(): value.decode() for name, value in found["headers"]}, found["body"])
