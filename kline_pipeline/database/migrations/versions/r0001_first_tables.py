"""The first tables: venue, datasets, series, instruments, listings, candles, coverage, revisions, rate budget."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = """
create table kline.venue (
    id integer constraint venue_pkey primary key constraint venue_one_row_check check (id = 1),
    name text not null,
    claimed_at timestamptz not null
);
create table kline.datasets (
    category text, interval text, grain text not null,
    constraint datasets_pkey primary key (category, interval)
);
create table kline.series (
    series_id integer generated always as identity constraint series_pkey primary key,
    category text not null, symbol text not null, interval text not null,
    constraint series_category_key unique (category, symbol, interval)
);
create table kline.instruments (
    category text, symbol text, status text not null, base_coin text not null, quote_coin text not null,
    tick_size numeric, qty_step numeric, launch_time timestamptz, delivery_time timestamptz,
    seen_at timestamptz not null,
    constraint instruments_pkey primary key (category, symbol)
);
create table kline.listings (
    category text, symbol text, listed_from timestamptz, listed_until timestamptz,
    probed_at timestamptz not null, evidence jsonb not null,
    constraint listings_pkey primary key (category, symbol, listed_from)
);
create table kline.candles (
    series_id integer constraint candles_series_id_fkey references kline.series (series_id),
    open_time timestamptz,
    open numeric not null, high numeric not null, low numeric not null, close numeric not null,
    volume numeric not null, turnover numeric not null,
    constraint candles_pkey primary key (series_id, open_time)
);
create view kline.klines as
    select category, symbol, interval, open_time, open, high, low, close, volume, turnover
    from kline.candles join kline.series using (series_id);
create table kline.coverage (
    series_id integer constraint coverage_series_id_fkey references kline.series (series_id),
    date date,
    window_start timestamptz not null, window_end timestamptz not null,
    state text not null constraint coverage_state_check
        check (state in ('pending', 'landed', 'quarantined', 'not_listed')),
    expected integer not null, present integer not null, missing integer not null,
    first_open_time timestamptz, last_open_time timestamptz,
    sha256 text, generation text,
    reasons jsonb not null default '[]'::jsonb,
    fetch_error text,
    postgres_generation text, postgres_sha256 text, parquet_generation text, parquet_sha256 text,
    updated_at timestamptz not null default now(),
    constraint coverage_pkey primary key (series_id, date)
);
create table kline.coverage_days (
    series_id integer constraint coverage_days_series_id_fkey references kline.series (series_id),
    day date, expected integer not null, present integer not null,
    constraint coverage_days_pkey primary key (series_id, day)
);
create table kline.candle_revisions (
    series_id integer constraint candle_revisions_series_id_fkey references kline.series (series_id),
    open_time timestamptz, old_batch text, new_batch text,
    kind text not null constraint candle_revisions_kind_check check (kind in ('changed', 'vanished')),
    old jsonb not null, new jsonb,
    found_at timestamptz not null default now(),
    constraint candle_revisions_pkey primary key (series_id, open_time, old_batch, new_batch)
);
create table kline.rate_budget (
    venue text constraint rate_budget_pkey primary key,
    next_at timestamptz not null, cool_down_until timestamptz, reason text
);
"""


def upgrade() -> None:
    """Create the tables; the schema is there already."""
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
