"""Calling back what is not yet sent.

Owns `cancellations` and how waiting deliveries end by rule. A delivery in a worker's hands goes on; everything else
that waits ends `cancelled`, or `unknown` where an earlier attempt's answer was lost.

The first transaction marks the notification: from then on nothing more of it is planned (`topics.stop`) or handed to a
worker (`claiming`). Its deliveries are then walked through in the order of their places, a slice to a transaction, so
that others come between. Whoever cancels walks; if that process is gone, upkeep goes on where it was. The mark stays
for as long as something was met in a worker's hands, since that may come back to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.inbox import INBOX
from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage import digests, ledger, topics
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, run, uuid_of
from gateway.storage.contract import Cancelled
from gateway.storage.ledger import Books

SLICE: Final = 250
"""Deliveries of one transaction: some tens of milliseconds on SQLite, where others wait for it."""

LEASE_MS: Final = 15_000
"""How long upkeep leaves a cancellation to whoever is at it: a slice takes a second at the very most."""

_LOOK_AGAIN_MS: Final = 5_000
_LOOK_LATE_MS: Final = 3_600_000
"""How soon and how rarely what was in a worker's hands is looked at again; between them as long as it has lasted. What
comes due meanwhile has its claim say so."""

_NOBODY: Final = UUID(int=0)

LOST: Final = "cancelled after an attempt whose answer was lost"

_MARK: Final = Query(
    """
    INSERT INTO cancellations (notification_id, at, position, last_id, sent, busy, look_at)
    VALUES ($1, $2, 0, $3, FALSE, FALSE, $4)
    ON CONFLICT (notification_id) DO UPDATE SET at = excluded.at, look_at = excluded.look_at
    """,
)

_HOLD: Final = Query("SELECT c.at FROM cancellations AS c WHERE c.notification_id = $1 {lock c}")

_DUE: Final = Query(
    """
    SELECT notification_id, at, position, last_id, sent, busy FROM cancellations
    WHERE look_at <= $1 ORDER BY look_at LIMIT 1 {lock skip}
    """,
)

_CAME_TO: Final = Query(
    """
    UPDATE cancellations SET position = $1, last_id = $2, sent = $3, busy = $4, look_at = $5
    WHERE notification_id = $6
    """,
)

_DONE: Final = Query("DELETE FROM cancellations WHERE notification_id = $1")

_NEXT: Final = Query(
    """
    SELECT d.id, d.position FROM deliveries AS d
    WHERE d.notification_id = $1 AND d.position >= $2 AND (d.position > $2 OR d.id > $3)
    ORDER BY d.position, d.id LIMIT $4
    """,
)

_LOCK_WAITING: Final = Batch(
    """
    SELECT q.delivery_id, q.leased_by IS NOT NULL, q.due_at, q.unsure, q.losses
    FROM v JOIN queue AS q ON q.delivery_id = v.id
    ORDER BY q.delivery_id {lock q}
    """,
    columns(id=Kind.ID),
)

_STANDING: Final = Batch(
    """
    SELECT d.id, d.status, d.project, d.channel, d.provider, d.retry_of IS NOT NULL, d.created_at
    FROM v JOIN deliveries AS d ON d.id = v.id
    """,
    columns(id=Kind.ID),
)

_LEAVE_QUEUE: Final = Batch("DELETE FROM queue WHERE delivery_id IN (SELECT id FROM v)", columns(id=Kind.ID))

_END: Final = Batch(
    """
    UPDATE deliveries SET status = v.status, final = TRUE, reason = v.reason, detail = v.detail, updated_at = v.now
    FROM v WHERE deliveries.id = v.id
    """,
    columns(id=Kind.ID, status=Kind.TEXT, reason=Kind.TEXT, detail=Kind.TEXT, now=Kind.INT),
)

_CLOSE: Final = Query(
    "UPDATE notifications SET open_deliveries = open_deliveries - $1, updated_at = $2 WHERE id = $3"
    " RETURNING open_deliveries",
)

_FINISH: Final = Query("UPDATE notifications SET state = $1 WHERE id = $2")

_SENT_BEYOND: Final = Query(
    """
    SELECT d.id FROM deliveries AS d
    WHERE d.notification_id = $1 AND d.position >= $2 AND (d.position > $2 OR d.id > $3)
        AND d.status NOT IN ('cancelled', 'skipped', 'expired')
    LIMIT 1
    """,
)

_NEVER_SENT: Final = frozenset({Status.CANCELLED, Status.SKIPPED, Status.EXPIRED})


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """How far a cancellation has come through its notification's deliveries, and what was met on the way."""

    notification_id: UUID
    at: int
    position: int = 0
    last_id: UUID = _NOBODY
    sent: bool = False
    busy: bool = False


