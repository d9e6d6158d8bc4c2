"""What people tell providers: STOP and START by sender, subscriptions by category; and whom a report is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STOPPED = sa.text("stopped AND scope = 'sender'")


def upgrade() -> None:
    """Make the table of wishes, and let kept reports name an address and a sender."""
    op.create_table(
        "wishes",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("heard", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "address", "scope", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "wishes_by_time",
        "wishes",
        ["at", "channel", "address", "name"],
        sqlite_where=_STOPPED,
        postgresql_where=_STOPPED,
    )
    op.add_column("status_changes", sa.Column("address", sa.Text(), nullable=True))
    op.add_column("status_changes", sa.Column("sender", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("status_changes", "sender")
    op.drop_column("status_changes", "address")
    op.drop_table("wishes")
