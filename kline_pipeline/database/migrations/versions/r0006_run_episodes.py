"""Which partitions of a failed run are still to be made: several runs may make them, one after the other.

An episode that was open before knows none: it is over with the next run that makes its assets.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.execute("alter table kline.alert_episodes add column run_left jsonb not null default '[]'::jsonb")
