"""How a secret may be spelled where it turns up: as it is, quoted for a URL, JSON or HTML, in base64, or cut short."""

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote, quote_plus

_LEAST: Final = 4  # characters; what is shorter is in every second word
_ANYWHERE: Final = 12  # characters; what is shorter counts as a whole word only
_CUT: Final = 16  # characters; half of such a secret is told by no other text
_REST: Final = r"[\w/+=%~.-]*"  # of a secret that was cut short somewhere


def spellings_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return every text that tells one of the secrets whole, the longest first."""
    found = {one for secret in secrets for one in _spelled(secret) if len(one) >= _LEAST}
    return tuple(sorted(found, key=lambda one: (-len(one), one)))


def beginnings_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the first half of each secret that is long enough for its half to tell it."""
    found = {secret[: max(_ANYWHERE, len(secret) // 2)] for secret in secrets if len(secret) >= _CUT}
    return tuple(sorted(found, key=lambda one: (-len(one), one)))


def find_of(spelled: Sequence[str], beginnings: Sequence[str]) -> re.Pattern[str]:
    """Return what finds these texts: long ones anywhere, short ones as whole words, beginnings with what follows."""
    whole = [re.escape(one) if len(one) >= _ANYWHERE else rf"(?<!\w){re.escape(one)}(?!\w)" for one in spelled]
    return re.compile("|".join([*whole, *(f"{re.escape(one)}{_REST}" for one in beginnings)]) or r"(?!)")


def _spelled(secret: str) -> set[str]:
    raw = secret.encode(errors="surrogatepass")
    quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    return {
        secret,
        *quoted,
        *(re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in quoted),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }
