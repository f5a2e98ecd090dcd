"""Our tables, schema `kline`; the migrations make them, and a test compares the two. Queries live with their users."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA: Final = "kline"
DAGSTER_SCHEMA: Final = "dagster"
VERSION_TABLE: Final = "kline_alembic_version"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    },
)


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _series_key() -> Column[int]:
    return Column("series_id", Integer, ForeignKey(f"{SCHEMA}.series.series_id"), primary_key=True)


venue = Table(
    "venue",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    _moment("claimed_at"),
)
datasets = Table(
    "datasets",
    metadata,
    Column("category", Text, primary_key=True),
    Column("interval", Text, primary_key=True),
    Column("grain", Text, nullable=False),
)
series = Table(
    "series",
    metadata,
    Column("series_id", Integer, Identity(always=True), primary_key=True),
    Column("category", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("interval", Text, nullable=False),
    UniqueConstraint("category", "symbol", "interval"),
)
instruments = Table(
    "instruments",
    metadata,
    Column("category", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("base_coin", Text, nullable=False),
    Column("quote_coin", Text, nullable=False),
    Column("tick_size", Numeric),
    Column("qty_step", Numeric),
    _moment("launch_time", nullable=True),
    _moment("delivery_time", nullable=True),
    _moment("seen_at"),
)
listings = Table(
    "listings",
    metadata,
    Column("category", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("listed_from", DateTime(timezone=True), primary_key=True),
    _moment("listed_until", nullable=True),
    _moment("probed_at"),
    Column("evidence", JSONB, nullable=False),
)
candles = Table(
    "candles",
    metadata,
    Column("series_id", Integer, primary_key=True),  # no foreign key: COPY would look at series for each row
    Column("open_time", DateTime(timezone=True), primary_key=True),
    *(Column(name, Numeric, nullable=False) for name in ("open", "high", "low", "close", "volume", "turnover")),
)
coverage = Table(
    "coverage",
    metadata,
    _series_key(),
    Column("date", Date, primary_key=True),
    _moment("window_start"),
    _moment("window_end"),
    Column(
        "state",
        Text,
        CheckConstraint("state in ('pending', 'landed', 'quarantined', 'not_listed')", name="state"),
        nullable=False,
    ),
    Column("expected", Integer, nullable=False),
    Column("present", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    _moment("first_open_time", nullable=True),
    _moment("last_open_time", nullable=True),
    Column("sha256", Text),
    Column("generation", Text),
    Column("reasons", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("fetch_error", Text),
    Column("postgres_generation", Text),
    Column("postgres_sha256", Text),
    Column("parquet_generation", Text),
    Column("parquet_sha256", Text),
    Column("postgres_fingerprint", Text),
    Column("parquet_fingerprint", Text),
    Column("read_whole", Boolean, nullable=False, server_default=text("false")),
    _moment("closes_at", nullable=True),
    Column("prune_epoch", Integer, nullable=False, server_default=text("0")),
    Column("known_missing", Integer, nullable=False, server_default=text("0")),
    _moment("ask_again_at", nullable=True),
    _moment("read_after", nullable=True),
    _moment("filled_at", nullable=True),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
coverage_days = Table(
    "coverage_days",
    metadata,
    _series_key(),
    Column("day", Date, primary_key=True),
    Column("expected", Integer, nullable=False),
    Column("present", Integer, nullable=False),
)
candle_revisions = Table(
    "candle_revisions",
    metadata,
    _series_key(),
    Column("open_time", DateTime(timezone=True), primary_key=True),
    Column("old_batch", Text, primary_key=True),
    Column("new_batch", Text, primary_key=True),
    Column("kind", Text, CheckConstraint("kind in ('changed', 'vanished')", name="kind"), nullable=False),
    Column("old", JSONB, nullable=False),
    Column("new", JSONB),
    Column("found_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
known_gaps = Table(
    "known_gaps",
    metadata,
    _series_key(),
    Column("open_time", DateTime(timezone=True), primary_key=True),
    _moment("confirmed_at", nullable=True),
    Column("evidence", JSONB, nullable=False),
    _moment("closed_at", nullable=True),
)
accepted = Table(
    "accepted",
    metadata,
    Column("accepted_id", Integer, Identity(always=True), primary_key=True),
    Column("series_id", Integer, ForeignKey(f"{SCHEMA}.series.series_id"), nullable=False),
    _moment("window_start"),
    _moment("window_end"),
    Column("keep", Text, CheckConstraint("keep in ('first', 'last')", name="keep")),
    Column("reason", Text, nullable=False),
    _moment("accepted_at"),
    Column("evidence", JSONB, nullable=False),
)
rate_budget = Table(
    "rate_budget",
    metadata,
    Column("venue", Text, primary_key=True),
    _moment("next_at"),
    _moment("cool_down_until", nullable=True),
    Column("reason", Text),
    Column("slow_share", Double, nullable=False, server_default=text("1")),
    _moment("slow_at", nullable=True),
    _moment("slow_before_at", nullable=True),
    _moment("slot_at", nullable=True),
    Column("lag_s", Double, nullable=False, server_default=text("0")),
    _moment("lag_until", nullable=True),
)
alert_cursor = Table(
    "alert_cursor",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("storage_id", BigInteger),
)
alert_episodes = Table(
    "alert_episodes",
    metadata,
    Column("asset", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("check_name", Text, primary_key=True),
    _moment("since"),
    Column("run_id", Text, nullable=False),
    Column("severity", Text, CheckConstraint("severity in ('ERROR', 'WARN')", name="severity"), nullable=False),
    Column("repair", Text, nullable=False),
    Column("run_assets", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("run_left", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
)
alerts = Table(
    "alerts",
    metadata,
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    Column("alert_id", Text, nullable=False),
    _moment("made_at"),
    Column("severity", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("alert_id"),
)
alert_deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("alert_id", Text, ForeignKey(f"{SCHEMA}.alerts.alert_id", ondelete="CASCADE"), primary_key=True),
    Column("target", Text, primary_key=True),
    _moment("delivered_at", nullable=True),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_error", Text),
)
fetch_stats = Table(
    "fetch_stats",
    metadata,
    Column("source", Text, primary_key=True),
    _moment("flushed_at"),
    Column("counts", JSONB, nullable=False),
)
