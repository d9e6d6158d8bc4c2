"""The tables of topics: who subscribed to what, and sends to topics that are still being planned."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import BUSY, METADATA, Id, may, must

SUBSCRIPTIONS: Final = Table(
    "subscriptions",
    METADATA,
    must("topic", Text),
    must("user_id", Text),
    must("created_at", BigInteger),
    PrimaryKeyConstraint("topic", "user_id"),
    Index("subscriptions_by_user", "user_id", "topic"),
    sqlite_with_rowid=False,
)
"""One for all projects. A topic is there because somebody subscribed to it; it has no row of its own. The key is also
the order in which a send to a topic walks its subscribers."""

EXPANSIONS: Final = Table(
    "expansions",
    METADATA,
    must("notification_id", Id),
    must("topics", LargeBinary),
    must("place", Integer),
    must("last_user", Text),
    must("position", Integer),
    must("rank", Integer),
    must("due_at", BigInteger),
    may("leased_by", Text),
    must("token", BigInteger),
    PrimaryKeyConstraint("notification_id"),
    Index("expansions_by_due", "due_at"),
    sqlite_with_rowid=False,
    postgresql_with=BUSY,
)
"""Sends to topics whose subscribers are not all planned yet; the row goes with the last of them. `topics` is the JSON
list of (place in `to`, topic), `place` counts through it, and everybody up to `last_user` of that topic is planned.
`position` is the next recipient's. Leased, due and fenced as rows of `queue` are. While it is there it counts as one
open delivery of its notification, so that nobody takes that for completed."""
