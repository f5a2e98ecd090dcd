"""The simulator's own paths: GET and DELETE /_sim/stats, GET, POST and DELETE /_sim/faults.

DELETE begins anew: with counting, or without faults. They are neither counted nor limited.
"""

import json
from typing import TYPE_CHECKING

from kline_pipeline.simulator import wire
from kline_pipeline.simulator.fault_plan import FaultPlanError
from kline_pipeline.simulator.wire import Response

if TYPE_CHECKING:
    from kline_pipeline.simulator.exchange import Exchange


def handle(exchange: "Exchange", method: str, path: str, body: bytes) -> Response:
    """Answer a /_sim request: 200 with JSON, 400 with {"error": sentence}, or 404."""
    if path == "/_sim/stats":
        if method == "DELETE":
            exchange.stats.reset()
            exchange.limit.forget_peaks()
        elif method != "GET":
            return wire.plain_json({"error": "Use GET or DELETE on /_sim/stats."}, 400)
        return wire.plain_json(
            {
                "venue": exchange.history.venue,
                "seed": exchange.history.seed,
                "now_ms": exchange.clock(),
                "max_in_1s": exchange.limit.max_in_1s,
                "max_in_5s": exchange.limit.max_in_5s,
                **exchange.stats.snapshot(),
            }
        )
    if path == "/_sim/faults":
        if method == "DELETE":
            exchange.faults.clear()
        elif method == "POST":
            try:
                change_faults(exchange, body)
            except FaultPlanError as error:
                return wire.plain_json({"error": str(error)}, 400)
        elif method != "GET":
            return wire.plain_json({"error": "Use GET, POST or DELETE on /_sim/faults."}, 400)
        return wire.plain_json({"faults": exchange.faults.plan()})
    return wire.http_error(404)


def change_faults(exchange: "Exchange", body: bytes) -> None:
    """Change the faults in force as `body` says.

    A list, {"faults": [...]} or a single fault such as {"drop": {...}} replaces the plan,
    {"add": [...]} adds to it; an empty list clears it.

    Raises:
        FaultPlanError: the body is not JSON or not a plan; then nothing changes.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        raise FaultPlanError(f"A fault plan must be JSON, but this is not: {error}.") from error
    if isinstance(content, dict) and set(content) == {"add"}:
        exchange.faults.add(content["add"])
    elif isinstance(content, dict) and set(content) == {"faults"}:
        exchange.faults.replace(content["faults"])
    else:
        exchange.faults.replace([content] if isinstance(content, dict) else content)
