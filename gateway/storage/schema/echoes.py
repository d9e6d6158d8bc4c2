"""The table of which stored event speaks of what: it leads from a person to the events that name them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Index, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, Id, may, must, where_known

ECHOES: Final = Table(
    "echoes",
    METADATA,
    must("carrier_id", Id),
    may("notification_id", Id),
    may("delivery_id", Id),
    may("channel", Text),
    may("address", Text),
    PrimaryKeyConstraint("carrier_id"),
    Index("echoes_by_notification", "notification_id", **where_known("notification_id")),
    Index("echoes_by_delivery", "delivery_id", **where_known("delivery_id")),
    Index("echoes_by_address", "address", "channel", **where_known("address")),
    sqlite_with_rowid=False,
)
"""`carrier_id` is the notification that carries the event to an endpoint; the rest is what the event is about: a
notification, a delivery of it, or an address. The row goes with the carrier's contents, or with what they said."""
