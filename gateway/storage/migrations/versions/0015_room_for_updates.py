"""Room on each page for the one update that every notification and delivery sees."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_BEFORE = {"notifications": 85, "deliveries": 70}


def upgrade() -> None:
    """Leave half of each new page free; pages that are full already stay as they are."""
    _fill({"notifications": 50, "deliveries": 50})


def downgrade() -> None:
    """Fill pages as before."""
    _fill(_BEFORE)


def _fill(factors: dict[str, int]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, factor in factors.items():
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {factor})")
