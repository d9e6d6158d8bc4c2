"""The tables of what is gathered into one message."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Index, LargeBinary, PrimaryKeyConstraint, Table

from gateway.storage.schema.columns import METADATA, Id, may, must

DIGESTS: Final = Table(
    "digests",
    METADATA,
    must("id", Id),
    may("key", LargeBinary),
    must("opened_at", BigInteger),
    must("due_at", BigInteger),
    may("carrier_id", Id),
    PrimaryKeyConstraint("id"),
    Index("digests_by_key", "key", unique=True),
    Index("digests_by_due", "due_at"),
    sqlite_with_rowid=False,
)
"""One row for each digest that is not sent yet. `key` is a keyed hash of what is gathered together; it is taken away
when the digest is closed, so that only an open one is found and joined. `carrier_id` is the delivery that carries the
message since then."""

DIGEST_ITEMS: Final = Table(
    "digest_items",
    METADATA,
    must("delivery_id", Id),
    must("digest_id", Id),
    must("key", LargeBinary),
    PrimaryKeyConstraint("delivery_id"),
    Index("digest_items_by_digest", "digest_id", "delivery_id"),
    sqlite_with_rowid=False,
)
"""Which digest a delivery is part of; kept as long as the delivery, so that what failed as one is sent again as one."""
