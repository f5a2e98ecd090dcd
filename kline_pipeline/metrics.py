"""Every metric of ours with its unit and labels, and the counts of one process; how they are kept is told elsewhere.

Counts of processes become facts in PostgreSQL (evidence/fetch_stats), gauges are read where the facts are; the service
shows both. No label has a value from outside: what a label can say is listed here, but for the series of the gauges
that tell of series, of which at most MOST_SERIES are shown.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Literal

MOST_SERIES: Final = 1000  # of a gauge with a sample per series, those that need a look first

KINDS: Final = ("kline", "instruments", "time", "key")
# What became of a request. A reset is a connection_error, an answer slower than BYBIT_TIMEOUT_S a timeout, 403 is
# banned, 429 and retCode 10006 are rate_limited, 5xx and retCode 10000 and 10016 are server_busy.
OUTCOMES: Final = (
    "ok", "timeout", "connection_error", "server_busy", "rate_limited", "banned", "country_blocked", "malformed",
    "bad_request", "authentication", "unexpected",
)  # fmt: skip
CATEGORIES: Final = ("linear", "inverse", "spot")
INTERVALS: Final = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")
CHECKS: Final = (
    "no_gaps", "no_duplicates", "well_formed", "consistent", "postgres_agrees", "parquet_agrees", "fresh", "revisions",
)  # fmt: skip
STATES: Final = ("pending", "landed", "quarantined", "not_listed")
RUN_STATUSES: Final = ("queued", "running", "success", "failure", "canceled")
_SERIES: Final = ()  # values that are no fixed list
_OF_DATASET: Final[Mapping[str, tuple[str, ...]]] = {"category": CATEGORIES, "interval": INTERVALS}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric.

    Attributes:
        name: with its unit, as it is exported.
        kind: counter and histogram never go backwards; gauge is a fact of now.
        about: one sentence.
        labels: what each label can say; empty where it names a series.
        buckets: upper bounds of a histogram, ascending; the last one, infinity, is not among them.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def every(self) -> list[Labels]:
        """Return every combination of labels, so that a counter is there before it counts; none for series."""
        return [tuple(zip(self.labels, values, strict=True)) for values in product(*self.labels.values())]


REQUESTS = Metric(
    "kline_exchange_requests_total", "counter", "Requests sent to the exchange, by what became of them.",
    {"kind": KINDS, "outcome": OUTCOMES},
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "kline_exchange_request_seconds", "histogram", "Time from sending a request to its whole answer, or to giving up.",
    {"kind": KINDS}, (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)  # fmt: skip
RETRIES = Metric("kline_exchange_retries_total", "counter", "Requests sent again after a failed try.", {"kind": KINDS})
CANDLES = Metric(
    "kline_exchange_candles_total", "counter", "Candles in usable answers of the exchange, repeated ones too.",
    _OF_DATASET,
)  # fmt: skip
CACHE_HITS = Metric("kline_cache_hits_total", "counter", "Pages that fetch and latest found in their cache.")
CACHE_MISSES = Metric("kline_cache_misses_total", "counter", "Pages that fetch and latest had to ask for.")
ROWS_WRITTEN = Metric(
    "kline_rows_written_total", "counter", "Candles inserted, updated or deleted in a sink.",
    {"sink": ("postgres", "parquet")},
)  # fmt: skip
DATABASE_ERRORS = Metric(
    "kline_database_errors_total", "counter", "Failures of the database: it did not answer, or it refused.",
    {"kind": ("unavailable", "refused")},
)  # fmt: skip
CHECK_RESULTS = Metric(
    "kline_check_results_total", "counter", "Results of asset checks, one per partition.",
    {"check": CHECKS, "result": ("passed", "warned", "failed")},
)  # fmt: skip
REVISIONS = Metric(
    "kline_revisions_total", "counter", "Closed candles that two answers of the exchange tell differently.",
    {"kind": ("changed", "vanished")},
)  # fmt: skip

FRESHNESS = Metric(
    "kline_freshness_lag_seconds", "gauge", "Age of the end of the newest candle that has landed, while it trades.",
    {"series": _SERIES},
)  # fmt: skip
SERIES = Metric("kline_series", "gauge", "Series that are kept.", _OF_DATASET)
EXPECTED = Metric("kline_candles_expected", "gauge", "Candles that must be there.", _OF_DATASET)
PRESENT = Metric("kline_candles_present", "gauge", "Candles that are there.", _OF_DATASET)
GAPS = Metric("kline_gaps_open", "gauge", "Candles that are missing and not known to be missing.", _OF_DATASET)
KNOWN_GAPS = Metric("kline_known_gaps", "gauge", "Candles that the exchange has said twice not to have.", _OF_DATASET)
PARTITIONS = Metric("kline_partitions", "gauge", "Partitions by state.", {**_OF_DATASET, "state": STATES})
COOL_DOWN = Metric("kline_cool_down_seconds", "gauge", "Time until requests may be sent again; 0 while they may.")
PACE_SHARE = Metric("kline_request_pace_share", "gauge", "Share of the pace that is used, 1 unless slowed down.")
DATABASE_UP = Metric("kline_database_up", "gauge", "1 while the database answers, else 0.")
CONNECTIONS = Metric(
    "kline_database_connections", "gauge", "Connections to the database by who holds them.",
    {"application": ("kline_pipeline", "dagster", "other")},
)  # fmt: skip
POOL = Metric(
    "kline_database_pool_connections", "gauge", "Connections in the pool of the service.",
    {"state": ("in_use", "idle")},
)  # fmt: skip
RUNS = Metric("kline_runs", "gauge", "Dagster runs of the last 24 hours by status.", {"status": RUN_STATUSES})
RUN_SECONDS = Metric(
    "kline_run_duration_seconds", "gauge", "How long the runs of the last 24 hours took that have ended.",
    {"percentile": ("50", "90", "100")},
)  # fmt: skip
DAEMON_AGE = Metric(
    "kline_daemon_heartbeat_age_seconds", "gauge", "Age of the oldest newest heartbeat of Dagster's daemons.",
)  # fmt: skip
UNDELIVERED = Metric("kline_alerts_undelivered", "gauge", "Alerts that some target has not taken yet.")
EXCHANGE_UP = Metric("kline_exchange_up", "gauge", "1 while the exchange answers, else 0.")
CLOCK_SKEW = Metric("kline_clock_skew_seconds", "gauge", "Clock of this machine less that of the exchange.")
PROBE_SECONDS = Metric(
    "kline_probe_latency_seconds", "gauge", "Time that the newest probe of a series took.", {"series": _SERIES}
)
STORAGE_UP = Metric("kline_snapshot_storage_up", "gauge", "1 while snapshots can be read and written, else 0.")
DISK_FREE = Metric("kline_disk_free_bytes", "gauge", "Free bytes under KLINE_HOME.")
BUILD = Metric("kline_build_info", "gauge", "1, with the release of the package.", {"version": _SERIES})

# Counted by processes, kept in fetch_stats.
COUNTED: Final = (
    REQUESTS, REQUEST_SECONDS, RETRIES, CANDLES, CACHE_HITS, CACHE_MISSES, ROWS_WRITTEN, DATABASE_ERRORS, CHECK_RESULTS,
)  # fmt: skip
# Read where the facts are.
OBSERVED: Final = (
    REVISIONS, FRESHNESS, SERIES, EXPECTED, PRESENT, GAPS, KNOWN_GAPS, PARTITIONS, COOL_DOWN, PACE_SHARE, DATABASE_UP,
    CONNECTIONS, POOL, RUNS, RUN_SECONDS, DAEMON_AGE, UNDELIVERED, EXCHANGE_UP, CLOCK_SKEW, PROBE_SECONDS, STORAGE_UP,
    DISK_FREE, BUILD,
)  # fmt: skip
METRICS: Final = (*COUNTED, *OBSERVED)


@dataclass(frozen=True, slots=True)
class Reading:
    """A value that was read of a gauge, or of a counter whose facts are kept elsewhere."""

    metric: Metric
    value: float
    labels: Labels = ()


def sample_names(metric: Metric) -> list[str]:
    """Return the names under which a metric is exported."""
    if metric.kind != "histogram":
        return [metric.name]
    return [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]


class Tally:
    """What one process has counted, from zero on; for any number of threads.

    A key is the text of a sample without its value: name, then labels in the order of the metric.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}

    def add(self, metric: Metric, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter.

        Raises:
            ValueError: a label cannot say that.
        """
        key = _key(metric, metric.name, labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + amount

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add a value to a histogram, whose buckets are cumulative.

        Raises:
            ValueError: a label cannot say that.
        """
        bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
        keys = [
            _key(metric, f"{metric.name}_bucket", labels, le=bound)
            for bound in bounds[bisect_left(metric.buckets, value) :]
        ]
        keys.append(_key(metric, f"{metric.name}_count", labels))
        total = _key(metric, f"{metric.name}_sum", labels)
        with self._lock:
            for key in keys:
                self._values[key] = self._values.get(key, 0.0) + 1.0
            self._values[total] = self._values.get(total, 0.0) + value

    def values(self) -> dict[str, float]:
        """Return the counts, by key."""
        with self._lock:
            return dict(self._values)

    @contextmanager
    def handed_over(self) -> Iterator[dict[str, float]]:
        """Give the counts to who keeps them for good, and forget them at the end of the block, unless it fails."""
        values = self.values()
        yield values
        with self._lock:
            for key, value in values.items():
                self._values[key] -= value


def key_of(name: str, labels: Labels) -> str:
    """Return the key of a sample: kline_exchange_retries_total{kind="kline"}."""
    told = ",".join(f'{label}="{value}"' for label, value in labels)
    return f"{name}{{{told}}}" if told else name


def _key(metric: Metric, name: str, labels: Mapping[str, str], *, le: str | None = None) -> str:
    for label, values in metric.labels.items():
        if labels.get(label) not in values:
            msg = f"{metric.name} has no {label} {labels.get(label)!r}"
            raise ValueError(msg)
    told = tuple((label, labels[label]) for label in metric.labels)
    return key_of(name, told if le is None else (*told, ("le", le)))
