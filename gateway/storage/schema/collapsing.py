"""The table of which message is the newest where a newer one replaces an older one."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Index, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, Id, may, must

COLLAPSING: Final = Table(
    "collapsing",
    METADATA,
    must("place", LargeBinary),
    must("delivery_id", Id),
    may("replaced_id", Id),
    may("shown_by", Text),
    may("shown_id", Text),
    PrimaryKeyConstraint("place"),
    Index("collapsing_by_delivery", "delivery_id"),
    sqlite_with_rowid=False,
)
"""One row for each place (`gateway.model.collapsing`), however many messages went there. `delivery_id` is the newest
and `replaced_id` the one before it, so that an upsert can answer what it replaced. `shown_by` and `shown_id` are the
provider and its id of the message that stands there now, where the provider can replace it."""
