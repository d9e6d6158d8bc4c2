"""The suppression list: addresses never written to, by anybody or by one sender.

Owns the table of the former, and what is left of it after a person was erased (`forgotten_suppressions`), where an
address is a keyed hash that look-ups still find; the latter are wishes (`storage.wishes`), shown and taken off together
with them. Refuses to know why an address belongs there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select, tuple_

from gateway.model.ids import IdSource
from gateway.model.states import Why
from gateway.storage import outbox, wishes
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import SuppressionRow
from gateway.storage.contract.wishes import Scope, Wish
from gateway.storage.ledger import Books
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
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, 0 WHERE EXISTS (SELECT 1 FROM forgotten_suppressions)
    """,
    _PAIR,
)
"""With one row of nothing where anybody was ever forgotten: only then are hashes made and looked up."""

_FIND_FORGOTTEN: Final = Batch(
    """
    SELECT f.hash, f.channel, f.reason, f.source, f.created_at
    FROM v JOIN forgotten_suppressions AS f ON f.hash = v.hash
    """,
    columns(hash=Kind.BYTES),
)

_REMOVE_FORGOTTEN: Final = Query("DELETE FROM forgotten_suppressions WHERE hash = $1 RETURNING channel")

_REMOVE: Final = Query("DELETE FROM suppressions WHERE channel = $1 AND address = $2 RETURNING channel")


def add(conn: Connection, rows: Sequence[SuppressionRow], ids: IdSource) -> int:
    """Put addresses on the list; the older row of one that is there stays. Answers how many are new.

    The event that a new one makes gets its id from `ids`.
    """
    words = [_word(row.sender, row) for row in rows if row.sender is not None]
    of_senders = len(wishes.hear(conn, words, ids))
    first = {(row.channel, row.address): row for row in reversed(rows) if row.sender is None}
    values = [
        (row.channel, row.address, row.reason, row.source, row.detail, row.created_at)
        for _, row in sorted(first.items())
    ]
    new = run(conn, _INSERT, values)
    outbox.note_suppressions(conn, [first[channel, address] for channel, address, heard in new if heard], ids)
    return len(new) + of_senders


def remove(conn: Connection, channel: str, address: str, *, books: Books) -> bool:
    """Take an address off the list, for every sender, also where only its hash is on it."""
    lifted = wishes.lift(conn, channel, address)
    listed = ask(conn, _REMOVE, channel, address)
    forgotten = ask(conn, _REMOVE_FORGOTTEN, books.hide(channel, address))
    return bool(listed or forgotten) or lifted


def look_up(
    conn: Connection,
    asked: Sequence[Collection[tuple[str, str]]],
    *,
    books: Books,
) -> list[list[SuppressionRow]]:
    """Find those of several callers' (channel, address) pairs that are on the list."""
    wanted = sorted({pair for pairs in asked for pair in pairs})
    rows = run(conn, _FIND, wanted)
    found = {(row[0], row[1]): _row(row) for row in rows if row[0] is not None}
    if len(rows) > len(found):
        found = _forgotten(conn, [pair for pair in wanted if pair not in found], books) | found
    if not found:
        return [[] for _ in asked]
    return [[found[pair] for pair in pairs if pair in found] for pairs in asked]


def listing(
    conn: Connection,
    *,
    channel: str | None,
    address: str | None,
    limit: int,
    after: tuple[int, str, str, str] | None,
) -> list[SuppressionRow]:
    """List newest first, strictly after the (created_at, channel, address, sender or "") of the last row seen."""
    everywhere = _everywhere(conn, channel=channel, address=address, limit=limit, after=after)
    by_sender = wishes.listing(conn, channel=channel, address=address, limit=limit, after=after)
    return sorted([*everywhere, *by_sender], key=position_of, reverse=True)[:limit]


def position_of(row: SuppressionRow) -> tuple[int, str, str, str]:
    """Say where a row stands in the listing."""
    return (row.created_at, row.channel, row.address, row.sender or "")


def _everywhere(
    conn: Connection,
    *,
    channel: str | None,
    address: str | None,
    limit: int,
    after: tuple[int, str, str, str] | None,
) -> list[SuppressionRow]:
    c = SUPPRESSIONS.c
    query = select(c.channel, c.address, c.reason, c.source, c.detail, c.created_at)
    if channel is not None:
        query = query.where(c.channel == channel)
    if address is not None:
        query = query.where(c.address == address)
    if after is not None:
        here = tuple_(c.created_at, c.channel, c.address)
        # After a sender's row of the same moment and address, its row without a sender is still to come.
        query = query.where(here <= after[:3] if after[3] else here < after[:3])
    query = query.order_by(c.created_at.desc(), c.channel.desc(), c.address.desc()).limit(limit)
    return [_row(row) for row in conn.execute(query)]


def _forgotten(
    conn: Connection, wanted: Sequence[tuple[str, str]], books: Books
) -> dict[tuple[str, str], SuppressionRow]:
    """Find what is known by its hash alone."""
    pairs = {books.hide(*pair): pair for pair in wanted}
    return {
        pairs[bytes(row[0])]: SuppressionRow(
            channel=row[1],
            address=pairs[bytes(row[0])][1],
            reason=Why(row[2]),
            source=row[3],
            created_at=row[4],
        )
        for row in run(conn, _FIND_FORGOTTEN, [(hash_,) for hash_ in sorted(pairs)])
    }


def _word(sender: str, row: SuppressionRow) -> Wish:
    return Wish(
        channel=row.channel,
        address=row.address,
        scope=Scope.SENDER,
        name=sender,
        stopped=True,
        source=row.source,
        detail=row.detail,
        at=row.created_at,
    )


def _row(row: Sequence[Any]) -> SuppressionRow:
    return SuppressionRow(
        channel=row[0],
        address=row[1],
        reason=Why(row[2]),
        source=row[3],
        detail=row[4],
        created_at=row[5],
    )
