"""Money set aside, by channel and day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; older code does not look at it."""
    op.create_table(
        "spending",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "day"),
        sqlite_with_rowid=False,
        postgresql_with={
            "fillfactor": 70,
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_vacuum_threshold": 1000,
        },
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("spending")
