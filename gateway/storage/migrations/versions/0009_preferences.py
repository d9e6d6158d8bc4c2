"""Preferences: choices of people, and their quiet hours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NEW: tuple[tuple[str, type[sa.BigInteger | sa.Text]], ...] = (
    ("chosen_at", sa.BigInteger),
    ("quiet_start", sa.BigInteger),
    ("quiet_end", sa.BigInteger),
    ("quiet_timezone", sa.Text),
    ("quiet_source", sa.Text),
    ("quiet_at", sa.BigInteger),
)


def upgrade() -> None:
    """Make the table; note on users whether they chose anything. An older process leaves the new columns alone."""
    op.create_table(
        "preferences",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "category", "channel"),
        sqlite_with_rowid=False,
    )
    for name, type_ in _NEW:
        op.add_column("users", sa.Column(name, type_(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for name, _ in reversed(_NEW):
        op.drop_column("users", name)
    op.drop_table("preferences")
