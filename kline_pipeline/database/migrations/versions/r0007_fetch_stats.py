"""What processes have counted, for metrics: a row per living one, and one of all that have ended."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.execute("""
        create table kline.fetch_stats (
            source text not null,
            flushed_at timestamptz not null,
            counts jsonb not null,
            constraint fetch_stats_pkey primary key (source)
        )
    """)
