"""The table of what waits for its turn behind another delivery."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Index, PrimaryKeyConstraint, Table

from gateway.storage.schema.columns import METADATA, Id, must

TURNS: Final = Table(
    "turns",
    METADATA,
    must("delivery_id", Id),
    must("budget_ms", BigInteger),
    must("look_at", BigInteger),
    PrimaryKeyConstraint("delivery_id"),
    Index("turns_by_look", "look_at"),
    sqlite_with_rowid=False,
)
"""Deliveries that were held for their turn (`deliveries.step`). `budget_ms` is how long one may be tried once it has
come. `look_at` is when upkeep looks whether the turn came unnoticed: another version of the gateway may have settled
the step before. A row whose delivery waits no longer is dropped at that look."""
