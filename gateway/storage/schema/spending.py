"""The table of money set aside."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import BUSY, METADATA, must

SPENDING: Final = Table(
    "spending",
    METADATA,
    must("channel", Text),
    must("day", BigInteger),
    must("amount", BigInteger),
    PrimaryKeyConstraint("channel", "day"),
    sqlite_with_rowid=False,
    postgresql_with=BUSY,
)
"""One row for each channel and day, in millionths of the operator's currency. The key serves every statement."""
