"""The settings, the only reader of the environment; what a setting is used for is told where it is used.

Variables begin with BYBIT_ (the exchange) or KLINE_ (us) and may stand in a `.env` file of the working directory.
`.env.example` lists each with unit, default and meaning. KLINE_HOME is resolved once to an absolute path; processes
that we start get it, and whatever else was decided, through `export`.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kline_pipeline import locations
from kline_pipeline.errors import ConfigError

_HOST_CEILING_PER_S = 110  # 600 requests per 5 s and IP are Bybit's limit (bybit-v5.md 3.1); we stay below it

_HOUR_S, _DAY_S, _YEAR_S = 3600, 86_400, 31_536_000


class BybitSettings(BaseSettings):
    """How to talk to the exchange; every field is the variable BYBIT_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="BYBIT_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    base_url: Annotated[str, AfterValidator(locations.http_url)] = Field(
        default="https://api.bybit.com", description="host of the v5 API: Bybit, a regional host, or a simulator"
    )
    requests_per_second: float = Field(
        default=50, gt=0, le=_HOST_CEILING_PER_S, description="budget of all processes together, per second"
    )
    concurrency: int = Field(default=16, ge=1, le=64, description="requests in flight per process")
    timeout_s: float = Field(default=10, gt=0, le=_HOUR_S, description="time for one request, seconds")
    close_grace_s: float = Field(
        default=10, ge=0, le=_DAY_S, description="a candle counts as closed this many seconds after its end"
    )
    retry_max_attempts: int = Field(default=5, ge=1, le=1000, description="tries per request, the first included")
    retry_initial_delay_s: float = Field(default=1, ge=0, le=_DAY_S, description="wait before the second try, seconds")
    retry_backoff_factor: float = Field(default=2, ge=1, le=100, description="growth of the wait from try to try")
    retry_max_delay_s: float = Field(default=30, ge=0, le=_DAY_S, description="longest wait between two tries, seconds")
    retry_total_s: float = Field(
        default=300,
        gt=0,
        le=_DAY_S,
        description="no further try this long after the first, waits for the budget not counted, seconds",
    )
    cool_down_s: float = Field(
        default=600,
        gt=0,
        le=_DAY_S,
        description="no process asks anything this long after HTTP 403 'access too frequent', seconds",
    )
    cache_url: Annotated[SecretStr | None, AfterValidator(locations.cache_url)] = Field(
        default=None, description="pages of `fetch` and `latest`: file:FOLDER, redis://HOST or none; KLINE_HOME/cache"
    )
    cache_ttl_days: float = Field(
        default=7, gt=0, le=36_500, description="a cached page is forgotten after this many days"
    )
    cache_max_mb: float = Field(default=2048, gt=0, le=1e9, description="largest size of the cache, MB")
    api_key: SecretStr | None = Field(default=None, description="optional, with its secret: requests are signed")
    api_secret: SecretStr | None = Field(default=None, description="of the API key")

    @model_validator(mode="after")
    def _key_with_secret(self) -> Self:
        if bool(self.api_key) != bool(self.api_secret):
            msg = "BYBIT_API_KEY and BYBIT_API_SECRET belong together: set both or none"
            raise ValueError(msg)
        return self


