"""What becomes of a digest's deliveries when the one that carries it is settled.

They end with it: as carried (`skipped`, `digest`, and a detail that names it) where it went out or may have, and as it
did where it was refused. What was not in the message, or ended for a reason of its own, lets the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from gateway.model import ids
from gateway.model.states import WAITING, Status, Why
from gateway.storage import cancelling, digests
from gateway.storage.bulk import Batch, Kind, Values, columns, run, uuid_of
from gateway.storage.contract import Settlement
from gateway.storage.ledger import Entry

_LOCK: Final = Batch(
    "SELECT g.id, g.carrier_id FROM v JOIN digests AS g ON g.id = v.id WHERE g.carrier_id IS NOT NULL"
    " ORDER BY g.id {lock g}",
    columns(id=Kind.ID),
)

_LOOSEN: Final = Batch(
    """
    UPDATE queue SET leased_by = NULL
    FROM v JOIN digest_items AS i ON i.digest_id = v.id
    WHERE queue.delivery_id = i.delivery_id AND queue.leased_by = v.by
    """,
    columns(id=Kind.ID, by=Kind.TEXT),
)

_MEMBERS: Final = Batch(
    """
    SELECT i.digest_id, q.delivery_id, q.leased_by, d.notification_id, d.project, d.channel, d.position, d.step, d.lane
    FROM v
    JOIN digest_items AS i ON i.digest_id = v.id
    JOIN queue AS q ON q.delivery_id = i.delivery_id
    JOIN deliveries AS d ON d.id = i.delivery_id
    ORDER BY q.delivery_id
    {lock q}
    """,
    columns(id=Kind.ID),
)

_REFUSED: Final = frozenset({Status.FAILED, Status.SKIPPED})
"""What is true of one delivery of a digest that was refused is true of all: they go to the same address."""

_OWN_AFFAIR: Final = frozenset({Status.EXPIRED, Status.CANCELLED})
"""A deadline and a cancellation are one delivery's own: the others have theirs."""


def lock(conn: Connection, settlements: Iterable[Settlement]) -> Mapping[UUID, UUID]:
    """Lock the digests that settlements concern, before anything of the queue; answers who carries each."""
    wanted = sorted({one.digest_id for one in settlements if one.digest_id is not None})
    return {uuid_of(row[0]): uuid_of(row[1]) for row in run(conn, _LOCK, [(id_,) for id_ in wanted])}


def settle(
    conn: Connection, carriers: Mapping[UUID, UUID], kept: Sequence[Settlement], now: int, due: set[str]
) -> list[Entry]:
    """End what was carried by those just settled, or let it go on; answers what is to be recorded of it.

    `due` gets the lanes in which something came due.
    """
    if not carriers:
        return []
    about = {one.digest_id: one for one in kept if one.digest_id is not None and carriers.get(one.digest_id) == one.id}
    # Where an answer was lost, what was in the message may have gone out: it stays with it.
    again = [id_ for id_, one in about.items() if id_ and one.status in WAITING and not one.unsure]
    run(conn, _LOOSEN, [(id_, digests.CARRIED) for id_ in sorted(again)])
    over = {id_: one for id_, one in about.items() if id_ and one.status not in WAITING}
    ending: list[tuple[Values, Settlement]] = []
    going_on: set[UUID] = set()
    for row in run(conn, _MEMBERS, [(id_,) for id_ in sorted(over)]):
        carrier = over[uuid_of(row[0])]
        if row[2] == digests.CARRIED and carrier.status not in _OWN_AFFAIR:
            ending.append((row, carrier))
        else:
            going_on.add(uuid_of(row[0]))
            due.add(row[8])
    entries = [_entry(row, carrier, now) for row, carrier in ending]
    cancelling.end_each(conn, [(one.delivery_id, Status(one.status), one.reason, one.detail, now) for one in entries])
    digests.pass_on(conn, sorted(going_on), now)
    digests.delete(conn, (id_ for id_ in over if id_ not in going_on))
    return entries


def _entry(row: Values, carrier: Settlement, now: int) -> Entry:
    refused = carrier.status in _REFUSED
    words = f"in the digest of {ids.show(ids.DELIVERY, carrier.id)}"
    return Entry(
        notification_id=uuid_of(row[3]),
        delivery_id=uuid_of(row[1]),
        project=row[4],
        channel=row[5],
        provider=None,
        status=carrier.status if refused else Status.SKIPPED,
        reason=carrier.reason if refused else Why.DIGEST,
        detail=f"{words}: {carrier.detail}" if refused and carrier.detail else words,
        at=now,
        closed=True,
        chain=None if row[7] is None else (row[6], row[7]),
    )
