"""The tables of our events to services: endpoints, and events on their way to becoming deliveries."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, Id, may, must

WEBHOOKS: Final = Table(
    "webhooks",
    METADATA,
    must("id", Id),
    must("project", Text),
    must("url", Text),
    must("events", Text),
    must("secrets", LargeBinary),
    must("enabled", Boolean),
    may("disabled_reason", Text),
    may("disabled_at", BigInteger),
    must("failures", Integer),
    may("first_failure_at", BigInteger),
    may("last_failure_at", BigInteger),
    may("last_success_at", BigInteger),
    may("replay_since", BigInteger),
    may("replay_until", BigInteger),
    may("replay_after", Id),
    must("created_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index("webhooks_by_project", "project"),
    sqlite_with_rowid=False,
)
"""`events` is a comma-separated list of patterns with a comma at either end, so that one `LIKE` finds a whole word.
`secrets` is sealed: the store cannot read it. `replay_*` is a replay under way and how far it came."""

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    must("id", Id),
    must("webhook_id", Id),
    must("type", Text),
    must("at", BigInteger),
    may("notification_id", Id),
    may("delivery_id", Id),
    may("status", Text),
    may("reason", Text),
    may("detail", Text),
    may("about", LargeBinary),
    must("replayed", Boolean),
    PrimaryKeyConstraint("id", "webhook_id"),
    sqlite_with_rowid=False,
)
"""Events that an endpoint asked for and that are no delivery yet: written in the transaction of the change, taken out
in the one that makes the delivery. `about` is the JSON of what is no delivery's (a suppression)."""
