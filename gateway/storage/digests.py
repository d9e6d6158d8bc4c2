"""Digests: what one person gets of one category is gathered until it is due, and goes out as one message.

Owns who carries a digest and what is in it, under a lock on the digest's row: that is what makes it one message however
many processes there are. Everything else about its deliveries is theirs: they wait in the queue as any other, can be
cancelled, replaced and expire. Refuses to know what a message looks like.

While a digest is being sent, its other deliveries are leased to `CARRIED`: nobody claims, cancels or expires them. Rows
are locked in one order everywhere: digests first, then the queue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from gateway.model.turns import NEVER
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import DigestItem, Gathered, Gathering, Joining
from gateway.storage.ledger import Books

CARRIED: Final = "(digest)"
"""Who holds what another delivery carries; no worker's name has brackets."""

_STALE_MS: Final = 600_000
"""How long after its time upkeep looks at a digest that is still there: longer than it takes to begin sending it."""

_ID: Final = columns(id=Kind.ID)

_OPEN: Final = insert_into(
    "digests",
    columns(id=Kind.ID, key=Kind.BYTES, opened_at=Kind.INT, due_at=Kind.INT),
    # One whose time has passed is about to be sent, or all in it have been cancelled: then a new time begins.
    "ON CONFLICT (key) DO UPDATE SET due_at ="
    " CASE WHEN digests.due_at <= excluded.opened_at THEN excluded.due_at ELSE digests.due_at END"
    " RETURNING key, id, due_at",
)

_JOIN: Final = insert_into(
    "digest_items",
    columns(delivery_id=Kind.ID, digest_id=Kind.ID, key=Kind.BYTES),
    "ON CONFLICT (delivery_id) DO UPDATE SET digest_id = excluded.digest_id, key = excluded.key",
)

_DUE: Final = Batch("SELECT g.key, g.due_at FROM v JOIN digests AS g ON g.key = v.key", columns(key=Kind.BYTES))

_LOCK: Final = Batch(
    "SELECT g.id, g.carrier_id FROM v JOIN digests AS g ON g.id = v.id ORDER BY g.key, g.id {lock g}",
    _ID,
)

_LOCK_QUEUE: Final = Batch(
    """
    SELECT i.digest_id, q.delivery_id, q.token, q.leased_by
    FROM v JOIN digest_items AS i ON i.digest_id = v.id JOIN queue AS q ON q.delivery_id = i.delivery_id
    ORDER BY q.delivery_id
    {lock q}
    """,
    _ID,
)

_CARRY: Final = Batch(
    "UPDATE digests SET carrier_id = v.carrier_id, key = NULL FROM v WHERE digests.id = v.id",
    columns(id=Kind.ID, carrier_id=Kind.ID),
)

_TAKE: Final = Batch(
    """
    UPDATE queue SET leased_by = v.by, due_at = v.never, token = queue.token + 1, losses = 0
    FROM v WHERE queue.delivery_id = v.id
    """,
    columns(id=Kind.ID, by=Kind.TEXT, never=Kind.INT),
)

_ALREADY_CARRIED: Final = Batch(
    """
    SELECT i.digest_id, d.id FROM v
    JOIN digest_items AS i ON i.digest_id = v.id
    JOIN deliveries AS d ON d.id = i.delivery_id AND d.status = 'skipped' AND d.reason = 'digest'
    """,
    _ID,
)

_ITEMS: Final = Batch(
    """
    SELECT d.id, d.notification_id, n.reference, n.template_version, n.created_at, r.request, d.recipient
    FROM v
    JOIN deliveries AS d ON d.id = v.id
    JOIN notifications AS n ON n.id = d.notification_id
    LEFT JOIN requests AS r ON r.notification_id = d.notification_id
    """,
    _ID,
)

_CARRIED_BY: Final = Batch(
    """
    SELECT g.id FROM v
    JOIN digest_items AS i ON i.delivery_id = v.id
    JOIN digests AS g ON g.id = i.digest_id AND g.carrier_id = v.id
    ORDER BY g.id {lock g}
    """,
    _ID,
)

_WITHOUT_CARRIER: Final = Batch("UPDATE digests SET carrier_id = NULL FROM v WHERE digests.id = v.id", _ID)

_FREE: Final = Batch(
    f"""
    UPDATE queue
    SET leased_by = NULL, due_at = v.now,
        unsure = CASE WHEN queue.leased_by = '{CARRIED}' THEN queue.unsure OR v.unsure ELSE queue.unsure END
    FROM v JOIN digest_items AS i ON i.digest_id = v.id
    WHERE queue.delivery_id = i.delivery_id AND queue.due_at = v.never
    """,  # noqa: S608 - a constant
    columns(id=Kind.ID, now=Kind.INT, never=Kind.INT, unsure=Kind.BOOL),
)