class KlineSettings(BaseSettings):
    """Where things live; every field is the variable KLINE_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="KLINE_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    home: Path | None = Field(default=None, description="folder of everything local; nearest .kline upward")
    datasets_file: Path | None = Field(default=None, description="datasets.toml; else KLINE_HOME/datasets.toml")
    database_url: Annotated[SecretStr | None, AfterValidator(locations.postgres_url)] = Field(
        default=None, description="postgresql://...; without it an embedded server under KLINE_HOME"
    )
    work_url: str | None = Field(default=None, description="raw batches and working candles: path or fsspec URL")
    snapshot_url: str | None = Field(default=None, description="Parquet snapshots: path or fsspec URL")
    gap_confirm_after_s: int = Field(
        default=3600,
        ge=0,
        le=_YEAR_S,
        description="a gap can become a known one this long after it was first seen, seconds",
    )
    fresh_after_s: int = Field(
        default=93_600,
        ge=0,
        le=_YEAR_S,
        description="the newest candle may be this much older than its interval, seconds; twice that is an error",
    )
    run_partitions: int = Field(default=250, ge=1, le=250, description="most partitions of one Dagster run")
    keep_days: int = Field(
        default=30, ge=1, le=3650, description="Dagster's runs and outdated events are pruned after so many days"
    )
    ui_url: Annotated[str | None, AfterValidator(locations.optional_http_url)] = Field(
        default=None, description="where people reach Dagster's UI, for links; http://127.0.0.1 and the port of `up`"
    )
    alert_urls: SecretStr | None = Field(
        default=None, description="where alerts go: apprise URLs, blanks between them; log:// writes them to the log"
    )
    alert_severity: Literal["ERROR", "WARN"] = Field(default="ERROR", description="least severity that is alerted")
    ops_requests_per_minute: int = Field(
        default=60, ge=1, le=10**9, description="requests per minute that the ops service answers one client"
    )
    ops_trusted_proxies: Annotated[str | None, AfterValidator(locations.networks)] = Field(
        default=None, description="addresses or networks of proxies whose X-Forwarded-For is believed, blanks between"
    )
    ops_token: Annotated[SecretStr | None, AfterValidator(locations.bearer_token)] = Field(
        default=None, description="who asks the ops service must bear it; a secret"
    )
    probe_series: str = Field(
        default="linear:BTCUSDT:1", description="series that the ops service asks for, blanks between; none: not any"
    )
    log_format: Literal["console", "json"] | None = Field(
        default=None, description="console or json; console on a terminal, else json"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least level shown")
    log_file: Path | None = Field(default=None, description="log lines as JSON go here too; 30 days are kept")


class Settings:
    """All settings of a process, with every path resolved.

    Attributes:
        bybit: how to talk to the exchange.
        home: absolute path of KLINE_HOME.
        database_url: postgresql:// URL, or None for the embedded server under `home`. A secret.
        datasets_file: absolute path of datasets.toml, None where the packaged default is to be used.
        work_url, snapshot_url: absolute path or fsspec URL.
        cache_url: file:ABSOLUTE_FOLDER, redis:// URL, or None for no cache. A secret.
        gap_confirm_after_s, fresh_after_s, run_partitions, keep_days: as the variables.
        ui_url: of Dagster's UI, without a slash at the end; None where nothing says.
        alert_urls: apprise URLs, each a secret; empty where alerts go nowhere.
        alert_severity: ERROR, or WARN to be told of warnings too.
        simulated: candles are simulated ones, kept apart under KLINE_HOME/simulated.
        ops_requests_per_minute: as the variable.
        ops_trusted_proxies: addresses or networks, each on its own; empty where no proxy is trusted.
        ops_token: of the ops service, None where it asks for none. A secret.
        probe_series: keys of series; empty where none is asked for.
        log_format, log_level: as the variables; log_format None means console on a terminal, else json.
        log_file: absolute path of a file that gets the log lines too, None for none.
    """

    def __init__(self, bybit: BybitSettings, kline: KlineSettings, *, simulated: bool = False) -> None:
        self.home = locations.home(kline.home)
        self.simulated = simulated or self.home.name == "simulated"
        # The key is one of the real exchange: a simulator would refuse it.
        self.bybit = bybit.model_copy(update={"api_key": None, "api_secret": None}) if self.simulated else bybit
        if simulated and self.home.name != "simulated":
            self.home = self.home / "simulated"
        self.database_url = None if self.simulated else kline.database_url
        self.ignored_database_url = self.simulated and kline.database_url is not None
        own_file = self.home / "datasets.toml"
        chosen = kline.datasets_file or (own_file if own_file.exists() else None)
        self.datasets_file = chosen.absolute() if chosen else None
        self.work_url = locations.location(kline.work_url, self.home / "work", simulated=self.simulated)
        self.snapshot_url = locations.location(kline.snapshot_url, self.home / "snapshots", simulated=self.simulated)
        self.cache_url = locations.cache_location(bybit.cache_url, self.home / "cache", simulated=self.simulated)
        self.gap_confirm_after_s = kline.gap_confirm_after_s
        self.fresh_after_s = kline.fresh_after_s
        self.run_partitions = kline.run_partitions
        self.keep_days = kline.keep_days
        self.ui_url = kline.ui_url
        urls = kline.alert_urls.get_secret_value().split() if kline.alert_urls else []
        self.alert_urls = tuple(SecretStr(url) for url in dict.fromkeys(urls))
        self.alert_severity = kline.alert_severity
        self.ops_requests_per_minute = kline.ops_requests_per_minute
        self.ops_trusted_proxies = tuple((kline.ops_trusted_proxies or "").split())
        self.ops_token = kline.ops_token
        wanted = "" if kline.probe_series == "none" else kline.probe_series
        self.probe_series = tuple(dict.fromkeys(wanted.split()))
        self.log_format = kline.log_format
        self.log_level = kline.log_level
        self.log_file = kline.log_file.expanduser().absolute() if kline.log_file else None
        told = (locations.secrets_of(name, value) for name, value in [*bybit, *kline])
        self._secrets = tuple(map(SecretStr, sorted(set().union(*told))))  # which have no repr

    @classmethod
    def load(cls, *, simulated: bool = False) -> Self:
        """Return the settings of the environment and of `.env`.

        Args:
            simulated: live in KLINE_HOME/simulated; KLINE_DATABASE_URL, _WORK_URL and _SNAPSHOT_URL are ignored.

        Raises:
            ConfigError: variables have values that cannot work; all of them are named.
        """
        try:
            return cls(BybitSettings(), KlineSettings(), simulated=simulated)
        except ValidationError as exc:
            raise ConfigError(_sentence(exc)) from exc
        except OSError as exc:
            raise ConfigError(f"KLINE_HOME cannot be entered: {exc.filename}: {exc.strerror}; set another one") from exc

    def secrets(self) -> tuple[str, ...]:
        """Return every text that must never be shown, also of variables that do not count here, ascending.

        It is all that is a SecretStr, and what is secret of any URL: user and password, and of alerts nearly all.
        """
        return tuple(one.get_secret_value() for one in self._secrets)

    @property
    def program(self) -> str:
        """What a person types before a command on the same KLINE_HOME."""
        return "kline-pipeline --simulate" if self.simulated else "kline-pipeline"

    def export(self) -> None:
        """Write what was resolved to the environment, so that processes started from here agree with this one."""
        os.environ["KLINE_HOME"] = str(self.home)
        os.environ["BYBIT_BASE_URL"] = self.bybit.base_url
        os.environ["KLINE_WORK_URL"] = self.work_url
        os.environ["KLINE_SNAPSHOT_URL"] = self.snapshot_url
        if self.datasets_file:
            os.environ["KLINE_DATASETS_FILE"] = str(self.datasets_file)
        if self.log_file:
            os.environ["KLINE_LOG_FILE"] = str(self.log_file)
        if self.database_url is None:
            os.environ.pop("KLINE_DATABASE_URL", None)

    def with_base_url(self, base_url: str) -> "Settings":
        """Return the same settings with another exchange host."""
        other = object.__new__(Settings)
        other.__dict__.update(self.__dict__, bybit=self.bybit.model_copy(update={"base_url": base_url.rstrip("/")}))
        return other

    def with_datasets_file(self, path: Path) -> "Settings":
        """Return the same settings with another datasets.toml."""
        other = object.__new__(Settings)
        other.__dict__.update(self.__dict__, datasets_file=path.absolute())
        return other


def known_variables() -> set[str]:
    """Return the name of every variable that is read."""
    models = (("BYBIT_", BybitSettings), ("KLINE_", KlineSettings))
    return {prefix + name.upper() for prefix, model in models for name in model.model_fields}


def given_variables() -> set[str]:
    """Return the names beginning with BYBIT_ or KLINE_ that the environment or `.env` has, read or not."""
    names = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    return {name for name in names if name.startswith(("BYBIT_", "KLINE_"))}


def user_cache_folder() -> Path:
    """Return the folder for what all KLINE_HOMEs of a user share, such as the file of the request budget."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kline-pipeline"


def _sentence(exc: ValidationError) -> str:
    prefix = "BYBIT_" if exc.title == "BybitSettings" else "KLINE_"
    problems = []
    for error in exc.errors():
        name = "_".join(map(str, error["loc"])).upper()  # empty where fields contradict each other
        told = error["msg"].removeprefix("Value error, ")
        problems.append(f"{prefix}{name}: {told}" if name else told)
    return "; ".join(problems) + " (see .env.example)"
