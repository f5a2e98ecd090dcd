"""The checks of `kline-pipeline doctor`, each one sentence; how they are shown is told in doctor.

A check only looks. One that fails does not keep the next from looking, unless that needs what failed.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from kline_pipeline.alerting.delivery import targets
from kline_pipeline.bybit.auth import KeyInfo
from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.connection import Connection
from kline_pipeline.config import Settings
from kline_pipeline.database import migrate
from kline_pipeline.database.cluster import Cluster
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.errors import Banned, KlineError, RateLimited
from kline_pipeline.opening import paying
from kline_pipeline.service.room import room

logger = logging.getLogger(__name__)
Verdict = Literal["ok", "warn", "FAIL"]
Seen = tuple[Verdict, str]
_TURN_S: Final = 9.0  # for a turn: longer than the quiet start of an hour, shorter than a cool-down
_SKEW_WARN_MS: Final = 1_000
_SKEW_FAIL_MS: Final = 5_000  # the exchange refuses what was signed longer ago (bybit-v5.md 4)
_ENDS_SOON: Final = timedelta(days=7)
_CHECKS: Final = ("settings", "disk", "database", "request budget", "exchange", "clock", "API key", "alerts")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has seen.

    Attributes:
        check: its name.
        verdict: ok, warn (it works, and something should be done) or FAIL.
        seen: one sentence: what was seen and, where that is not good, what to do.
    """

    check: str
    verdict: Verdict
    seen: str


