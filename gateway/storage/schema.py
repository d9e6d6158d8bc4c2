"""The tables: one definition for both databases.

Owns names, types, keys and indexes, and why each index is there. Refuses to know any statement. What the hot path
updates is kept narrow and apart from what is wide: `queue` beside `deliveries`, `requests` beside `notifications`. On
PostgreSQL no index mentions a column that `deliveries` changes, so that every settlement stays a heap-only update.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine


class Id(TypeDecorator[UUID]):
    """A UUID: `uuid` on PostgreSQL, sixteen bytes on SQLite, where byte order is time order for version 7."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Turn a UUID into what the driver takes."""
        return value if value is None or dialect.name == "postgresql" else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """Turn what the driver gives into a UUID."""
        return value if value is None or dialect.name == "postgresql" else UUID(bytes=value)


METADATA: Final = MetaData()

_BUSY: Final = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 1000,
}
"""For tables whose rows change: room on each page for heap-only updates, and a vacuum that comes often."""


def _where_known(column: str) -> dict[str, Any]:
    """Leave rows without a value out of an index."""
    known = text(f"{column} IS NOT NULL")
    return {"sqlite_where": known, "postgresql_where": known}


def _must(name: str, type_: Any) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _may(name: str, type_: Any) -> Column[Any]:
    return Column(name, type_, nullable=True)


NOTIFICATIONS: Final = Table(
    "notifications",
    METADATA,
    _must("id", Id),
    _must("project", Text),
    _must("mode", Text),
    _must("category", Text),
    _must("priority", Text),
    _may("template_key", Text),
    _may("template_version", Text),
    _may("reference", Text),
    _must("tags", LargeBinary),
    _may("collapse_key", Text),
    _must("has_attachments", Boolean),
    _must("created_at", BigInteger),
    _may("send_at", BigInteger),
    _may("expires_at", BigInteger),
    _must("state", Text),
    _must("open_deliveries", Integer),
    _must("updated_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index(
        "notifications_by_reference",
        "reference",
        "id",
        **_where_known("reference"),
    ),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 85},
)
"""`state` is `open`, `completed` or `cancelled`; `scheduled` and `processing` are told apart by the clock when read.
`tags` is their JSON list, for showing; the table `tags` finds them."""

REQUESTS: Final = Table(
    "requests",
    METADATA,
    _must("notification_id", Id),
    _must("request", LargeBinary),
    PrimaryKeyConstraint("notification_id"),
)
"""The wide part of a notification, apart so that a settlement never rewrites it and retention simply deletes it."""

TAGS: Final = Table(
    "tags",
    METADATA,
    _must("tag", Text),
    _must("notification_id", Id),
    PrimaryKeyConstraint("tag", "notification_id"),
    Index("tags_by_notification", "notification_id"),
    sqlite_with_rowid=False,
)

ATTACHMENTS: Final = Table(
    "attachments",
    METADATA,
    _must("notification_id", Id),
    _must("position", Integer),
    _must("filename", Text),
    _must("content_type", Text),
    _may("content_id", Text),
    _must("content", LargeBinary),
    PrimaryKeyConstraint("notification_id", "position"),
)

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    _must("id", Id),
    _must("notification_id", Id),
    _must("project", Text),
    _must("category", Text),
    _must("channel", Text),
    _must("lane", Text),
    _must("position", Integer),
    _may("address", Text),
    _may("user_id", Text),
    _must("recipient", LargeBinary),
    _must("first_status", Text),
    _may("first_reason", Text),
    _may("first_detail", Text),
    _must("status", Text),
    _must("final", Boolean),
    _may("reason", Text),
    _may("detail", Text),
    _may("provider", Text),
    _may("provider_id", Text),
    _must("engagement", Text),
    _must("due_at", BigInteger),
    _must("deadline_at", BigInteger),
    _must("on_unknown", Text),
    _may("retry_of", Id),
    _must("created_at", BigInteger),
    _must("updated_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index("deliveries_by_notification", "notification_id", "position"),
    Index(
        "deliveries_by_user",
        "user_id",
        "notification_id",
        **_where_known("user_id"),
    ),
    Index(
        "deliveries_by_address",
        "address",
        "notification_id",
        **_where_known("address"),
    ),
    Index("deliveries_by_retry_of", "retry_of", **_where_known("retry_of")),
    sqlite_with_rowid=False,
    postgresql_with=_BUSY,
)
"""`first_*` is how it was planned: its first event is derived from them and never stored. `engagement` is a
comma-separated set."""

QUEUE: Final = Table(
    "queue",
    METADATA,
    _must("delivery_id", Id),
    _must("lane", Text),
    _must("due_at", BigInteger),
    _must("deadline_at", BigInteger),
    _may("leased_by", Text),
    _must("token", BigInteger),
    _must("attempts", Integer),
    _must("losses", Integer),
    _must("granted", Boolean),
    _must("unsure", Boolean),
    PrimaryKeyConstraint("delivery_id"),
    Index("queue_by_due", "lane", "due_at", "delivery_id"),
    Index("queue_by_deadline", "deadline_at"),
    sqlite_with_rowid=False,
    postgresql_with=_BUSY,
)
"""What waits or is in a worker's hands. A claim moves `due_at` to the end of its lease, so a lease that ran out is
simply due again, and one that is due with `leased_by` set was lost. `token` counts claims and fences settlements."""

ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    _must("delivery_id", Id),
    _must("number", Integer),
    _must("provider", Text),
    _must("started_at", BigInteger),
    _must("took_ms", BigInteger),
    _must("outcome", Text),
    _may("reason", Text),
    _may("detail", Text),
    _may("provider_id", Text),
    PrimaryKeyConstraint("delivery_id", "number"),
    Index(
        "attempts_by_provider_id",
        "provider_id",
        "provider",
        **_where_known("provider_id"),
    ),
    sqlite_with_rowid=False,
)

