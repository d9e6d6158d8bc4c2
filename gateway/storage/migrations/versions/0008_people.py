"""People: users, their addresses, and what must outlive an erasure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Make the tables; note on deliveries which stored address they go to, and on answers what they are about.

    Both columns may be empty: an older process that still runs leaves them so.
    """
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=True),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("users_by_time", "users", ["created_at", "user_id"])
    op.create_table(
        "addresses",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("profile", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("retired_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("addresses_by_user", "addresses", ["user_id", "channel", "key"], unique=True)
    op.create_index("addresses_by_key", "addresses", ["channel", "key", "user_id"])
    op.create_table(
        "forgotten_suppressions",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sqlite_with_rowid=False,
    )
    op.add_column("deliveries", sa.Column("address_id", _ID, nullable=True))
    op.add_column("idempotency", sa.Column("notification_id", _ID, nullable=True))
    op.create_index(
        "idempotency_by_notification",
        "idempotency",
        ["notification_id"],
        sqlite_where=sa.text("notification_id IS NOT NULL"),
        postgresql_where=sa.text("notification_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("idempotency_by_notification", "idempotency")
    op.drop_column("idempotency", "notification_id")
    op.drop_column("deliveries", "address_id")
    for table in ("forgotten_suppressions", "addresses", "users"):
        op.drop_table(table)
