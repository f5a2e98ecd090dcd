"""Signed requests: whose key it is, whether the signature fits, and what the exchange says of a key.

Checks and texts are those of v5 (bybit-v5.md section 4). Only HMAC: no key of ours has RSA. Public
paths need no key, but a key that comes with a request is checked there too.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kline_pipeline.simulator import wire
from kline_pipeline.simulator.wire import Response

# The key of the published test vectors.
API_KEY, API_SECRET = "test_api_key", "test_secret"
# These two are known by their names alone, whatever they sign with.
EXPIRED_KEY, FORBIDDEN_KEY = "expired_api_key", "forbidden_api_key"
DEFAULT_RECV_WINDOW_MS = 5_000
# A timestamp may be this little ahead of the exchange.
AHEAD_MS = 1_000
DAYS_LEFT = 66


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says to prove whose it is; `payload` is the query string exactly as sent."""

    key: str
    timestamp: str
    recv_window: str
    sign: str
    payload: str


def signature_of(headers: Mapping[str, str], payload: str) -> Signature | None:
    """Return the signature a request carries, None where it names no key; header names in any case."""
    named = {name.lower(): value for name, value in headers.items()}
    if not named.get("x-bapi-api-key"):
        return None
    return Signature(
        named["x-bapi-api-key"],
        named.get("x-bapi-timestamp", ""),
        named.get("x-bapi-recv-window", ""),
        named.get("x-bapi-sign", ""),
        payload,
    )


def refusal_of(signature: Signature, now_ms: int) -> Response | None:
    """Return why a signed request is not served at `now_ms`, None where it is."""
    if signature.key == EXPIRED_KEY:
        return wire.refusal(33004, now_ms)
    if signature.key == FORBIDDEN_KEY:
        return wire.refusal(10005, now_ms)
    if signature.key != API_KEY:
        return wire.refusal(10003, now_ms)
    if not _in_time(signature, now_ms):
        window = signature.recv_window or str(DEFAULT_RECV_WINDOW_MS)
        said = f"req_timestamp[{signature.timestamp}],server_timestamp[{now_ms}],recv_window[{window}]"
        return wire.refusal(10002, now_ms, message=f"{wire.RET_MESSAGES[10002]}. {said}")
    origin = signature.timestamp + signature.key + signature.recv_window + signature.payload
    expected = hmac.new(API_SECRET.encode(), origin.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.sign.encode()):
        return wire.refusal(10004, now_ms, message=f"{wire.RET_MESSAGES[10004]} origin_string[{origin}]")
    return None


def key_information(signature: Signature | None, now_ms: int) -> Response:
    """Return what GET /v5/user/query-api says of the key that asks; 401 where none asks."""
    if signature is None:
        return wire.http_error(401)
    now = datetime.fromtimestamp(now_ms // 1000, tz=UTC)
    result = {
        "id": "13770661",
        "note": "simulated key",
        "apiKey": signature.key,
        "readOnly": 1,
        "secret": "",
        "permissions": {
            "ContractTrade": ["Order", "Position"],
            "Spot": ["SpotTrade"],
            "Wallet": [],
            "Options": [],
            "Derivatives": ["DerivativesTrade"],
            "CopyTrading": [],
            "BlockTrade": [],
            "Exchange": [],
            "NFT": [],
            "Affiliate": [],
            "Earn": [],
        },
        "ips": ["*"],
        "type": 1,
        "deadlineDay": DAYS_LEFT,
        "expiredAt": _day(now + timedelta(days=DAYS_LEFT)),
        "createdAt": _day(now - timedelta(days=90 - DAYS_LEFT)),
        "unified": 0,
        "uta": 1,
        "userID": 24617703,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
    }
    # The documented sample of this path has an empty retMsg, unlike those of the market.
    return wire.ok(result, now_ms, message="")


def _in_time(signature: Signature, now_ms: int) -> bool:
    window = signature.recv_window or str(DEFAULT_RECV_WINDOW_MS)
    if not all(text.isascii() and text.isdigit() for text in (signature.timestamp, window)):
        return False
    return now_ms - int(window) <= int(signature.timestamp) < now_ms + AHEAD_MS


def _day(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT00:00:00Z")
