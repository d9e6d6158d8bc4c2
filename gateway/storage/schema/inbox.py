"""The tables of the inbox: what was put into whose, and how far each has come."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Index, LargeBinary, PrimaryKeyConstraint, Table, Text, text

from gateway.storage.schema.columns import METADATA, Id, may, must, where_known

_UNREAD: Final = text("read_at IS NULL AND archived_at IS NULL")

INBOXES: Final = Table(
    "inboxes",
    METADATA,
    must("user_id", Text),
    must("version", BigInteger),
    PrimaryKeyConstraint("user_id"),
    sqlite_with_rowid=False,
)
"""One row per person, whose lock puts all changes of one inbox in a row. `version` counts them."""

INBOX_ITEMS: Final = Table(
    "inbox_items",
    METADATA,
    must("id", Id),
    must("user_id", Text),
    must("number", BigInteger),
    must("version", BigInteger),
    must("delivery_id", Id),
    must("notification_id", Id),
    must("project", Text),
    must("category", Text),
    may("collapse_key", Text),
    may("title", Text),
    may("body_text", Text),
    may("body_html", Text),
    must("data", LargeBinary),
    must("created_at", BigInteger),
    may("seen_at", BigInteger),
    may("read_at", BigInteger),
    may("archived_at", BigInteger),
    may("expires_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index("inbox_by_number", "user_id", "number", unique=True),
    Index("inbox_by_version", "user_id", "version"),
    Index("inbox_unread", "user_id", "number", sqlite_where=_UNREAD, postgresql_where=_UNREAD),
    Index("inbox_collapsing", "user_id", "collapse_key", **where_known("collapse_key")),
    Index("inbox_expiring", "expires_at", **where_known("expires_at")),
    sqlite_with_rowid=False,
)
"""`number` is the inbox's version when the item came, so that what comes later always has a higher one, whichever
process stores it; `version` is that of its last change."""
