"""The table of wishes: what people last told a provider about its messages."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Index, PrimaryKeyConstraint, Table, Text, text

from gateway.storage.schema.columns import METADATA, may, must

_STOPPED: Final = text("stopped AND scope = 'sender'")

WISHES: Final = Table(
    "wishes",
    METADATA,
    must("channel", Text),
    must("address", Text),
    must("scope", Text),
    must("name", Text),
    must("stopped", Boolean),
    must("source", Text),
    may("detail", Text),
    must("heard", Text),
    must("at", BigInteger),
    PrimaryKeyConstraint("channel", "address", "scope", "name"),
    Index(
        "wishes_by_time",
        "at",
        "channel",
        "address",
        "name",
        sqlite_where=_STOPPED,
        postgresql_where=_STOPPED,
    ),
    sqlite_with_rowid=False,
)
"""The last word of an address about one sender or one category (`scope`, `name`): no more, or again. A word that was
taken back stays as a row, so that an older one that comes late, or comes again (`heard`: the ids of the last few), is
known for what it is. The index is for listing who stopped which sender."""