class Part(NamedTuple):
    """What became of one slice, delivery by delivery; `rest` is the walk that goes on, if it does."""

    told: list[Cancelled]
    rest: Walk | None


def begin(conn: Connection, notification_id: UUID, now: int, most: int, *, books: Books) -> Part:
    """Mark a notification as called back and walk through its first deliveries. Repeatable."""
    stopped = topics.stop(conn, notification_id)  # first, so that no slice of subscribers follows unseen
    ask(conn, _MARK, notification_id, now, _NOBODY, now + LEASE_MS)
    walk = Walk(notification_id=notification_id, at=now)
    return _step(conn, walk, now, most, stopped=stopped, look_at=now + LEASE_MS, books=books)


def go_on(conn: Connection, walk: Walk, now: int, most: int, *, books: Books) -> Part:
    """Walk through the next deliveries."""
    ask(conn, _HOLD, walk.notification_id)
    return _step(conn, walk, now, most, stopped=False, look_at=now + LEASE_MS, books=books)


def look_again(conn: Connection, now: int, most: int, *, books: Books) -> int:
    """Go on with a cancellation that nobody is at, by a slice; answers how many deliveries were looked at."""
    rows = ask(conn, _DUE, now)
    if not rows:
        return 0
    id_, at, position, last_id, sent, busy = rows[0]
    walk = Walk(
        notification_id=uuid_of(id_),
        at=at,
        position=position,
        last_id=uuid_of(last_id),
        sent=bool(sent),
        busy=bool(busy),
    )
    return len(_step(conn, walk, now, most, stopped=False, look_at=now, books=books).told)


def end(
    conn: Connection,
    deliveries: Sequence[UUID],
    status: Status,
    why: Why,
    now: int,
    *,
    details: Mapping[UUID, str] | None = None,
) -> None:
    """End waiting deliveries by rule: out of the queue, final. The digest that one of them carries goes to another."""
    words = details or {}
    end_each(conn, [(id_, status, why, words.get(id_), now) for id_ in deliveries])
    digests.free(conn, deliveries, now, unsure=status is Status.UNKNOWN)


def end_each(conn: Connection, ending: Sequence[tuple[UUID, Status, str | None, str | None, int]]) -> None:
    """End waiting deliveries, each with its own (id, status, reason, detail, time)."""
    ordered = sorted(ending)
    run(conn, _LEAVE_QUEUE, [(one[0],) for one in ordered])
    run(conn, _END, ordered)


