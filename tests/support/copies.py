"""A filled database from a few real rows: copies with ids, times and names of their own.

Owns the statements, for both databases, and who runs them. A copy is younger than its original by a whole number of
steps, in its ids as in its times, so that keys grow as they do in life. Knows no table but for which columns name
people, places and messages; indexes are taken away before and made anew after, which is several times as quick.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import asyncpg
import msgspec
from sqlalchemy import Column, Dialect, LargeBinary, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, DropIndex

from gateway.storage.reading import first_id_of
from gateway.storage.schema import METADATA
from gateway.storage.schema.columns import Id

_TIMES: Final = frozenset(
    {
        *("at", "created_at", "deadline_at", "due_at", "look_at", "opened_at", "received_at", "since", "started_at"),
        *("until", "updated_at"),
    }
)
_NAMES: Final = frozenset(
    {
        "address",
        "collapse_key",
        "key",
        "original_to",
        "provider_id",
        "reference",
        "tag",
        "to_address",
        "told_by",
        "user_id",
    }
)
"""What tells one message or person from another."""

_CACHE_KIB: Final = 512 * 1024

_YOUNGER: Final = """
CREATE OR REPLACE FUNCTION pg_temp.younger(id uuid, by_ms bigint) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (
        lpad(to_hex(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint + by_ms), 12, '0')
        || substr(replace(id::text, '-', ''), 13)
    )::uuid
$$
"""
"""Moves a UUIDv7 forward in time: its first 48 bits are milliseconds (RFC 9562, 5.7)."""


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """What to copy how often: the rows of `tables` that are as old as `since` to `until` (Unix ms), `sets` times.

    Each set is `step_ms` younger than the one before. `from_set` spares a table the older sets: what was blanked since.
    """

    tables: Sequence[str]
    since: int
    until: int
    sets: int
    step_ms: int
    from_set: Mapping[str, int] = MappingProxyType({})

    def statements(self, dialect: Dialect) -> list[str]:
        """Write what is to be executed, in order."""
        tables = [METADATA.tables[name] for name in self.tables]
        indexes = sorted((index for table in tables for index in table.indexes), key=lambda index: str(index.name))
        return [
            *[str(DropIndex(index).compile(dialect=dialect)) for index in indexes],
            *[line for table in tables for line in self._copy(table, dialect)],
            *[str(CreateIndex(index).compile(dialect=dialect)) for index in indexes],
        ]

    def _copy(self, table: Table, dialect: Dialect) -> list[str]:
        on_postgres = dialect.name == "postgresql"
        written = ", ".join(self._written(column, on_postgres=on_postgres) for column in table.columns)
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        first, last = self.from_set.get(table.name, 1), self.sets
        numbers = (
            f"generate_series({first}, {last}) AS numbers (n)"
            if on_postgres
            else f"(WITH RECURSIVE counted (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM counted"
            f" WHERE n < {last}) SELECT n FROM counted WHERE n <= {last}) AS numbers"
        )
        key = ", ".join(f'r."{column.name}"' for column in table.primary_key)
        insert = f"INSERT INTO {table.name} ({names}) SELECT {written} FROM {numbers}"
        return [
            f"CREATE TEMP TABLE real_{table.name} AS SELECT * FROM {table.name} WHERE {self._recent(table, dialect)}",
            f"{insert} CROSS JOIN (SELECT * FROM real_{table.name} AS r ORDER BY {key}) AS r",
            f"DROP TABLE real_{table.name}",
        ]

    def _recent(self, table: Table, dialect: Dialect) -> str:
        """Find the originals by the first id of their key, or else by their time; a table without either is copied."""
        for column in table.primary_key:
            if isinstance(column.type, Id):
                first, last = (first_id_of(at).hex for at in (self.since, self.until))
                before, after = ("'", "'::uuid") if dialect.name == "postgresql" else ("x'", "'")
                return f'"{column.name}" BETWEEN {before}{first}{after} AND {before}{last}{after}'
        time = next((name for name in ("created_at", "received_at", "updated_at") if name in table.columns), None)
        return f"{time} BETWEEN {self.since} AND {self.until}" if time else "1 = 1"

    def _written(self, column: Column[Any], *, on_postgres: bool) -> str:
        name = f'r."{column.name}"'
        if isinstance(column.type, Id):
            # A step is longer than 32 bits once it is multiplied.
            return f"{'pg_temp.' if on_postgres else ''}younger({name}, CAST(numbers.n AS bigint) * {self.step_ms})"
        if column.name in _TIMES:
            return f"{name} + CAST(numbers.n AS bigint) * {self.step_ms}"
        if column.name in _NAMES and isinstance(column.type, LargeBinary):
            return "NULL" if column.nullable else name  # a hash, of which no second one may stand there
        if column.name in _NAMES:
            return f"numbers.n || '.' || {name}"
        return name


def fill_sqlite(path: Path, *copies: Copies) -> None:
    """Fill a file; whoever else has it open must be waiting meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        # A crash while filling loses a file that nobody keeps.
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        raw.execute("PRAGMA temp_store=MEMORY")
        raw.create_function("younger", 2, _younger, deterministic=True)
        for one in copies:
            raw.execute("BEGIN IMMEDIATE")
            for statement in one.statements(sqlite.dialect()):
                raw.execute(statement)
            raw.execute("COMMIT")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


async def fill_postgres(url: str, *copies: Copies) -> None:
    """Fill a database."""
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute("SET maintenance_work_mem = '512MB'")
        await connection.execute(_YOUNGER)
        for one in copies:
            async with connection.transaction():
                for statement in one.statements(postgresql.dialect()):
                    await connection.execute(statement)
    finally:
        await connection.close()


def _younger(id_: bytes | None, by_ms: int) -> bytes | None:
    """Move a UUIDv7 forward in time: its first 48 bits are milliseconds (RFC 9562, 5.7)."""
    return None if id_ is None else (int.from_bytes(id_) + (by_ms << 80)).to_bytes(16)
