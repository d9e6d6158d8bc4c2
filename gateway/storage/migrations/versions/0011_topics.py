"""Topics: who subscribed to what, and sends to topics that are still being planned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Make the tables. An older process that still runs refuses sends to topics and leaves both alone."""
    op.create_table(
        "subscriptions",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("subscriptions_by_user", "subscriptions", ["user_id", "topic"])
    op.create_table(
        "expansions",
        sa.Column("notification_id", _ID, nullable=False),
        sa.Column("topics", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("last_user", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("notification_id"),
        sqlite_with_rowid=False,
        postgresql_with={
            "fillfactor": 70,
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_vacuum_threshold": 1000,
        },
    )
    op.create_index("expansions_by_due", "expansions", ["due_at"])


def downgrade() -> None:
    """Drop them."""
    for table in ("expansions", "subscriptions"):
        op.drop_table(table)