EVENTS: Final = Table(
    "events",
    METADATA,
    _must("notification_id", Id),
    _must("id", Id),
    _may("delivery_id", Id),
    _must("type", Text),
    _must("at", BigInteger),
    _must("status", Text),
    _may("reason", Text),
    _may("detail", Text),
    PrimaryKeyConstraint("notification_id", "id"),
    sqlite_with_rowid=False,
)

AWAITING: Final = Table(
    "awaiting_receipt",
    METADATA,
    _must("delivery_id", Id),
    _must("since", BigInteger),
    PrimaryKeyConstraint("delivery_id"),
    Index("awaiting_receipt_by_since", "since"),
    sqlite_with_rowid=False,
)
"""Deliveries that are `sent` and not final."""

STATUS_CHANGES: Final = Table(
    "status_changes",
    METADATA,
    _must("provider", Text),
    _must("told_by", Text),
    _must("type", Text),
    _must("id", Id),
    _may("provider_id", Text),
    _may("delivery_id", Id),
    _may("reason", Text),
    _may("detail", Text),
    _must("at", BigInteger),
    _must("due_at", BigInteger),
    _must("look_at", BigInteger),
    _must("received_at", BigInteger),
    PrimaryKeyConstraint("provider", "told_by", "type"),
    Index(
        "status_changes_by_delivery",
        "delivery_id",
        **_where_known("delivery_id"),
    ),
    Index("status_changes_by_look", "look_at"),
    Index("status_changes_by_received", "received_at"),
    sqlite_with_rowid=False,
)
"""Provider events that are not due yet or whose delivery is not settled yet. `told_by` is the provider's id, or
`delivery:` and ours; with `type` it makes a repeat one row. `look_at` is when upkeep looks for its delivery again."""

CAPTURED: Final = Table(
    "captured",
    METADATA,
    _must("id", Id),
    _must("delivery_id", Id),
    _must("notification_id", Id),
    _must("project", Text),
    _must("channel", Text),
    _must("to_address", Text),
    _must("original_to", Text),
    _may("subject", Text),
    _may("text", Text),
    _may("html", Text),
    _must("data", LargeBinary),
    _must("headers", LargeBinary),
    _must("attachments", LargeBinary),
    _must("raw", LargeBinary),
    _may("reference", Text),
    _must("created_at", BigInteger),
    _must("searched", Text),
    PrimaryKeyConstraint("id"),
    Index("captured_by_address", "to_address", "id"),
    Index("captured_by_notification", "notification_id"),
)
"""`searched` is the case-folded subject and text, since SQLite folds ASCII only."""

IDEMPOTENCY: Final = Table(
    "idempotency",
    METADATA,
    _must("key_id", Id),
    _must("key", Text),
    _must("body_hash", LargeBinary),
    _must("answer", LargeBinary),
    _must("expires_at", BigInteger),
    PrimaryKeyConstraint("key_id", "key"),
    Index("idempotency_by_expiry", "expires_at"),
)

PACING: Final = Table(
    "pacing",
    METADATA,
    _must("key", Text),
    _must("grants", LargeBinary),
    _must("until", BigInteger),
    PrimaryKeyConstraint("key"),
    sqlite_with_rowid=False,
    postgresql_with=_BUSY,
)
"""The most recent granted moments of each rate, as little-endian 64-bit integers, oldest first. Nothing before
`until` may be forgotten."""

OPT_OUTS: Final = Table(
    "opt_outs",
    METADATA,
    _must("channel", Text),
    _must("address", Text),
    _must("category", Text),
    _must("source", Text),
    _must("created_at", BigInteger),
    PrimaryKeyConstraint("channel", "address", "category"),
    sqlite_with_rowid=False,
)

SUPPRESSIONS: Final = Table(
    "suppressions",
    METADATA,
    _must("channel", Text),
    _must("address", Text),
    _must("reason", Text),
    _must("source", Text),
    _may("detail", Text),
    _must("created_at", BigInteger),
    PrimaryKeyConstraint("channel", "address"),
    Index("suppressions_by_time", "created_at", "channel", "address"),
    sqlite_with_rowid=False,
)

COUNTS: Final = Table(
    "counts",
    METADATA,
    _must("hour", BigInteger),
    _must("shard", Integer),
    _must("project", Text),
    _must("channel", Text),
    _must("provider", Text),
    _must("status", Text),
    _must("reason", Text),
    _must("count", BigInteger),
    PrimaryKeyConstraint("hour", "shard", "project", "channel", "provider", "status", "reason"),
    sqlite_with_rowid=False,
    postgresql_with=_BUSY,
)
"""Deliveries that entered a status, by hour (Unix ms of its start). Shards keep concurrent PostgreSQL transactions
from queueing for one row until each other's commit; a reader adds them up. Empty text stands for none."""

KEYS: Final = Table(
    "api_keys",
    METADATA,
    _must("id", Id),
    _must("name", Text),
    _must("project", Text),
    _must("mode", Text),
    _must("scopes", Text),
    _must("hash", LargeBinary),
    _must("hint", Text),
    _may("rate", Text),
    _must("created_at", BigInteger),
    _may("expires_at", BigInteger),
    _may("revoked_at", BigInteger),
    _may("last_used_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index("api_keys_by_hash", "hash", unique=True),
)

TEMPLATES: Final = Table(
    "template_versions",
    METADATA,
    _must("version", Text),
    _must("key", Text),
    _must("source", LargeBinary),
    _must("created_at", BigInteger),
    PrimaryKeyConstraint("version"),
)
