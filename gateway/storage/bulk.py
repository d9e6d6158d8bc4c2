"""Statements over many rows at once: one text, one execution, on both databases.

Owns every difference in how the databases take a table of values, and the text each statement becomes. A statement is
written once, over a relation `v`; SQLite gets `v` as `VALUES (?, ?), …`, PostgreSQL as `unnest($1::uuid[], …)`, so that
one prepared statement serves any number of rows. Refuses to know any table.

Why not `executemany`: each row then takes the interpreter's lock once, and beside a busy event loop that costs a thread
switch per row. Why text instead of SQLAlchemy's constructs: building those costs more than running them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import chain, count
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

Values = tuple[Any, ...]

_SIZES: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""How many rows a SQLite statement is written for; fewer are padded with NULL rows, which every statement ignores.
Measured: padding costs nothing, a second statement costs a thread switch."""

_MOST_PARAMETERS: Final = 24_000
"""Below SQLite's 32,766 in builds that keep its default."""

_LOCK: Final = re.compile(r"\{(lock|share)(?: (?!skip)([a-z]+(?:, [a-z]+)*))?( skip)?\}")
_PLACE: Final = re.compile(r"\$([0-9]+)")


class Kind(StrEnum):
    """The type of a value, in PostgreSQL's words."""

    ID = "uuid"
    INT = "bigint"
    TEXT = "text"
    BYTES = "bytea"
    BOOL = "boolean"


class Batch(msgspec.Struct, frozen=True, eq=False):
    """A statement over the relation `v`, whose columns are `columns`; the first is never NULL.

    `{lock q}` becomes `FOR UPDATE OF q` on PostgreSQL (`{lock q skip}`: passing over what others hold; `{share q}`:
    against deletion only) and nothing on SQLite, where a writer is alone anyway. A statement that inserts from `v` must
    leave out rows whose first column is NULL, because of the padding: `insert_into` does.
    """

    text: str
    columns: tuple[tuple[str, Kind], ...]
    inserts: bool = False
    """Whether it puts all of `v` into a table and joins it with nothing."""


class Query(msgspec.Struct, frozen=True, eq=False):
    """A statement over single values `$1`, `$2`, …; `{lock q}` as in `Batch`."""

    text: str


def columns(**kinds: Kind) -> tuple[tuple[str, Kind], ...]:
    """Write the columns of a batch down: `columns(id=Kind.ID, token=Kind.INT)`."""
    return tuple(kinds.items())


def insert_into(
    table: str, cols: tuple[tuple[str, Kind], ...], tail: str = "", *, also: Mapping[str, str] | None = None
) -> Batch:
    """Make the statement that inserts `v` into a table, with what follows (`ON CONFLICT …`, `RETURNING …`).

    `also` gives further columns their values by expressions: what need not be handed over costs nothing to hand over.
    """
    more = also or {}
    names = ", ".join(f'"{name}"' for name in (*(name for name, _ in cols), *more))
    values = ", ".join(("v.*", *more.values()))
    insert = f"INSERT INTO {table} ({names})"
    return Batch(f'{insert} SELECT {values} FROM v WHERE v."{cols[0][0]}" IS NOT NULL {tail}', cols, inserts=True)  # noqa: S608 - names of our own tables and columns


