"""The tables about providers: an operator's word, and how each process finds them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, may, must

PROVIDER_SWITCHES: Final = Table(
    "provider_switches",
    METADATA,
    must("provider", Text),
    may("paused_at", BigInteger),
    may("paused_by", Text),
    may("resumed_at", BigInteger),
    PrimaryKeyConstraint("provider"),
    sqlite_with_rowid=False,
)
"""A row for each provider that was ever paused or resumed. Read by every process each second: it stays tiny."""

PROVIDER_REPORTS: Final = Table(
    "provider_reports",
    METADATA,
    must("worker", Text),
    must("provider", Text),
    must("breaker", Text),
    may("until", BigInteger),
    may("detail", Text),
    must("in_use", Integer),
    must("places", Integer),
    may("last_outcome", Text),
    may("last_reason", Text),
    may("last_at", BigInteger),
    must("seen_at", BigInteger),
    PrimaryKeyConstraint("worker", "provider"),
    sqlite_with_rowid=False,
)
"""One row for each process that delivers and each provider: what the API shows of breakers it does not hold itself."""
