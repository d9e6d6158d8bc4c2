"""Channels in turn and collapsing: a delivery's step, what waits for its turn, and which message is the newest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Add what chains and collapsing need; deliveries of before take part in neither."""
    op.add_column("deliveries", sa.Column("step", sa.Integer(), nullable=True))
    op.add_column("deliveries", sa.Column("strategy", sa.Text(), nullable=True))
    op.create_table(
        "turns",
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("budget_ms", sa.BigInteger(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("turns_by_look", "turns", ["look_at"])
    op.create_table(
        "collapsing",
        sa.Column("place", sa.LargeBinary(), nullable=False),
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("replaced_id", _ID, nullable=True),
        sa.Column("shown_by", sa.Text(), nullable=True),
        sa.Column("shown_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("place"),
        sqlite_with_rowid=False,
    )
    op.create_index("collapsing_by_delivery", "collapsing", ["delivery_id"])


def downgrade() -> None:
    """Forget both."""
    op.drop_table("collapsing")
    op.drop_table("turns")
    op.drop_column("deliveries", "strategy")
    op.drop_column("deliveries", "step")
