"""The pages of the service: /health, /health/bybit, /health/live, /health/ready, /metrics; GET and HEAD, and no other.

Nothing here waits for anything but the page of metrics, and nothing changes anything.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kline_pipeline.config import Settings
from kline_pipeline.service import answers
from kline_pipeline.service.answers import Answer
from kline_pipeline.service.clients import Clients
from kline_pipeline.service.probes import Probes
from kline_pipeline.service.protection import LIVE, METRICS, READY, Protection
from kline_pipeline.service.rate_limit import RateLimit
from kline_pipeline.service.single_flight import NotInTime, SingleFlight

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_WORDS: Final = {404: "there is no such page", 405: "use GET"}


def app_of(
    settings: Settings, probes: Probes, metrics: Callable[[], bytes], *, limit: RateLimit | None = None
) -> Starlette:
    """Return the pages, protected as the settings say.

    Args:
        settings: requests per minute, trusted proxies, token.
        probes: what the pages tell of.
        metrics: makes the page of metrics in Prometheus' text format; may block, for which it has a thread.
        limit: requests per minute instead of that of the settings.
    """
    flight = SingleFlight(metrics)

    async def metrics_page(_: Request) -> Response:
        try:
            page = await flight.page()
        except NotInTime:
            return _json(503, {"error": "the metrics could not be read in time; /health says what does not answer"})
        return Response(page, media_type=None, headers={"content-type": _METRICS_TYPE, "cache-control": "no-store"})

    pages = {
        "/health": lambda: answers.health(probes),
        "/health/bybit": lambda: answers.bybit(probes),
        LIVE: answers.live,
        READY: lambda: answers.ready(probes),
    }
    routes = [Route(path, _page(answer), methods=["GET"]) for path, answer in pages.items()]
    protection = Middleware(
        Protection,
        limit=RateLimit(settings.ops_requests_per_minute) if limit is None else limit,
        clients=Clients(settings.ops_trusted_proxies),
        token=settings.ops_token,
    )
    app = Starlette(
        routes=[*routes, Route(METRICS, metrics_page, methods=["GET"])],
        middleware=[protection],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )
    # A redirect would name the host that the client has made up.
    app.router.redirect_slashes = False
    return app


def _page(answer: Callable[[], Answer]) -> Callable[[Request], Awaitable[Response]]:
    # Not async, and yet not for a pool of threads: the pages wait for nothing.
    async def page(_: Request) -> Response:
        told = answer()
        return _json(told.status, told.content)

    return page


def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = {"allow": "GET, HEAD"} if status == 405 else {}  # noqa: PLR2004 - method not allowed
    return _json(status, {"error": _WORDS.get(status, "this cannot be answered")}, headers)


def _broken(_: Request, __: Exception) -> Response:
    return _json(500, {"error": "a defect of kline-pipeline; its log says where"})


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(content, status_code=status, headers={"cache-control": "no-store", **(headers or {})})
