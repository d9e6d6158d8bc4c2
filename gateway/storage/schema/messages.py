"""The tables of the main way: notifications, deliveries, the queue, the ledger, keys and templates."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import BUSY, METADATA, Id, may, must, where_known

_HALF: Final = 50
"""Per cent of a page that is filled at first, where every row is updated once and all of a page at about the same time:
room for a second version of each. Measured (`tests.bench.pressure`): at 70 two thirds of these updates left their page
and wrote to every index. What it costs in disk stands in `deploy/OPERATING.md`."""

NOTIFICATIONS: Final = Table(
    "notifications",
    METADATA,
    must("id", Id),
    must("project", Text),
    must("mode", Text),
    must("category", Text),
    must("priority", Text),
    may("template_key", Text),
    may("template_version", Text),
    may("reference", Text),
    must("tags", LargeBinary),
    may("collapse_key", Text),
    must("has_attachments", Boolean),
    must("created_at", BigInteger),
    may("send_at", BigInteger),
    may("expires_at", BigInteger),
    must("state", Text),
    must("open_deliveries", Integer),
    must("updated_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index(
        "notifications_by_reference",
        "reference",
        "id",
        **where_known("reference"),
    ),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": _HALF},
)
"""`state` is `open`, `completed` or `cancelled`; `scheduled` and `processing` are told apart by the clock when read.
`tags` is their JSON list, for showing; the table `tags` finds them."""

REQUESTS: Final = Table(
    "requests",
    METADATA,
    must("notification_id", Id),
    must("request", LargeBinary),
    PrimaryKeyConstraint("notification_id"),
)
"""The wide part of a notification, apart so that a settlement never rewrites it and retention simply deletes it."""

TAGS: Final = Table(
    "tags",
    METADATA,
    must("tag", Text),
    must("notification_id", Id),
    PrimaryKeyConstraint("tag", "notification_id"),
    Index("tags_by_notification", "notification_id"),
    sqlite_with_rowid=False,
)

ATTACHMENTS: Final = Table(
    "attachments",
    METADATA,
    must("notification_id", Id),
    must("position", Integer),
    must("filename", Text),
    must("content_type", Text),
    may("content_id", Text),
    must("content", LargeBinary),
    PrimaryKeyConstraint("notification_id", "position"),
)

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    must("id", Id),
    must("notification_id", Id),
    must("project", Text),
    must("category", Text),
    must("channel", Text),
    must("lane", Text),
    must("position", Integer),
    may("address", Text),
    may("user_id", Text),
    must("recipient", LargeBinary),
    must("first_status", Text),
    may("first_reason", Text),
    may("first_detail", Text),
    must("status", Text),
    must("final", Boolean),
    may("reason", Text),
    may("detail", Text),
    may("provider", Text),
    may("provider_id", Text),
    must("engagement", Text),
    must("due_at", BigInteger),
    must("deadline_at", BigInteger),
    must("on_unknown", Text),
    may("retry_of", Id),
    must("created_at", BigInteger),
    must("updated_at", BigInteger),
    may("step", Integer),
    may("strategy", Text),
    may("address_id", Id),
    PrimaryKeyConstraint("id"),
    Index("deliveries_by_notification", "notification_id", "position"),
    Index(
        "deliveries_by_user",
        "user_id",
        "notification_id",
        **where_known("user_id"),
    ),
    Index(
        "deliveries_by_address",
        "address",
        "notification_id",
        **where_known("address"),
    ),
    Index("deliveries_by_retry_of", "retry_of", **where_known("retry_of")),
    sqlite_with_rowid=False,
    postgresql_with=BUSY | {"fillfactor": _HALF},
)
"""`first_*` is how it was planned: its first event is derived from them and never stored. `engagement` is a
comma-separated set. `step` and `strategy` are set where several channels go in turn: the deliveries of one notification
and `position` are then a chain (`gateway.model.turns`). `address_id` names the stored address it goes to; an address
given on the spot has none, whoever its `user_id` says it is for."""

QUEUE: Final = Table(
    "queue",
    METADATA,
    must("delivery_id", Id),
    must("lane", Text),
    must("due_at", BigInteger),
    must("deadline_at", BigInteger),
    may("leased_by", Text),
    must("token", BigInteger),
    must("attempts", Integer),
    must("losses", Integer),
    must("granted", Boolean),
    must("unsure", Boolean),
    may("counted", Boolean),
    PrimaryKeyConstraint("delivery_id"),
    Index("queue_by_due", "lane", "due_at", "delivery_id"),
    Index("queue_by_deadline", "deadline_at"),
    sqlite_with_rowid=False,
    postgresql_with=BUSY,
)
"""What waits or is in a worker's hands. A claim moves `due_at` to the end of its lease, so a lease that ran out is
simply due again, and one that is due with `leased_by` set was lost. `token` counts claims and fences settlements.
`counted`: its category's throttle has counted it."""

ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    must("delivery_id", Id),
    must("number", Integer),
    must("provider", Text),
    must("started_at", BigInteger),
    must("took_ms", BigInteger),
    must("outcome", Text),
    may("reason", Text),
    may("detail", Text),
    may("provider_id", Text),
    PrimaryKeyConstraint("delivery_id", "number"),
    Index(
        "attempts_by_provider_id",
        "provider_id",
        "provider",
        **where_known("provider_id"),
    ),
    sqlite_with_rowid=False,
)

