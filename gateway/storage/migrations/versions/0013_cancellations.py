"""Cancelling in slices: what is being called back, and how far that has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Make the table. An older process that still runs cancels as a whole, and may send what is being called back."""
    op.create_table(
        "cancellations",
        sa.Column("notification_id", _ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("last_id", _ID, nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("busy", sa.Boolean(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("notification_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("cancellations_by_look", "cancellations", ["look_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("cancellations")
