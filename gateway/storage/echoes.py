"""Echoes: stored events on their way to endpoints, or there already, found by what they speak of.

Owns `echoes`, and what is left of an event when the person it speaks of is erased. Refuses to know who that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.storage.bulk import Batch, Kind, Values, columns, insert_into, run, uuid_of
from gateway.storage.contract import EchoRow, NotedEvent

SLICE: Final = 500
"""Events that are rewritten in one transaction."""

_INSERT: Final = insert_into(
    "echoes",
    columns(carrier_id=Kind.ID, notification_id=Kind.ID, delivery_id=Kind.ID, channel=Kind.TEXT, address=Kind.TEXT),
)

_OF_DELIVERIES: Final = Batch(
    f"SELECT e.carrier_id FROM v JOIN echoes AS e ON e.delivery_id = v.id LIMIT {SLICE}",  # noqa: S608 - a constant
    columns(id=Kind.ID),
)

_OF_NOTIFICATIONS: Final = Batch(
    f"SELECT e.carrier_id FROM v JOIN echoes AS e ON e.notification_id = v.id LIMIT {SLICE}",  # noqa: S608 - a constant
    columns(id=Kind.ID),
)

_AS_SUCH: Final = Batch(
    "SELECT e.carrier_id FROM v JOIN echoes AS e ON e.notification_id = v.id WHERE e.delivery_id IS NULL",
    columns(id=Kind.ID),
)

_OF_ADDRESSES: Final = Batch(
    f"""
    SELECT e.carrier_id FROM v JOIN echoes AS e ON e.address = v.address AND e.channel = v.channel
    WHERE e.address IS NOT NULL LIMIT {SLICE}
    """,  # noqa: S608 - a constant
    columns(channel=Kind.TEXT, address=Kind.TEXT),
)

_STORED: Final = Batch(
    "SELECT r.notification_id, r.request FROM v JOIN requests AS r ON r.notification_id = v.id",
    columns(id=Kind.ID),
)

_REWRITE: Final = Batch(
    "UPDATE requests SET request = v.request FROM v WHERE requests.notification_id = v.id",
    columns(id=Kind.ID, request=Kind.BYTES),
)

_TOLD: Final = Batch(
    """
    SELECT d.id, n.project, n.reference, CASE WHEN q.leased_by IS NULL THEN d.status ELSE 'sending' END, d.created_at,
           r.request, n.id
    FROM v
    JOIN notifications AS n ON n.id = v.id
    JOIN deliveries AS d ON d.notification_id = v.id
    JOIN requests AS r ON r.notification_id = v.id
    LEFT JOIN queue AS q ON q.delivery_id = d.id
    """,
    columns(id=Kind.ID),
)

_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class _About(msgspec.Struct, frozen=True):
    """What an event says of an address."""

    channel: str
    address: str


_ABOUT: Final = msgspec.json.Decoder(_About).decode


def note(conn: Connection, carried: Iterable[tuple[UUID, NotedEvent]]) -> None:
    """Write down what each event speaks of, by the notification that carries it."""
    rows: list[Values] = []
    for carrier_id, event in carried:
        about = None if event.about is None else _ABOUT(event.about)
        place = (None, None) if about is None else (about.channel, about.address)
        rows.append((carrier_id, event.notification_id, event.delivery_id, *place))
    run(conn, _INSERT, rows)


def of_deliveries(conn: Connection, ids: Iterable[UUID]) -> list[UUID]:
    """Find the carriers of events about these deliveries, a slice of them."""
    return _found(run(conn, _OF_DELIVERIES, [(id_,) for id_ in sorted(set(ids))]))


def of_notifications(conn: Connection, ids: Iterable[UUID]) -> list[UUID]:
    """Find the carriers of events about these notifications and all their deliveries, a slice of them."""
    return _found(run(conn, _OF_NOTIFICATIONS, [(id_,) for id_ in sorted(set(ids))]))


def about_as_such(conn: Connection, ids: Iterable[UUID]) -> list[UUID]:
    """Find the carriers of events about these notifications that are about no single delivery."""
    return _found(run(conn, _AS_SUCH, [(id_,) for id_ in sorted(set(ids))]))


def of_addresses(conn: Connection, pairs: Iterable[Values]) -> list[UUID]:
    """Find the carriers of events that name one of these (channel, address), a slice of them."""
    return _found(run(conn, _OF_ADDRESSES, sorted(set(pairs))))


def blank(conn: Connection, carriers: Sequence[UUID]) -> int:
    """Leave of stored events only what tells nothing about anybody: type, time, ids, status, reason and channel."""
    rows = [(uuid_of(id_), _without_words(bytes(request))) for id_, request in run(conn, _STORED, _each(carriers))]
    run(conn, _REWRITE, sorted(rows))
    return len(rows)


def told(conn: Connection, carriers: Sequence[UUID], project: str | None) -> list[EchoRow]:
    """Show stored events, of one project or of all, oldest first."""
    rows = run(conn, _TOLD, _each(sorted(set(carriers))))
    found = [
        EchoRow(
            delivery_id=uuid_of(row[0]),
            notification_id=uuid_of(row[6]),
            endpoint=row[2],
            status=row[3],
            created_at=row[4],
            request=bytes(row[5]),
        )
        for row in rows
        if project in {None, row[1]}
    ]
    return sorted(found, key=lambda one: one.delivery_id)


def _without_words(request: bytes) -> bytes:
    written: dict[str, Any] = _decode(request)
    event: dict[str, Any] = written["event"]
    event.update(detail=None, reference=None, metadata={})
    if "address" in event:
        event["address"] = None
    return _encode({"event": event})


def _found(rows: Sequence[Values]) -> list[UUID]:
    return sorted({uuid_of(row[0]) for row in rows})


def _each(ids: Iterable[UUID]) -> list[Values]:
    return [(id_,) for id_ in ids]
