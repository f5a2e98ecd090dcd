"""What the simulator calls the outcome of a request, and what metrics call it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

_KINDS = {"kline": "kline", "instruments-info": "instruments", "time": "time", "query-api": "key"}
_OUTCOMES = {
    **dict.fromkeys(("ok", "empty"), "ok"),
    "given_up": "timeout",
    "reset": "connection_error",
    **dict.fromkeys(("http_500", "http_502", "http_503", "http_504", "10000", "10016"), "server_busy"),
    **dict.fromkeys(("10006", "http_429"), "rate_limited"),
    "http_403": "banned",
    "country_block": "country_blocked",
    **dict.fromkeys(("truncated", "wrong_symbol", "wrong_category"), "malformed"),
    **dict.fromkeys(("10001", "http_400", "http_404"), "bad_request"),
    **dict.fromkeys(("10002", "10003", "10004", "10005", "10007", "33004"), "authentication"),
}


def requests_told(stats: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """Return requests by (kind, outcome) in the words of metrics, from GET /_sim/stats."""
    found: Counter[tuple[str, str]] = Counter()
    for kind, outcomes in stats["requests"].items():
        for outcome, number in outcomes.items():
            found[_KINDS[kind], _OUTCOMES[outcome]] += number
    return found