_STALE: Final = Query("SELECT id, carrier_id FROM digests WHERE due_at < $1 ORDER BY due_at LIMIT $2 {lock skip}")

_WAITING: Final = Batch(
    """
    SELECT i.digest_id, q.delivery_id FROM v
    JOIN digest_items AS i ON i.digest_id = v.id JOIN queue AS q ON q.delivery_id = i.delivery_id
    """,
    _ID,
)

_DELETE: Final = Batch("DELETE FROM digests WHERE id IN (SELECT id FROM v)", _ID)

_OF_RETRIED: Final = Batch(
    "SELECT v.id, i.digest_id, i.key FROM v JOIN digest_items AS i ON i.delivery_id = v.retry_of",
    columns(id=Kind.ID, retry_of=Kind.ID),
)

_TAKE_ALONG: Final = Batch(
    """
    UPDATE digest_items SET digest_id = v.new_id
    FROM v, deliveries AS d
    WHERE digest_items.digest_id = v.old_id AND d.id = digest_items.delivery_id
      AND d.status = 'skipped' AND d.reason = 'digest'
    """,
    columns(old_id=Kind.ID, new_id=Kind.ID),
)


class Asking(NamedTuple):
    """A delivery that joins a digest, and when it asks."""

    delivery_id: UUID
    join: Joining
    now: int


def join(conn: Connection, asked: Sequence[Asking], *, books: Books) -> Mapping[UUID, int]:
    """Put deliveries into their digests, opening those that are not open; answers when each is due."""
    if not asked:
        return {}
    keys = [_key(books, one.join.name) for one in asked]
    first: dict[bytes, Asking] = {}
    for key, one in zip(keys, asked, strict=True):
        before = first.get(key)
        if before is None or one.join.due_at < before.join.due_at:
            first[key] = one
    # Sorted, so that two transactions that meet in several digests wait for each other in one direction only.
    rows = [(books.ids.new(one.now), key, one.now, one.join.due_at) for key, one in sorted(first.items())]
    found = {bytes(key): (uuid_of(id_), due_at) for key, id_, due_at in run(conn, _OPEN, rows)}
    items = sorted((one.delivery_id, found[key][0], key) for key, one in zip(keys, asked, strict=True))
    run(conn, _JOIN, items)
    return {one.delivery_id: found[key][1] for key, one in zip(keys, asked, strict=True)}


def rejoin(conn: Connection, retried: Mapping[UUID, UUID], now: int, *, books: Books) -> None:
    """Make what is sent again, by what it repeats, a digest again where it was one: at once, and of its own."""
    rows = run(conn, _OF_RETRIED, sorted(retried.items()))
    keys = sorted({bytes(row[2]) for row in rows})
    made = dict(zip(keys, books.ids.many(now, len(keys)), strict=True)) if keys else {}
    run(conn, _OPEN, [(made[key], None, now, now) for key in keys])
    run(conn, _JOIN, sorted((uuid_of(row[0]), made[bytes(row[2])], bytes(row[2])) for row in rows))
    run(conn, _TAKE_ALONG, sorted({(uuid_of(row[1]), made[bytes(row[2])]) for row in rows}))


def due(conn: Connection, names: Sequence[str], *, books: Books) -> list[int | None]:
    """Tell when open digests are due, in order."""
    keys = [_key(books, name) for name in names]
    found = {bytes(key): due_at for key, due_at in run(conn, _DUE, sorted({(key,) for key in keys}))}
    return [found.get(key) for key in keys]


def gather(conn: Connection, asked: Sequence[Gathering]) -> list[Gathered | None]:
    """Let one delivery of each digest carry it; answers each what it carries, or that another does."""
    ids = sorted({one.digest_id for one in asked})
    carriers = {uuid_of(row[0]): None if row[1] is None else uuid_of(row[1]) for row in run(conn, _LOCK, _each(ids))}
    waiting: defaultdict[UUID, dict[UUID, Values]] = defaultdict(dict)
    for row in run(conn, _LOCK_QUEUE, _each(ids)):
        waiting[uuid_of(row[0])][uuid_of(row[1])] = row
    holding = [_holds(one, waiting[one.digest_id]) for one in asked]
    chosen: dict[UUID, UUID] = {}
    for one, holds in zip(asked, holding, strict=True):
        if not holds or one.digest_id not in carriers:
            continue
        before = carriers[one.digest_id]
        if before is None or before not in waiting[one.digest_id]:
            chosen[one.digest_id] = min(one.delivery_id, chosen.get(one.digest_id, one.delivery_id))
        elif before == one.delivery_id:
            chosen[one.digest_id] = before
    run(conn, _CARRY, sorted(chosen.items()))
    taken = sorted(id_ for digest, carrier in chosen.items() for id_ in waiting[digest] if id_ != carrier)
    run(conn, _TAKE, [(id_, CARRIED, NEVER) for id_ in taken])
    contents = _contents(conn, chosen, waiting, {one.digest_id: one.most for one in asked})
    answers: list[Gathered | None] = []
    for one, holds in zip(asked, holding, strict=True):
        if holds and one.digest_id not in carriers:
            answers.append(Gathered(items=(), count=1))  # its digest is done: it came too late, and goes alone
        else:
            carries = holds and chosen.get(one.digest_id) == one.delivery_id
            answers.append(contents[one.digest_id] if carries else None)
    return answers


