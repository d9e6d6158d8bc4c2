"""The tables of people: who they are, where they are reached, and who must not be after they are gone."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Index, LargeBinary, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, Id, may, must

USERS: Final = Table(
    "users",
    METADATA,
    must("user_id", Text),
    may("name", Text),
    may("locale", Text),
    may("timezone", Text),
    must("attributes", LargeBinary),
    must("created_at", BigInteger),
    must("updated_at", BigInteger),
    may("chosen_at", BigInteger),
    may("quiet_start", BigInteger),
    may("quiet_end", BigInteger),
    may("quiet_timezone", Text),
    may("quiet_source", Text),
    may("quiet_at", BigInteger),
    PrimaryKeyConstraint("user_id"),
    Index("users_by_time", "created_at", "user_id"),
    sqlite_with_rowid=False,
)
"""One for all projects. `attributes` is JSON that the store never looks into. `chosen_at` is when the person last chose
anything (`preferences`, quiet hours): without it nobody looks further. Quiet hours are minutes after midnight."""

ADDRESSES: Final = Table(
    "addresses",
    METADATA,
    must("id", Id),
    must("user_id", Text),
    must("channel", Text),
    must("address", Text),
    must("key", Text),
    may("label", Text),
    must("profile", Boolean),
    must("created_at", BigInteger),
    may("retired_at", BigInteger),
    may("retired_reason", Text),
    PrimaryKeyConstraint("id"),
    Index("addresses_by_user", "user_id", "channel", "key", unique=True),
    Index("addresses_by_key", "channel", "key", "user_id"),
    sqlite_with_rowid=False,
)
"""Every address of every person. `key` is its form for matching, as in `suppressions`; `profile` marks the one that
the profile shows as `email` or `phone`. A retired one is kept, so that it is known why nothing goes there."""

FORGOTTEN: Final = Table(
    "forgotten_suppressions",
    METADATA,
    must("hash", LargeBinary),
    must("channel", Text),
    must("reason", Text),
    must("source", Text),
    must("created_at", BigInteger),
    PrimaryKeyConstraint("hash"),
    sqlite_with_rowid=False,
)
"""Suppressions of erased people: the address is a keyed hash, so that it is still never written to, and nobody can
read it here."""
