"""`collapse_key`: a newer message replaces an older one that is not sent yet, in the transaction that accepts it.

Owns which delivery is the newest of its place, and what stands there. Costs nothing where no notification of a batch
has a key. What is in a worker's hands is left alone: should it wait again, `latest` tells it that it is out of date.
What waits after an attempt whose answer was lost is replaced as well, and ends `unknown`: it may have been sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from gateway.model import ids
from gateway.model.collapsing import place_of
from gateway.model.states import Status, Why
from gateway.storage import cancelling
from gateway.storage.bulk import Batch, Kind, columns, insert_into, run, uuid_of
from gateway.storage.contract import Acceptance, Latest, ShownRow
from gateway.storage.ledger import Entry

LOST: Final = " after an attempt whose answer was lost"

_TAKE_PLACES: Final = insert_into(
    "collapsing",
    columns(place=Kind.BYTES, delivery_id=Kind.ID),
    "ON CONFLICT (place) DO UPDATE SET replaced_id = collapsing.delivery_id, delivery_id = excluded.delivery_id"
    " RETURNING place, replaced_id",
)

_LOCK_WAITING: Final = Batch(
    """
    SELECT q.delivery_id, v.id, d.notification_id, d.project, d.channel, d.provider, q.unsure OR q.losses > 0
    FROM v
    JOIN queue AS own ON own.delivery_id = v.id AND own.leased_by IS NULL
    JOIN deliveries AS older ON older.id = v.id
    JOIN deliveries AS d ON d.notification_id = older.notification_id AND d.position = older.position
        AND (d.id = older.id OR d.step > older.step)
    JOIN queue AS q ON q.delivery_id = d.id
    WHERE q.leased_by IS NULL
    ORDER BY q.delivery_id
    {lock q}
    """,
    columns(id=Kind.ID),
)

_SHOW: Final = Batch(
    """
    UPDATE collapsing SET shown_by = v.provider, shown_id = v.provider_id
    FROM v
    WHERE collapsing.place = v.place AND (collapsing.delivery_id = v.delivery_id OR collapsing.shown_id IS NULL)
    """,
    columns(place=Kind.BYTES, delivery_id=Kind.ID, provider=Kind.TEXT, provider_id=Kind.TEXT),
)

_LATEST: Final = Batch(
    """
    SELECT c.place, c.delivery_id, c.shown_by, c.shown_id FROM v JOIN collapsing AS c ON c.place = v.place
    """,
    columns(place=Kind.BYTES),
)


def replace(conn: Connection, accepted: Sequence[Acceptance], now: int) -> list[Entry]:
    """Let what was just stored replace what waits in the same places; answers what is to be recorded of it.

    Two of one notification do not replace each other. Whatever waits behind a replaced one for its turn goes with it.
    """
    newest, replaced = _places(accepted)
    if not newest:
        return []
    rows = [(place, delivery_id) for place, (_, delivery_id) in sorted(newest.items())]
    for place, before in run(conn, _TAKE_PLACES, rows):
        if before is not None:
            replaced[uuid_of(before)] = newest[bytes(place)][0]
    return _end(conn, replaced, now)


def show(conn: Connection, rows: Sequence[ShownRow]) -> None:
    """Note what stands in its place now, unless something newer does."""
    last = {row.place: row for row in rows}
    run(conn, _SHOW, [(row.place, row.delivery_id, row.provider, row.provider_id) for _, row in sorted(last.items())])


def latest(conn: Connection, places: Sequence[bytes]) -> list[Latest | None]:
    """Tell the newest of several places, in order."""
    found = {
        bytes(row[0]): Latest(delivery_id=uuid_of(row[1]), shown_by=row[2], shown_id=row[3])
        for row in run(conn, _LATEST, sorted({(place,) for place in places}))
    }
    return [found.get(place) for place in places]


def _places(accepted: Sequence[Acceptance]) -> tuple[dict[bytes, tuple[UUID, UUID]], dict[UUID, UUID]]:
    """Find the newest (notification, delivery) of each place in a batch, and what it replaces within the batch."""
    newest: dict[bytes, tuple[UUID, UUID]] = {}
    replaced: dict[UUID, UUID] = {}
    for acceptance in accepted:
        row = acceptance.notification
        if row.collapse_key is None:
            continue
        for delivery in acceptance.deliveries:
            if delivery.final or delivery.address is None:
                continue
            place = place_of(row.project, row.collapse_key, delivery.channel, delivery.address)
            before = newest.get(place)
            if before is not None and before[0] != row.id:
                replaced[before[1]] = row.id
            newest[place] = (row.id, delivery.id)
    return newest, replaced


def _end(conn: Connection, replaced: Mapping[UUID, UUID], now: int) -> list[Entry]:
    rows = run(conn, _LOCK_WAITING, [(id_,) for id_ in sorted(replaced)])
    free = {uuid_of(row[0]) for row in rows}
    # What has been claimed since is not collapsed, and those behind it go on waiting for it.
    ending = {uuid_of(row[0]): row for row in rows if uuid_of(row[1]) in free}
    details = {
        id_: f"replaced by {ids.show(ids.NOTIFICATION, replaced[uuid_of(row[1])])}" + (LOST if row[6] else "")
        for id_, row in ending.items()
    }
    status = {id_: Status.UNKNOWN if row[6] else Status.SKIPPED for id_, row in ending.items()}
    for one in (Status.SKIPPED, Status.UNKNOWN):
        ids_ = [id_ for id_ in ending if status[id_] is one]
        cancelling.end(conn, ids_, one, Why.COLLAPSED, now, details=details)
    return [
        Entry(
            notification_id=uuid_of(row[2]),
            delivery_id=id_,
            project=row[3],
            channel=row[4],
            provider=row[5],
            status=status[id_],
            reason=Why.COLLAPSED,
            detail=details[id_],
            at=now,
            closed=True,
        )
        for id_, row in sorted(ending.items())
    ]