EVENTS: Final = Table(
    "events",
    METADATA,
    must("notification_id", Id),
    must("id", Id),
    may("delivery_id", Id),
    must("type", Text),
    must("at", BigInteger),
    must("status", Text),
    may("reason", Text),
    may("detail", Text),
    PrimaryKeyConstraint("notification_id", "id"),
    sqlite_with_rowid=False,
)

AWAITING: Final = Table(
    "awaiting_receipt",
    METADATA,
    must("delivery_id", Id),
    must("since", BigInteger),
    PrimaryKeyConstraint("delivery_id"),
    Index("awaiting_receipt_by_since", "since"),
    sqlite_with_rowid=False,
)
"""Deliveries that are `sent` and not final."""

STATUS_CHANGES: Final = Table(
    "status_changes",
    METADATA,
    must("provider", Text),
    must("told_by", Text),
    must("type", Text),
    must("id", Id),
    may("provider_id", Text),
    may("delivery_id", Id),
    may("reason", Text),
    may("detail", Text),
    must("at", BigInteger),
    must("due_at", BigInteger),
    must("look_at", BigInteger),
    must("received_at", BigInteger),
    may("address", Text),
    may("sender", Text),
    PrimaryKeyConstraint("provider", "told_by", "type"),
    Index(
        "status_changes_by_delivery",
        "delivery_id",
        **where_known("delivery_id"),
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
    must("id", Id),
    must("delivery_id", Id),
    must("notification_id", Id),
    must("project", Text),
    must("channel", Text),
    must("to_address", Text),
    must("original_to", Text),
    may("subject", Text),
    may("text", Text),
    may("html", Text),
    must("data", LargeBinary),
    must("headers", LargeBinary),
    must("attachments", LargeBinary),
    must("raw", LargeBinary),
    may("reference", Text),
    must("created_at", BigInteger),
    must("searched", Text),
    PrimaryKeyConstraint("id"),
    Index("captured_by_address", "to_address", "id"),
    Index("captured_by_notification", "notification_id"),
)
"""`searched` is the case-folded subject and text, since SQLite folds ASCII only."""

IDEMPOTENCY: Final = Table(
    "idempotency",
    METADATA,
    must("key_id", Id),
    must("key", Text),
    must("body_hash", LargeBinary),
    must("answer", LargeBinary),
    must("expires_at", BigInteger),
    may("notification_id", Id),
    PrimaryKeyConstraint("key_id", "key"),
    Index("idempotency_by_expiry", "expires_at"),
    Index("idempotency_by_notification", "notification_id", **where_known("notification_id")),
)
"""`notification_id` leads from a person to the answers that name them."""

PACING: Final = Table(
    "pacing",
    METADATA,
    must("key", Text),
    must("grants", LargeBinary),
    must("until", BigInteger),
    PrimaryKeyConstraint("key"),
    sqlite_with_rowid=False,
    postgresql_with=BUSY,
)
"""The most recent granted moments of each rate, as little-endian 64-bit integers, oldest first. Nothing before
`until` may be forgotten."""

OPT_OUTS: Final = Table(
    "opt_outs",
    METADATA,
    must("channel", Text),
    must("address", Text),
    must("category", Text),
    must("source", Text),
    must("created_at", BigInteger),
    PrimaryKeyConstraint("channel", "address", "category"),
    sqlite_with_rowid=False,
)

SUPPRESSIONS: Final = Table(
    "suppressions",
    METADATA,
    must("channel", Text),
    must("address", Text),
    must("reason", Text),
    must("source", Text),
    may("detail", Text),
    must("created_at", BigInteger),
    PrimaryKeyConstraint("channel", "address"),
    Index("suppressions_by_time", "created_at", "channel", "address"),
    sqlite_with_rowid=False,
)

COUNTS: Final = Table(
    "counts",
    METADATA,
    must("hour", BigInteger),
    must("shard", Integer),
    must("project", Text),
    must("channel", Text),
    must("provider", Text),
    must("status", Text),
    must("reason", Text),
    must("count", BigInteger),
    PrimaryKeyConstraint("hour", "shard", "project", "channel", "provider", "status", "reason"),
    sqlite_with_rowid=False,
    postgresql_with=BUSY,
)
"""Deliveries that entered a status, by hour (Unix ms of its start). Shards keep concurrent PostgreSQL transactions
from queueing for one row until each other's commit; a reader adds them up. Empty text stands for none."""

KEYS: Final = Table(
    "api_keys",
    METADATA,
    must("id", Id),
    must("name", Text),
    must("project", Text),
    must("mode", Text),
    must("scopes", Text),
    must("hash", LargeBinary),
    must("hint", Text),
    may("rate", Text),
    must("created_at", BigInteger),
    may("expires_at", BigInteger),
    may("revoked_at", BigInteger),
    may("last_used_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index("api_keys_by_hash", "hash", unique=True),
)

TEMPLATES: Final = Table(
    "template_versions",
    METADATA,
    must("version", Text),
    must("key", Text),
    must("source", LargeBinary),
    must("created_at", BigInteger),
    PrimaryKeyConstraint("version"),
)
