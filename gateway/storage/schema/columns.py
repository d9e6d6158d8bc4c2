"""What every table is made of: the id type, the metadata they all belong to, how a column is written."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Dialect, LargeBinary, MetaData, TypeDecorator, text
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

BUSY: Final = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 1000,
}
"""For tables whose rows change: room on each page for heap-only updates, and a vacuum that comes often."""


def where_known(column: str) -> dict[str, Any]:
    """Leave rows without a value out of an index."""
    known = text(f"{column} IS NOT NULL")
    return {"sqlite_where": known, "postgresql_where": known}


def must(name: str, type_: Any) -> Column[Any]:
    """Make a column that always has a value."""
    return Column(name, type_, nullable=False)


def may(name: str, type_: Any) -> Column[Any]:
    """Make a column that may be empty."""
    return Column(name, type_, nullable=True)
