"""One message to one target: apprise's URLs, and log:// for a dry run; which message goes when is told in outbox.

What is said of a target never holds its secrets: apprise masks tokens and passwords, and a webhook's path and query
are left out, where many keep theirs.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import apprise
from apprise import NotifyBase, NotifyType, OverflowMode
from pydantic import SecretStr

from kline_pipeline.errors import AlertsNotDelivered, ConfigError
from kline_pipeline.evidence.alerts import Alert

logger = logging.getLogger(__name__)
_DRY_RUN: Final = "log"
_WEBHOOKS: Final = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
_TYPES: Final = {"ERROR": NotifyType.FAILURE, "WARN": NotifyType.WARNING, "RECOVERED": NotifyType.SUCCESS}
_SHORT: Final = 6  # characters; what is shorter is no secret


@dataclass(frozen=True, slots=True)
class Target:
    """Where alerts go.

    Attributes:
        digest: of the URL, by which the database knows it.
        shown: the URL for people, without its secrets.
        url: for `send` alone.
    """

    digest: str
    shown: str
    url: SecretStr

    def send(self, alert: Alert) -> None:
        """Send a message once; apprise waits 4 s for a connection and for an answer where the URL does not say.

        Raises:
            AlertsNotDelivered: the target did not take it.
        """
        if _scheme(self.url) == _DRY_RUN:
            level = logging.INFO if alert.severity == "RECOVERED" else logging.WARNING
            logger.log(level, "alert, dry run: %s\n%s", alert.title, alert.body, extra={"alert_id": alert.alert_id})
            return
        sender = apprise.Apprise()
        sender.add(_plugin(_with_id(self.url, alert.alert_id)) or "")
        with _overheard() as said:
            arrived = sender.notify(
                title=alert.title,
                body=alert.body,
                notify_type=_TYPES[alert.severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
        if not arrived:
            told = _without_secrets(" ".join(said), self).rstrip(".") or "it did not say why"
            raise AlertsNotDelivered(f"{self.shown} did not take alert {alert.alert_id}: {told}; it is sent again")


def targets(urls: Iterable[SecretStr]) -> tuple[list[Target], list[ConfigError]]:
    """Return the targets of KLINE_ALERT_URLS in their order, and one error per URL that is none."""
    found, wrong = [], []
    for number, url in enumerate(urls, start=1):
        try:
            found.append(target(url, number))
        except ConfigError as exc:
            wrong.append(exc)
    return found, wrong


def target(url: SecretStr, number: int) -> Target:
    """Return the target of a URL; nothing is sent.

    Args:
        url: of apprise, or log://.
        number: its place in KLINE_ALERT_URLS, from 1.

    Raises:
        ConfigError: apprise cannot use the URL.
    """
    digest = hashlib.sha256(url.get_secret_value().encode()).hexdigest()[:16]
    scheme = _scheme(url)
    if scheme == _DRY_RUN:
        return Target(digest, f"{_DRY_RUN}://", url)
    plugin = _plugin(url)
    if plugin is None:
        begins = f"begins with {scheme}:// and" if scheme else "begins with no scheme and"
        raise ConfigError(
            f"KLINE_ALERT_URLS: URL {number} {begins} is none that apprise can use; "
            "mend it as https://github.com/caronc/apprise says, or take it out"
        )
    return Target(digest, _masked(plugin, scheme), url)


def _plugin(url: SecretStr) -> NotifyBase | None:
    with _overheard():
        plugin = apprise.Apprise.instantiate(url.get_secret_value())
    if plugin is not None and "overflow=" not in url.get_secret_value():
        plugin.overflow_mode = OverflowMode.SPLIT  # a chat that takes less gets the rest as a second message
    return plugin


def _masked(plugin: NotifyBase, scheme: str) -> str:
    url: str = plugin.url(privacy=True)  # type: ignore[no-untyped-call]
    masked = url.partition("?")[0].rstrip("/")
    if scheme in _WEBHOOKS:
        parts = urlsplit(masked)
        path = "/..." if parts.path.strip("/") else ""
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    return masked


def _with_id(url: SecretStr, alert_id: str) -> SecretStr:
    """Return the URL of a webhook with the id as a field of the payload, for receivers that drop what comes twice."""
    text = url.get_secret_value()
    if _scheme(url) not in _WEBHOOKS:
        return url
    return SecretStr(f"{text}{'&' if '?' in text else '?'}:alert_id={alert_id}")


def _without_secrets(told: str, one: Target) -> str:
    for piece in sorted(set(re.split(r"[^\w-]+", one.url.get_secret_value())), key=len, reverse=True):
        if len(piece) >= _SHORT and piece not in one.shown:
            told = told.replace(piece, "...")
    return told


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Give what apprise warns of inside the block; it goes to no log, as it may hold the URL."""
    said, log = _Listener(logging.WARNING), logging.getLogger("apprise")
    before, log.propagate = log.propagate, False
    log.addHandler(said)
    try:
        yield said.lines
    finally:
        log.removeHandler(said)
        log.propagate = before


class _Listener(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(" ".join(record.getMessage().split()))


def _scheme(url: SecretStr) -> str:
    scheme, mark, _ = url.get_secret_value().partition("://")
    return scheme.lower() if mark and re.fullmatch(r"[A-Za-z][\w+.-]{0,19}", scheme) else ""
