"""The X-Bapi-Limit headers of an answer; what is done about them is decided by the client."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class LimitLeft:
    """What an answer says of the limit it counts against.

    Attributes:
        limit: requests allowed, at least 1.
        remaining: requests left.
        reset_ms: when more are allowed, UTC; 0 where the answer does not say.
    """

    limit: int
    remaining: int
    reset_ms: int


def limit_left(headers: Mapping[str, str]) -> LimitLeft | None:
    """Return what the headers (lower-case names) say; None where they say nothing, or nothing readable.

    Documented for every request (bybit-v5.md 3.1), yet public answers mostly lack them: a hint, never needed.
    """
    limit, remaining = (_number(headers, f"x-bapi-{name}") for name in ("limit", "limit-status"))
    if not limit or remaining is None:
        return None
    return LimitLeft(limit, remaining, _number(headers, "x-bapi-limit-reset-timestamp") or 0)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if _NUMBER.fullmatch(text) else None
