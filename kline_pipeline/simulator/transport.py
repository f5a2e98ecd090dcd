"""The simulator as an httpx transport, for tests: no socket, no waiting. The only httpx here."""

import httpx

from kline_pipeline.simulator.exchange import Exchange


class SimulatorTransport(httpx.BaseTransport):
    """Hands requests of an httpx.Client to an Exchange; safe to share between threads.

    Delays are not waited for: one longer than the client's read timeout raises httpx.ReadTimeout at
    once, a shorter one answers at once. A reset raises httpx.ReadError.
    """

    def __init__(self, exchange: Exchange) -> None:
        """Answer every host from this exchange."""
        self.exchange = exchange

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request.

        Raises:
            httpx.ReadTimeout: the simulated delay is longer than the read timeout.
            httpx.ReadError: the simulated connection was reset.
        """
        url = request.url
        answer = self.exchange.handle(
            request.method,
            url.path,
            dict(url.params.items()),
            request.read(),
            headers=request.headers,
            query_string=url.query.decode(),
        )
        timeout = request.extensions.get("timeout", {}).get("read")
        if timeout is not None and answer.delay_s > timeout:
            self.exchange.given_up(url.path, answer)
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        if answer.reset:
            raise httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body, request=request)
