"""Digests and throttles: what is gathered into one message, and what has been counted already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Make the tables, and a mark on what waits that it was counted. An older process leaves it empty."""
    op.create_table(
        "digests",
        sa.Column("id", _ID, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("carrier_id", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("digests_by_key", "digests", ["key"], unique=True)
    op.create_index("digests_by_due", "digests", ["due_at"])
    op.create_table(
        "digest_items",
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("digest_id", _ID, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("digest_items_by_digest", "digest_items", ["digest_id", "delivery_id"])
    op.add_column("queue", sa.Column("counted", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("queue", "counted")
    op.drop_table("digest_items")
    op.drop_table("digests")
