"""Sends to topics become deliveries, a slice to a transaction.

Owns the fence: a slice is written only while its claim is still held, together with how far that brings the expansion,
so that a slice is there whole or not at all. Cancelling takes the expansion away, which is the same fence. Refuses to
know plans: rows come ready-made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.collapsing import place_of
from gateway.model.states import Status, Why
from gateway.storage import accepting, collapsing, ledger, topics
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, run
from gateway.storage.contract import Acceptance, DeliveryRow, Slice
from gateway.storage.ledger import Books

_HOLD: Final = Query(
    """
    SELECT e.notification_id FROM expansions AS e
    WHERE e.notification_id = $1 AND e.token = $2 AND e.leased_by IS NOT NULL {lock e}
    """,
)

_ADVANCE: Final = Query(
    """
    UPDATE expansions SET place = $1, last_user = $2, position = $3, due_at = $4, leased_by = NULL
    WHERE notification_id = $5
    """,
)

_GROW: Final = Query(
    "UPDATE notifications SET open_deliveries = open_deliveries + $1, updated_at = $2 WHERE id = $3",
)

_NEWER: Final = Batch(
    """
    SELECT c.place FROM v
    JOIN collapsing AS c ON c.place = v.place
    JOIN deliveries AS d ON d.id = c.delivery_id
    WHERE d.notification_id > v.notification_id
    ORDER BY c.place
    {lock c}
    """,
    columns(place=Kind.BYTES, notification_id=Kind.ID),
)


def expand(conn: Connection, part: Slice, *, books: Books) -> bool:
    """Write a slice; `False` if it is not this claim's to write any more.

    Rows are locked in the order in which everybody locks them: expansion, users, what waits, notification, counts.
    """
    about = part.notification
    if not ask(conn, _HOLD, about.id, part.token):
        return False
    rows = _not_replaced(conn, part, _still_there(conn, part.deliveries))
    [accepted] = accepting.gathered(conn, [Acceptance(notification=about, deliveries=tuple(rows))], books)
    placed = [accepting.Placed(row, about.id, about.project, about.category, part.now) for row in accepted.deliveries]
    entries = accepting.insert_deliveries(conn, placed)
    ledger.record(conn, books, collapsing.replace(conn, [accepted], part.now))
    if part.finished:
        topics.stop(conn, about.id)
    else:
        ask(conn, _ADVANCE, part.place, part.last_user, part.position, part.now, about.id)
    ask(conn, _GROW, sum(not row.final for row in rows), part.now, about.id)
    if part.finished:
        # The expansion itself counts no more; it may have been all that held the notification open.
        ledger.write_completions(conn, books, ledger.close(conn, {about.id: (1, part.now)}))
    ledger.record_planned(conn, books, entries, [])
    return True


def _still_there(conn: Connection, rows: Sequence[DeliveryRow]) -> list[DeliveryRow]:
    """Leave out who was erased since they were looked up; the others stay until this is committed."""
    ids = sorted({row.user_id for row in rows if row.user_id is not None})
    there = {row[0] for row in run(conn, topics.HOLD_USERS, [(id_,) for id_ in ids])}
    return [row for row in rows if row.user_id in there]


def _not_replaced(conn: Connection, part: Slice, rows: list[DeliveryRow]) -> list[DeliveryRow]:
    """End what a newer notification has replaced before it was even planned, with what waits behind it."""
    about = part.notification
    if about.collapse_key is None:
        return rows
    places = {
        row.id: place_of(about.project, about.collapse_key, row.channel, row.address)
        for row in rows
        if not row.final and row.address is not None
    }
    newer = {bytes(row[0]) for row in run(conn, _NEWER, [(place, about.id) for place in sorted(set(places.values()))])}
    first: dict[int, int] = {}
    for row in rows:
        if places.get(row.id) in newer:
            step = 0 if row.turn is None else row.turn.step
            first[row.position] = min(step, first.get(row.position, step))
    return [_replaced(row) if _falls(row, first, places, newer) else row for row in rows]


def _falls(row: DeliveryRow, first: dict[int, int], places: dict[UUID, bytes], newer: set[bytes]) -> bool:
    if row.final or row.position not in first:
        return False
    return places.get(row.id) in newer if row.turn is None else row.turn.step >= first[row.position]


def _replaced(row: DeliveryRow) -> DeliveryRow:
    return msgspec.structs.replace(row, status=Status.SKIPPED, reason=Why.COLLAPSED, detail=None, final=True)
