"""What `doctor` sees of the exchange: a turn of the budget, its answer, the clock, the API key."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from kline_pipeline.bybit.auth import KeyInfo
from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.connection import Connection
from kline_pipeline.cli.checkup.database import DatabaseLooks
from kline_pipeline.cli.checkup.finding import Seen, not_asked
from kline_pipeline.config import BybitSettings, Settings
from kline_pipeline.errors import Banned, KlineError, RateLimited
from kline_pipeline.opening import paying
from kline_pipeline.service.watching import probe_series

_TURN_S: Final = 9.0  # for a turn: longer than the quiet start of an hour, shorter than a cool-down
_TIMEOUT_S: Final = 5.0  # for a request, of which one is tried again
_SKEW_WARN_MS: Final = 1_000
_SKEW_FAIL_MS: Final = 5_000  # the exchange refuses what was signed longer ago (bybit-v5.md 4)
_ENDS_SOON: Final = timedelta(days=7)


class ExchangeLooks:
    """What one look at the exchange found that another needs.

    Attributes:
        venue: whose candles the exchange gives; None until it has said so.
    """

    def __init__(
        self, settings: Settings, stack: ExitStack, database: DatabaseLooks, clock_ms: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._stack = stack
        self._database = database
        self._clock_ms = clock_ms
        self._client: BybitClient | None = None
        self._silence = ""  # why the exchange is not asked
        self._skew_ms: tuple[int, int] = (0, 0)
        self.venue: str | None = None

    def settings(self) -> Seen:
        """Look at the settings; a URL or a key that is none is told here."""
        settings = self._settings
        try:
            with Connection(settings.bybit) as connection:
                host = f"{urlsplit(settings.bybit.base_url).scheme}://{connection.host}"
        except KlineError:
            self._silence = "the settings have no exchange to ask"
            raise
        probe_series(settings)  # without which `serve` does not begin
        told = f"KLINE_HOME is {settings.home}, BYBIT_BASE_URL leads to {host}"
        if settings.ignored_database_url:
            told += "; KLINE_DATABASE_URL is left alone, as candles are simulated"
        return "ok", told

    def budget(self) -> Seen:
        """Look whether the shared budget gives a turn; the turn is not used."""
        if self._silence:
            return not_asked(self._silence)
        shared = self._database.shared
        if self._settings.database_url is not None and shared is None:
            # Without what is shared nobody may send anything, and neither may we: a ban may be in force.
            self._silence = "the shared request budget is in the database"
            return not_asked("it is in the database, see there")
        budget = self._stack.enter_context(paying(self._settings, shared))
        try:
            budget.acquire(_TURN_S)
        except Banned:
            self._silence = "a cool-down is in force"
            raise
        except RateLimited:
            self._silence = "the request budget gave no turn"
            raise
        client = BybitClient(_impatient(self._settings.bybit), budget=budget, clock_ms=self._clock_ms)
        self._client = self._stack.enter_context(client)
        per_second = f"{self._settings.bybit.requests_per_second:g} requests per second, no cool-down is in force"
        return "ok", f"{per_second}, shared by {'all who use the database' if shared else 'all processes of this user'}"

    def exchange(self) -> Seen:
        """Ask the exchange for its time and its name."""
        if self._client is None:
            return not_asked(self._silence)
        before_ms = self._clock_ms()
        client, self._client, self._silence = self._client, None, "the exchange gave no usable answer"
        server_ms = client.server_time_ms()
        # Whatever the way took, the exchange wrote its time in between.
        self._skew_ms = before_ms - server_ms, self._clock_ms() - server_ms
        self.venue = client.venue()
        self._client = client
        return "ok", f"{client.host} answers, its candles are those of {self.venue}"

    def clock(self) -> Seen:
        """Compare the clock of this machine; answers are judged by the exchange's, only signatures need ours."""
        if self._client is None:
            return not_asked(self._silence)
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
            return not_asked(self._silence)
        return key_seen(self._client.key_info(), self._client.server_time_ms_seen)


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


def _impatient(options: BybitSettings) -> BybitSettings:
    """Nobody is helped by waiting for an exchange that does not answer; one more try is for the clock."""
    bounds = {
        "retry_max_attempts": min(2, options.retry_max_attempts),
        "retry_initial_delay_s": min(1.0, options.retry_initial_delay_s),
        "retry_max_delay_s": min(1.0, options.retry_max_delay_s),
        "timeout_s": min(_TIMEOUT_S, options.timeout_s),
    }
    return options.model_copy(update=bounds)
