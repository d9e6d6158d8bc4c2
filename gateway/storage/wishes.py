"""Wishes: the last word of an address about one sender or category.

Owns its table, and keeps the opt-outs in step with what is said about categories. Which word counts is the contract's
(`later`); who may send what is the middleware's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select, tuple_

from gateway.model.ids import IdSource
from gateway.model.states import Why
from gateway.storage import opt_outs, outbox
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import OptOutRow, SuppressionRow
from gateway.storage.contract.wishes import Place, Scope, Stop, Wish, later, place_of
from gateway.storage.schema import WISHES

_PLACE: Final = columns(channel=Kind.TEXT, address=Kind.TEXT, scope=Kind.TEXT, name=Kind.TEXT)

_LOCK: Final = Batch(
    """
    SELECT w.channel, w.address, w.scope, w.name, w.stopped, w.source, w.detail, w.heard, w.at
    FROM v JOIN wishes AS w
        ON w.channel = v.channel AND w.address = v.address AND w.scope = v.scope AND w.name = v.name
    ORDER BY w.channel, w.address, w.scope, w.name {lock w}
    """,
    _PLACE,
)

_WRITE: Final = insert_into(
    "wishes",
    (
        *_PLACE,
        *columns(
            stopped=Kind.BOOL,
            source=Kind.TEXT,
            detail=Kind.TEXT,
            heard=Kind.TEXT,
            at=Kind.INT,
        ),
    ),
    """
    ON CONFLICT (channel, address, scope, name) DO UPDATE
    SET stopped = excluded.stopped, source = excluded.source, detail = excluded.detail, heard = excluded.heard,
        at = excluded.at
    """,
)

_STOPPED: Final = Batch(
    """
    SELECT w.channel, w.address, w.name FROM v
    JOIN wishes AS w ON w.channel = v.channel AND w.address = v.address AND w.scope = 'sender' AND w.name = v.name
    WHERE w.stopped
    """,
    columns(channel=Kind.TEXT, address=Kind.TEXT, name=Kind.TEXT),
)

_LIFT: Final = Query(
    """
    UPDATE wishes SET stopped = false WHERE channel = $1 AND address = $2 AND scope = 'sender' AND stopped
    RETURNING name
    """,
)


def hear(conn: Connection, words: Sequence[Wish], ids: IdSource) -> list[Wish]:
    """Take words in; answers those wishes by which it changed whether something may be sent.

    A stopped sender's event gets its id.
    """
    rows = run(conn, _LOCK, sorted({place_of(word) for word in words}))
    before: dict[Place, Wish] = {place_of(wish): wish for wish in map(_wish, rows)}
    after = dict(before)
    for word in words:
        new = later(after.get(place_of(word)), word)
        if new is not None:
            after[place_of(word)] = new
    written = [wish for place, wish in sorted(after.items()) if wish != before.get(place)]
    run(conn, _WRITE, [_values(wish) for wish in written])
    turned = [wish for wish in written if wish.stopped != _was_stopped(before.get(place_of(wish)))]
    _opt(conn, [wish for wish in turned if wish.scope is Scope.CATEGORY])
    stops = [wish for wish in turned if wish.scope is Scope.SENDER and wish.stopped]
    outbox.note_suppressions(conn, [_suppression(wish) for wish in stops], ids)
    return turned


def stopped(conn: Connection, asked: Sequence[Collection[Stop]]) -> list[set[Stop]]:
    """Find those of several callers' (channel, address, sender) that are stopped."""
    found = {(row[0], row[1], row[2]) for row in run(conn, _STOPPED, sorted({one for many in asked for one in many}))}
    return [{one for one in many if one in found} for many in asked]


def lift(conn: Connection, channel: str, address: str) -> bool:
    """Let every sender write to an address again; `False` if none was stopped."""
    return bool(ask(conn, _LIFT, channel, address))


def listing(
    conn: Connection,
    *,
    channel: str | None,
    address: str | None,
    limit: int,
    after: tuple[int, str, str, str] | None,
) -> list[SuppressionRow]:
    """List stopped senders newest first, strictly after the last row seen, as what they are: suppressions."""
    c = WISHES.c
    query = select(c.channel, c.address, c.name, c.source, c.detail, c.at)
    query = query.where(c.stopped, c.scope == Scope.SENDER.value)
    if channel is not None:
        query = query.where(c.channel == channel)
    if address is not None:
        query = query.where(c.address == address)
    if after is not None:
        query = query.where(tuple_(c.at, c.channel, c.address, c.name) < after)
    query = query.order_by(c.at.desc(), c.channel.desc(), c.address.desc(), c.name.desc()).limit(limit)
    return [
        SuppressionRow(
            channel=row[0],
            address=row[1],
            sender=row[2],
            reason=Why.OPTED_OUT,
            source=row[3],
            detail=row[4],
            created_at=row[5],
        )
        for row in conn.execute(query)
    ]


def _suppression(wish: Wish) -> SuppressionRow:
    return SuppressionRow(
        channel=wish.channel,
        address=wish.address,
        sender=wish.name,
        reason=Why.OPTED_OUT,
        source=wish.source,
        detail=wish.detail,
        created_at=wish.at,
    )


def _was_stopped(before: Wish | None) -> bool:
    return before is not None and before.stopped


def _opt(conn: Connection, turned: Sequence[Wish]) -> None:
    rows = [
        OptOutRow(
            channel=wish.channel,
            address=wish.address,
            category=wish.name,
            source=wish.source,
            created_at=wish.at,
        )
        for wish in turned
    ]
    opt_outs.add_many(conn, [row for row, wish in zip(rows, turned, strict=True) if wish.stopped])
    opt_outs.take_back(conn, [row for row, wish in zip(rows, turned, strict=True) if not wish.stopped])


def _values(wish: Wish) -> tuple[Any, ...]:
    return (*place_of(wish), wish.stopped, wish.source, wish.detail, " ".join(wish.heard), wish.at)


def _wish(row: Sequence[Any]) -> Wish:
    return Wish(
        channel=row[0],
        address=row[1],
        scope=Scope(row[2]),
        name=row[3],
        stopped=bool(row[4]),
        source=row[5],
        detail=row[6],
        heard=tuple(row[7].split()),
        at=row[8],
    )