def _step(conn: Connection, walk: Walk, now: int, most: int, *, stopped: bool, look_at: int, books: Books) -> Part:
    found = ask(conn, _NEXT, walk.notification_id, walk.position, walk.last_id, most)
    order = [uuid_of(row[0]) for row in found]
    ids = [(id_,) for id_ in sorted(order)]
    digests.hold_carried(conn, sorted(order))
    queued = {uuid_of(row[0]): row for row in run(conn, _LOCK_WAITING, ids)}
    rows = {uuid_of(row[0]): row for row in run(conn, _STANDING, ids)}  # read behind the locks: nothing changes now
    rows = {id_: rows[id_] for id_ in order if id_ in rows}
    ending = {id_: status for id_, row in rows.items() if (status := _ends(row, queued.get(id_), walk.at, now))}
    in_hand = {id_ for id_, row in queued.items() if row[1] and id_ not in ending}
    told = [_told(id_, row, ending.get(id_), in_hand=id_ in in_hand) for id_, row in rows.items()]
    walk = msgspec.structs.replace(
        walk,
        position=found[-1][1] if found else walk.position,
        last_id=order[-1] if order else walk.last_id,
        sent=walk.sent or any(one.status not in _NEVER_SENT for one in told),
        busy=walk.busy or bool(in_hand),
    )
    if ending or stopped:
        _end_all(conn, walk, {id_: (rows[id_], status) for id_, status in ending.items()}, now, stopped, books)
    return Part(told, _further(conn, walk, now, look_at, over=len(order) < most))


def _ends(row: Values, queued: Values | None, at: int, now: int) -> Status | None:
    """Say how a delivery ends that is called back; `None`: it is final, goes on, or was asked for after that."""
    if queued is None or (row[5] and row[6] > at):
        return None
    _, leased, due_at, unsure, losses = queued
    if leased and due_at > now:
        return None
    lost = leased or losses
    return Status.UNKNOWN if unsure or (lost and row[3] != INBOX) else Status.CANCELLED


def _told(id_: UUID, row: Values, ended: Status | None, *, in_hand: bool) -> Cancelled:
    status = ended or (Status.SENDING if in_hand else Status(row[1]))
    return Cancelled(delivery_id=id_, status=status, changed=ended is not None)


def _end_all(
    conn: Connection,
    walk: Walk,
    ending: Mapping[UUID, tuple[Values, Status]],
    now: int,
    stopped: bool,  # noqa: FBT001 - of one private place
    books: Books,
) -> None:
    lost = {id_: LOST for id_, (_, status) in ending.items() if status is Status.UNKNOWN}
    end(conn, [id_ for id_ in ending if id_ not in lost], Status.CANCELLED, Why.CANCELLED, now)
    end(conn, list(lost), Status.UNKNOWN, Why.CANCELLED, now, details=lost)
    left = ask(conn, _CLOSE, len(ending) + stopped, now, walk.notification_id)
    entries = [
        ledger.Entry(
            notification_id=walk.notification_id,
            delivery_id=id_,
            project=row[2],
            channel=row[3],
            provider=row[4],
            status=status,
            reason=Why.CANCELLED,
            detail=lost.get(id_),
            at=now,
            closed=False,  # closed above, since only here may the notification end as cancelled
        )
        for id_, (row, status) in sorted(ending.items())
    ]
    ledger.record(conn, books, entries)
    if left and left[0][0] <= 0:
        sent = walk.sent or ask(conn, _SENT_BEYOND, walk.notification_id, walk.position, walk.last_id)
        state = NotificationStatus.COMPLETED if sent else NotificationStatus.CANCELLED
        ask(conn, _FINISH, state, walk.notification_id)
        ledger.finish(conn, books, walk.notification_id, state, now)


def _further(conn: Connection, walk: Walk, now: int, look_at: int, *, over: bool) -> Walk | None:
    """Write down how far the walk has come; at its end, begin anew later if anything was in a worker's hands."""
    id_ = walk.notification_id
    if not over:
        ask(conn, _CAME_TO, walk.position, walk.last_id, walk.sent, walk.busy, look_at, id_)
        return walk
    if walk.busy:
        again = now + min(max(now - walk.at, _LOOK_AGAIN_MS), _LOOK_LATE_MS)
        ask(conn, _CAME_TO, 0, _NOBODY, False, False, again, id_)  # noqa: FBT003 - values of a statement
    else:
        ask(conn, _DONE, id_)
    return None