def run(conn: Connection, batch: Batch, rows: Sequence[Values]) -> list[Values]:
    """Execute for all rows and answer what it returns. No rows: nothing happens."""
    if not rows:
        return []
    if conn.dialect.name == "postgresql":
        arrays = tuple(list(column) for column in zip(*rows, strict=True))
        return _execute(conn, _for_postgres(batch), arrays)
    width = len(batch.columns)
    most = min(_SIZES[-1], _MOST_PARAMETERS // width)
    found: list[Values] = []
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        size = next((size for size in _SIZES if len(part) <= size <= most), len(part))
        alike, values, wide = _packed(batch, part)
        values.extend([None] * (wide * (size - len(part))))
        found.extend(_execute(conn, _for_sqlite(batch, size, alike), tuple(values)))
    return found


def _packed(batch: Batch, rows: Sequence[Values]) -> tuple[tuple[int, ...], list[Any], int]:
    """Put the values of rows into the order in which SQLite's statement takes them.

    Answers the places of the columns that have one value in all rows, the values (theirs once, then row by row those of
    the others), and how many a row has. The first column tells rows from padding, and is never among them.
    """
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for place, (_, kind) in enumerate(batch.columns):
        if kind is Kind.ID:
            columns[place] = [value.bytes if type(value) is UUID else value for value in columns[place]]
    alike: list[int] = []
    if batch.inserts and len(rows) > 1:
        alike = [place for place, column in enumerate(columns) if place and column.count(column[0]) == len(rows)]
    values = [columns[place][0] for place in alike]
    kept = [column for place, column in enumerate(columns) if place not in alike]
    values.extend(chain.from_iterable(zip(*kept, strict=True)))
    return tuple(alike), values, len(kept)


def ask(conn: Connection, query: Query, *values: Any) -> list[Values]:
    """Execute with single values and answer what it returns."""
    if conn.dialect.name == "postgresql":
        return _execute(conn, _query_for_postgres(query), values)
    text, order = _query_for_sqlite(query)
    plain = [value.bytes if isinstance(value, UUID) else value for value in values]
    return _execute(conn, text, tuple(plain[place] for place in order))


def uuid_of(value: Any) -> UUID:
    """Read an id from a raw row of either database."""
    return UUID(bytes=value) if type(value) is bytes else value


def driver_of(conn: Connection) -> Any:
    """Give SQLite's own connection behind SQLAlchemy's: for what runs often, its way costs as much as the statement."""
    return conn.connection.driver_connection


def _execute(conn: Connection, text: str, values: Values) -> list[Values]:
    if conn.dialect.name == "sqlite":
        if not conn.in_transaction():
            conn.begin()
        rows: list[Values] = driver_of(conn).execute(text, values).fetchall()
        return rows
    result = conn.exec_driver_sql(text, values)
    if not result.returns_rows:
        return []
    cursor: Any = result.cursor
    rows = cursor.fetchall()
    result.close()
    return rows


@lru_cache(maxsize=256)
def _for_postgres(batch: Batch) -> str:
    names = ", ".join(f'"{name}"' for name, _ in batch.columns)
    arrays = ", ".join(f"${place}::{kind}[]" for place, (_, kind) in enumerate(batch.columns, 1))
    return f"WITH v ({names}) AS (SELECT * FROM unnest({arrays})) {_with_locks(batch.text)}"  # noqa: S608 - names of our own columns


@lru_cache(maxsize=1024)
def _for_sqlite(batch: Batch, size: int, alike: tuple[int, ...] = ()) -> str:
    """Write the statement for `size` rows. The columns at the places `alike` have one value, given before all rows."""
    names = ", ".join(f'"{name}"' for name, _ in batch.columns)
    row = f"({', '.join('?' * (len(batch.columns) - len(alike)))})"
    rows = f"VALUES {', '.join([row] * size)}"
    if alike:
        own = count(1)
        chosen = ["?" if place in alike else f"column{next(own)}" for place in range(len(batch.columns))]
        rows = f"SELECT {', '.join(chosen)} FROM ({rows})"  # noqa: S608 - places of our own columns
    return f"WITH v ({names}) AS ({rows}) {_LOCK.sub('', batch.text)}"


@lru_cache(maxsize=256)
def _query_for_postgres(query: Query) -> str:
    return _with_locks(query.text)


@lru_cache(maxsize=256)
def _query_for_sqlite(query: Query) -> tuple[str, tuple[int, ...]]:
    order = tuple(int(place) - 1 for place in _PLACE.findall(query.text))
    return _PLACE.sub("?", _LOCK.sub("", query.text)), order


def _with_locks(text: str) -> str:
    return _LOCK.sub(_lock, text)


def _lock(found: re.Match[str]) -> str:
    strength = "KEY SHARE" if found[1] == "share" else "UPDATE"
    tables = f" OF {found[2]}" if found[2] else ""
    return f"FOR {strength}{tables}{' SKIP LOCKED' if found[3] else ''}"
