"""Partitions are finished or not, raw batches are pruned, gaps become known, and offenders are let in by a person."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = """
alter table kline.coverage
    add column read_whole boolean not null default false,
    add column closes_at timestamptz,
    add column prune_epoch integer not null default 0,
    add column known_missing integer not null default 0,
    add column ask_again_at timestamptz,
    add column read_after timestamptz
"""
_KNOWN_GAPS = """
create table kline.known_gaps (
    series_id integer constraint known_gaps_series_id_fkey references kline.series (series_id),
    open_time timestamptz,
    confirmed_at timestamptz,
    evidence jsonb not null,
    closed_at timestamptz,
    constraint known_gaps_pkey primary key (series_id, open_time)
)
"""
_ACCEPTED = """
create table kline.accepted (
    accepted_id integer generated always as identity constraint accepted_pkey primary key,
    series_id integer not null constraint accepted_series_id_fkey references kline.series (series_id),
    window_start timestamptz not null, window_end timestamptz not null,
    keep text constraint accepted_keep_check check (keep in ('first', 'last')),
    reason text not null,
    accepted_at timestamptz not null,
    evidence jsonb not null
)
"""


def upgrade() -> None:
    """Add them; partitions that are there count as unfinished until they are derived again."""
    for statement in (_COLUMNS, _KNOWN_GAPS, _ACCEPTED):
        op.execute(statement)