def examine(settings: Settings, *, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> list[Finding]:
    """Return the findings of all checks, in the order of their making.

    Args:
        settings: of the KLINE_HOME that is looked at.
        clock_ms: the clock of this machine, UTC milliseconds.
    """
    with ExitStack() as stack:
        patient = _Patient(settings, stack, clock_ms)
        looks = (
            patient.settings, patient.disk, patient.database, patient.budget, patient.exchange, patient.clock,
            patient.key, patient.alerts,
        )  # fmt: skip
        return [_found(check, look) for check, look in zip(_CHECKS, looks, strict=True)]


def without_settings(error: KlineError) -> list[Finding]:
    """Return the findings where there are no settings to look with."""
    return [
        Finding(_CHECKS[0], "FAIL", str(error)),
        *(Finding(check, "warn", "not looked at: there are no settings yet") for check in _CHECKS[1:]),
    ]


def _found(check: str, look: Callable[[], Seen]) -> Finding:
    try:
        verdict, seen = look()
    except KlineError as exc:
        verdict, seen = "FAIL", str(exc)
    except Exception as exc:  # a probe reports what it did not expect as well
        logger.exception("check of doctor crashed", extra={"check": check})
        verdict, seen = "FAIL", f"the check itself failed with {type(exc).__name__}: a defect of kline-pipeline"
    return Finding(check, verdict, " ".join(seen.split()))


class _Patient:
    """What is looked at, and what one check found that another needs."""

    def __init__(self, settings: Settings, stack: ExitStack, clock_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._stack = stack
        self._clock_ms = clock_ms
        self._shared: Database | None = None  # of KLINE_DATABASE_URL, with our tables
        self._client: BybitClient | None = None
        self._silence = ""  # why the exchange is not asked
        self._skew_ms: tuple[int, int] = (0, 0)

    def settings(self) -> Seen:
        """Look at the settings; a URL or a key that is none is told here."""
        settings = self._settings
        try:
            with Connection(settings.bybit) as connection:
                host = f"{urlsplit(settings.bybit.base_url).scheme}://{connection.host}"
        except KlineError:
            self._silence = "the settings have no exchange to ask"
            raise
        told = f"KLINE_HOME is {settings.home}, BYBIT_BASE_URL leads to {host}"
        if settings.ignored_database_url:
            told += "; KLINE_DATABASE_URL is left alone, as candles are simulated"
        return "ok", told

    def disk(self) -> Seen:
        """Look whether KLINE_HOME can be written and has room."""
        home = self._settings.home
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            return "FAIL", f"{there} is no folder that can be written; set another KLINE_HOME"
        return room_seen(shutil.disk_usage(there).free, there)

    def database(self) -> Seen:
        """Look at the database of KLINE_DATABASE_URL, or at the embedded one if it runs."""
        if self._settings.database_url is None:
            return self._embedded(EmbeddedServer(self._settings.home))
        database = self._stack.enter_context(connect(self._settings, migrate=False))
        revision, seen = _revision(database, database.where)
        self._shared = database if revision == migrate.head() else None
        return seen

    def _embedded(self, server: EmbeddedServer) -> Seen:
        cluster = Cluster(server.folder)
        state = cluster.state()
        if state == "unreachable":
            return "FAIL", f"the {server.describe()} runs and its socket is gone; run kline-pipeline db stop"
        if state == "ready":
            with Database(server.url, None) as database:
                return _revision(database, server.describe())[1]
        does = f"is {state}" if state != "absent" else "is stopped" if cluster.data.exists() else "is not made yet"
        return "ok", f"the {server.describe()} {does}; the next command that needs it starts it"

    def budget(self) -> Seen:
        """Look whether the shared budget gives a turn; the turn is not used."""
        if self._silence:
            return _not_asked(self._silence)
        shared = self._shared
        if self._settings.database_url is not None and shared is None:
            # Without what is shared nobody may send anything, and neither may we: a ban may be in force.
            self._silence = "the shared request budget is in the database"
            return _not_asked("it is in the database, see there")
        budget = self._stack.enter_context(paying(self._settings, shared))
        # Nobody is helped by waiting for an exchange that does not answer; one more try is for the clock.
        tries = min(2, self._settings.bybit.retry_max_attempts)
        impatient = self._settings.bybit.model_copy(update={"retry_max_attempts": tries})
        try:
            budget.acquire(_TURN_S)
        except Banned:
            self._silence = "a cool-down is in force"
            raise
        except RateLimited:
            self._silence = "the request budget gave no turn"
            raise
        client = BybitClient(impatient, budget=budget, clock_ms=self._clock_ms)
        self._client = self._stack.enter_context(client)
        per_second = f"{self._settings.bybit.requests_per_second:g} requests per second, no cool-down is in force"
        return "ok", f"{per_second}, shared by {'all who use the database' if shared else 'all processes of this user'}"

    def exchange(self) -> Seen:
        """Ask the exchange for its time and its name."""
        if self._client is None:
            return _not_asked(self._silence)
        before_ms = self._clock_ms()
        client, self._client, self._silence = self._client, None, "the exchange gave no usable answer"
        server_ms = client.server_time_ms()
        # Whatever the way took, the exchange wrote its time in between.
        self._skew_ms = before_ms - server_ms, self._clock_ms() - server_ms
        venue = client.venue()
        self._client = client
        return "ok", f"{client.host} answers, its candles are those of {venue}"

    def clock(self) -> Seen:
        """Compare the clock of this machine; answers are judged by the exchange's, only signatures need ours."""
        if self._client is None:
            return _not_asked(self._silence)
        least_ms, most_ms = self._skew_ms
        skew_ms = max(0, least_ms, -most_ms)
        if skew_ms <= _SKEW_WARN_MS:
            return "ok", "this machine's clock agrees with the exchange's to the second"
        side = "ahead of" if least_ms > 0 else "behind"
        told = f"this machine's clock is at least {skew_ms / 1000:,.1f} s {side} the exchange's; set it, as by NTP"
        if skew_ms > _SKEW_FAIL_MS and self._settings.bybit.api_key:
            return "FAIL", f"{told}: the exchange refuses what is signed by it, which costs a try each time"
        return "warn", f"{told} (candles are not touched, they are judged by the exchange's clock)"

    def key(self) -> Seen:
        """Ask the exchange what the API key may do."""
        if not self._settings.bybit.api_key:
            return "ok", "none is set, and market data needs none"
        if self._client is None:
            return _not_asked(self._silence)
        return key_seen(self._client.key_info(), self._client.server_time_ms_seen)

    def alerts(self) -> Seen:
        """Look whether each URL of KLINE_ALERT_URLS can be used; nothing is sent."""
        good, wrong = targets(self._settings.alert_urls)
        if wrong:
            return "FAIL", "; ".join(map(str, wrong))
        if not good:
            return "ok", "go nowhere, as KLINE_ALERT_URLS is not set; failures are red in the UI all the same"
        return "ok", f"go to {', '.join(target.shown for target in good)}"


def key_seen(info: KeyInfo, now_ms: int) -> Seen:
    """Return what is to be said of a key that works, at a time in UTC milliseconds."""
    told = f"the key works, from {'; '.join(info.ips) if info.ips and '*' not in info.ips else 'any address'}"
    if info.expires_at is not None:
        told += f", until {info.expires_at:%Y-%m-%d %H:%M} UTC"
        if info.expires_at - datetime.fromtimestamp(now_ms / 1000, UTC) < _ENDS_SOON:
            return "warn", f"{told}; make a new one and set BYBIT_API_KEY and BYBIT_API_SECRET in time"
    if info.read_only:
        return "ok", f"{told}, and may only read"
    rights = "; ".join(info.permissions) or "none named"
    return "warn", f"{told}, and may do more than read ({rights}); a key that may only read is enough"


def room_seen(free_bytes: int, folder: Path) -> Seen:
    """Return what is to be said of the free bytes under a folder."""
    told = f"{free_bytes / 10**9:,.1f} GB are free under {folder}"
    judged = room(free_bytes)
    if judged == "too few":
        return "FAIL", f"{told}, too little to work with; free some, or set another KLINE_HOME"
    return ("warn", f"{told}; free some before a large backfill") if judged == "few" else ("ok", told)


def _revision(database: Database, where: str) -> tuple[str | None, Seen]:
    with database.translate_errors(), database.engine.connect() as connection:
        revision, newest = migrate.current(connection), migrate.head()
    if revision == newest:
        return revision, ("ok", f"{where} answers, its tables are at revision {revision}")
    has = "has no tables of ours yet" if revision is None else f"is at revision {revision} instead of {newest}"
    return revision, ("warn", f"{where} answers and {has}; run kline-pipeline db upgrade, or any command that uses it")


def _not_asked(why: str) -> Seen:
    return "warn", f"not asked: {why}"
