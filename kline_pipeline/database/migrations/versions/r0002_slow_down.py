"""The request budget can be slowed down by refusals and by late answers, and reserves the instants of its grants."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; a row that is there goes on at the full pace."""
    op.execute(
        "alter table kline.rate_budget add column slow_share double precision not null default 1, "
        "add column slow_at timestamptz, add column slow_before_at timestamptz, "
        "add column slot_at timestamptz, "
        "add column lag_s double precision not null default 0, add column lag_until timestamptz"
    )
