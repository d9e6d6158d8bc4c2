"""The table of choices: what people want to get, and where."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, must

PREFERENCES: Final = Table(
    "preferences",
    METADATA,
    must("user_id", Text),
    must("category", Text),
    must("channel", Text),
    must("allowed", Boolean),
    must("source", Text),
    must("updated_at", BigInteger),
    PrimaryKeyConstraint("user_id", "category", "channel"),
    sqlite_with_rowid=False,
)
"""A row for each choice; an empty `category` or `channel` speaks of all. `users.chosen_at` says whether a person has
any, so that a send to people who chose nothing does not look here."""
