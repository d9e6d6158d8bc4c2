"""The table of what is being called back: from the request to cancel until nothing of it waits any more."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Index, Integer, PrimaryKeyConstraint, Table

from gateway.storage.schema.columns import METADATA, Id, must

CANCELLATIONS: Final = Table(
    "cancellations",
    METADATA,
    must("notification_id", Id),
    must("at", BigInteger),
    must("position", Integer),
    must("last_id", Id),
    must("sent", Boolean),
    must("busy", Boolean),
    must("look_at", BigInteger),
    PrimaryKeyConstraint("notification_id"),
    Index("cancellations_by_look", "look_at"),
    sqlite_with_rowid=False,
)
"""While a row is here nothing of its notification is handed to a worker. `position` and `last_id` are the delivery up
to which it has been walked through, `sent` and `busy` whether something was met on the way that went out, or that was
in a worker's hands. `look_at` is when upkeep goes on with it: whoever cancels keeps moving it into the future."""
