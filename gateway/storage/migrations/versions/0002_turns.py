"""Channels in turn: a delivery's step in its chain, and what waits for its turn."""

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
    """Add what chains need; deliveries of before are in none."""
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


def downgrade() -> None:
    """Forget the chains."""
    op.drop_table("turns")
    op.drop_column("deliveries", "strategy")
    op.drop_column("deliveries", "step")