def hold_carried(conn: Connection, carriers: Sequence[UUID]) -> list[UUID]:
    """Lock the digests that these deliveries carry: before the queue, by whoever may end them."""
    return [uuid_of(row[0]) for row in run(conn, _CARRIED_BY, _each(carriers))]


def free(conn: Connection, ended: Sequence[UUID], now: int, *, unsure: bool = False) -> None:
    """Let others carry the digests of deliveries that have just ended without sending them.

    `unsure`: those may have gone out after all, and what they carried with them.
    """
    pass_on(conn, hold_carried(conn, sorted(ended)), now, unsure=unsure)


def pass_on(conn: Connection, ids: Sequence[UUID], now: int, *, unsure: bool = False) -> None:
    """Make what waits behind the carriers of these digests due."""
    run(conn, _WITHOUT_CARRIER, _each(ids))
    run(conn, _FREE, [(id_, now, NEVER, unsure) for id_ in ids])


def delete(conn: Connection, ids: Iterable[UUID]) -> None:
    """Forget digests that are sent."""
    run(conn, _DELETE, _each(sorted(ids)))


def look_again(conn: Connection, now: int, limit: int) -> int:
    """Forget digests in which nothing waits any more, and let others carry those whose carrier is gone unnoticed."""
    rows = {uuid_of(row[0]): row[1] for row in ask(conn, _STALE, now - _STALE_MS, limit)}
    waiting: defaultdict[UUID, set[UUID]] = defaultdict(set)
    for digest, delivery in run(conn, _WAITING, _each(sorted(rows))):
        waiting[uuid_of(digest)].add(uuid_of(delivery))
    empty = [id_ for id_ in rows if id_ not in waiting]
    delete(conn, empty)
    orphans = [
        id_ for id_, carrier in rows.items() if id_ in waiting and carrier and uuid_of(carrier) not in waiting[id_]
    ]
    pass_on(conn, sorted(orphans), now)
    return len(empty) + len(orphans)


def _holds(asked: Gathering, waiting: Mapping[UUID, Values]) -> bool:
    row = waiting.get(asked.delivery_id)
    return row is not None and row[2] == asked.token and row[3] not in {None, CARRIED}


def _contents(
    conn: Connection,
    chosen: Mapping[UUID, UUID],
    waiting: Mapping[UUID, Mapping[UUID, Values]],
    most: Mapping[UUID, int],
) -> dict[UUID, Gathered]:
    """Load what the chosen digests consist of, those included that a digest which is sent again had carried before."""
    members: dict[UUID, set[UUID]] = {digest: set(waiting[digest]) for digest in chosen}
    for digest, delivery in run(conn, _ALREADY_CARRIED, _each(sorted(chosen))):
        members[uuid_of(digest)].add(uuid_of(delivery))
    shown = {digest: sorted(ids)[-most[digest] :] for digest, ids in members.items() if len(ids) > 1}
    wanted = sorted({id_ for ids in shown.values() for id_ in ids})
    items = {uuid_of(row[0]): _item(row) for row in run(conn, _ITEMS, _each(wanted))}
    return {
        digest: Gathered(items=tuple(items[id_] for id_ in shown.get(digest, ()) if id_ in items), count=len(ids))
        for digest, ids in members.items()
    }


def _item(row: Values) -> DigestItem:
    return DigestItem(
        delivery_id=uuid_of(row[0]),
        notification_id=uuid_of(row[1]),
        reference=row[2],
        template_version=row[3],
        created_at=row[4],
        request=None if row[5] is None else bytes(row[5]),
        recipient=bytes(row[6]),
    )


def _key(books: Books, name: str) -> bytes:
    return books.hide("(digest)", name)


def _each(ids: Iterable[UUID]) -> list[Values]:
    return [(id_,) for id_ in ids]
