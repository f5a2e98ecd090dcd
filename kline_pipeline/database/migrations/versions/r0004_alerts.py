"""Alerts: how far Dagster's runs are read, what fails now, what was told of it, and to whom."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """create table kline.alert_cursor (
        id integer constraint alert_cursor_pkey primary key
            constraint alert_cursor_one_row_check check (id = 1),
        storage_id bigint
    )""",
    """create table kline.alert_episodes (
        asset text not null,
        partition text not null,
        check_name text not null,
        since timestamptz not null,
        run_id text not null,
        severity text not null constraint alert_episodes_severity_check check (severity in ('ERROR', 'WARN')),
        repair text not null,
        run_assets jsonb not null default '[]'::jsonb,
        constraint alert_episodes_pkey primary key (asset, partition, check_name)
    )""",
    """create table kline.alerts (
        sequence bigint generated always as identity constraint alerts_pkey primary key,
        alert_id text not null constraint alerts_alert_id_key unique,
        made_at timestamptz not null,
        severity text not null,
        title text not null,
        body text not null
    )""",
    # The target is a digest: its URL is a secret.
    """create table kline.alert_deliveries (
        alert_id text not null
            constraint alert_deliveries_alert_id_fkey references kline.alerts (alert_id) on delete cascade,
        target text not null,
        delivered_at timestamptz,
        attempts integer not null default 0,
        last_error text,
        constraint alert_deliveries_pkey primary key (alert_id, target)
    )""",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
