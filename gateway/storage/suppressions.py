"""The suppression list: addresses never written to.

Owns its table. Refuses to know why an address belongs there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select, tuple_

from gateway.model.ids import IdSource
from gateway.model.states import Why
from gateway.storage import outbox
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import SuppressionRow
from gateway.storage.schema import SUPPRESSIONS

_PAIR: Final = columns(channel=Kind.TEXT, address=Kind.TEXT)

_INSERT: Final = insert_into(
    "suppressions",
    columns(
        channel=Kind.TEXT,
        address=Kind.TEXT,
        reason=Kind.TEXT,
        source=Kind.TEXT,
        detail=Kind.TEXT,
        created_at=Kind.INT,
    ),
    f"ON CONFLICT (channel, address) DO NOTHING RETURNING channel, address, {outbox.HEARD_BY_ANYBODY}",
)

_FIND: Final = Batch(
    """
    SELECT s.channel, s.address, s.reason, s.source, s.detail, s.created_at
    FROM v JOIN suppressions AS s ON s.channel = v.channel AND s.address = v.address
    """,
    _PAIR,
)

_REMOVE: Final = Query("DELETE FROM suppressions WHERE channel = $1 AND address = $2 RETURNING channel")


def add(conn: Connection, rows: Sequence[SuppressionRow], ids: IdSource) -> int:
    """Put addresses on the list; the older row of one that is there stays. Answers how many are new.

    The event that a new one makes gets its id from `ids`.
    """
    first = {(row.channel, row.address): row for row in reversed(rows)}
    values = [
        (row.channel, row.address, row.reason, row.source, row.detail, row.created_at)
        for _, row in sorted(first.items())
    ]
    new = run(conn, _INSERT, values)
    outbox.note_suppressions(conn, [first[channel, address] for channel, address, heard in new if heard], ids)
    return len(new)


def remove(conn: Connection, channel: str, address: str) -> bool:
    """Take an address off the list."""
    return bool(ask(conn, _REMOVE, channel, address))


def look_up(
    conn: Connection,
    asked: Sequence[Collection[tuple[str, str]]],
) -> list[list[SuppressionRow]]:
    """Find those of several callers' (channel, address) pairs that are on the list."""
    found = {
        (row[0], row[1]): _row(row) for row in run(conn, _FIND, sorted({pair for pairs in asked for pair in pairs}))
    }
    return [[found[pair] for pair in pairs if pair in found] for pairs in asked]


def listing(
    conn: Connection,
    *,
    channel: str | None,
    address: str | None,
    limit: int,
    after: tuple[int, str, str] | None,
) -> list[SuppressionRow]:
    """List newest first, strictly after the last row seen."""
    c = SUPPRESSIONS.c
    query = select(c.channel, c.address, c.reason, c.source, c.detail, c.created_at)
    if channel is not None:
        query = query.where(c.channel == channel)
    if address is not None:
        query = query.where(c.address == address)
    if after is not None:
        query = query.where(tuple_(c.created_at, c.channel, c.address) < after)
    query = query.order_by(c.created_at.desc(), c.channel.desc(), c.address.desc()).limit(limit)
    return [_row(row) for row in conn.execute(query)]


def _row(row: Sequence[Any]) -> SuppressionRow:
    return SuppressionRow(
        channel=row[0],
        address=row[1],
        reason=Why(row[2]),
        source=row[3],
        detail=row[4],
        created_at=row[5],
    )
