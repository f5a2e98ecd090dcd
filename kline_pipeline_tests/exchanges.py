"""Exchanges for tests of the client: the simulator, or canned answers, behind real httpx."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.ratelimit import Lag, Standing, no_lag
from kline_pipeline.config import BybitSettings
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.transport import SimulatorTransport

NOW_MS = 1_712_752_496_000  # 2024-04-10T12:34:56Z
Handler = Callable[[httpx.Request], httpx.Response]


class RecordingBudget:
    """A budget without a limit that remembers what it was told."""

    def __init__(self) -> None:
        self.acquired = 0
        self.cool_downs: list[float] = []
        self.slow_downs: list[str] = []

    def acquire(self, timeout_s: float, lag_s: Lag = no_lag) -> None:
        self.acquired += 1

    def cool_down(self, seconds: float, reason: str) -> None:
        self.cool_downs.append(seconds)

    def slow_down(self, reason: str) -> None:
        self.slow_downs.append(reason)

    def standing(self) -> Standing:
        return Standing(sum(self.cool_downs), 1.0)


class Asked:
    """A client, what it sent, how long it wanted to wait, and the budget it paid from."""

    def __init__(self, transport: httpx.BaseTransport, **settings: Any) -> None:
        self.sent: list[httpx.Request] = []
        self.waits: list[float] = []
        self.budget = RecordingBudget()
        self._transport = transport
        options = {"base_url": "http://127.0.0.1:1", "retry_initial_delay_s": 0.0} | settings
        self.client = BybitClient(
            BybitSettings.model_validate(options),
            budget=self.budget,
            transport=httpx.MockTransport(self._pass_on),
            sleep=self.waits.append,
            clock_ms=lambda: NOW_MS + 5,
        )

    def _pass_on(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return self._transport.handle_request(request)


@contextmanager
def canned(handler: Handler, **settings: Any) -> Iterator[Asked]:
    """Open a client whose every request `handler` answers."""
    asked = Asked(httpx.MockTransport(handler), **settings)
    with asked.client:
        yield asked


@contextmanager
def simulated(*, now_ms: int = NOW_MS, seed: int = 7, **settings: Any) -> Iterator[tuple[Asked, Exchange]]:
    """Open a client of a simulated exchange whose clock stands still."""
    history = SyntheticHistory(seed, now_ms=now_ms)
    exchange = Exchange(history, clock=lambda: now_ms, requests_per_5s=10**9)
    asked = Asked(SimulatorTransport(exchange), **settings)
    with asked.client:
        yield asked, exchange


def ok(result: Any, *, time_ms: int = NOW_MS) -> dict[str, Any]:
    """Return a good v5 body."""
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": time_ms}


def answers(*bodies: Any, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    """Return a handler that gives one body after the other, the last one for ever."""
    left = list(bodies)

    def handler(_: httpx.Request) -> httpx.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        text = body if isinstance(body, str) else json.dumps(body)
        return httpx.Response(status, text=text, headers=headers)

    return handler
