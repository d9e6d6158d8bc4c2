"""The inbox: what was put into whose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
_UNREAD = sa.text("read_at IS NULL AND archived_at IS NULL")
_COLLAPSES = sa.text("collapse_key IS NOT NULL")
_EXPIRES = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    """Add the two tables."""
    op.create_table(
        "inboxes",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "inbox_items",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("notification_id", _ID, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("collapse_key", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("body_text", sa.Text(), nullable=True),
        sa.Column("body_html", sa.Text(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.Column("read_at", sa.BigInteger(), nullable=True),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("inbox_by_number", "inbox_items", ["user_id", "number"], unique=True)
    op.create_index("inbox_by_version", "inbox_items", ["user_id", "version"])
    for name, columns, where in (
        ("inbox_unread", ["user_id", "number"], _UNREAD),
        ("inbox_collapsing", ["user_id", "collapse_key"], _COLLAPSES),
        ("inbox_expiring", ["expires_at"], _EXPIRES),
    ):
        op.create_index(name, "inbox_items", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Forget both."""
    op.drop_table("inbox_items")
    op.drop_table("inboxes")
