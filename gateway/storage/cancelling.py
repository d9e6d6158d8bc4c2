"""Calling back what is not yet sent.

Owns `cancel`. A delivery in a worker's hands goes on; everything else that waits ends `cancelled`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage import digests, ledger, topics
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, run, uuid_of
from gateway.storage.contract import Cancelled
from gateway.storage.ledger import Books

_FIND: Final = Query(
    """
    SELECT d.id, d.status, d.project, d.channel, d.provider
    FROM deliveries AS d WHERE d.notification_id = $1 ORDER BY d.position, d.id
    """,
)

_LOCK_WAITING: Final = Query(
    """
    SELECT q.delivery_id, q.leased_by IS NULL FROM deliveries AS d JOIN queue AS q ON q.delivery_id = d.id
    WHERE d.notification_id = $1 ORDER BY q.delivery_id {lock q}
    """,
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
    """
    UPDATE notifications
    SET open_deliveries = open_deliveries - $1, updated_at = $2,
        state = CASE WHEN open_deliveries > $1 THEN state ELSE $3 END
    WHERE id = $4
    RETURNING open_deliveries
    """,
)

_NEVER_SENT: Final = frozenset({Status.CANCELLED, Status.SKIPPED, Status.EXPIRED})


def cancel(conn: Connection, notification_id: UUID, now: int, *, books: Books) -> list[Cancelled]:
    """Cancel what waits; answers every delivery's status, and whether this call changed it."""
    stopped = topics.stop(conn, notification_id)  # first, so that no slice of subscribers follows unseen
    free = {uuid_of(id_): bool(is_free) for id_, is_free in ask(conn, _LOCK_WAITING, notification_id)}
    rows = ask(conn, _FIND, notification_id)
    ending = [row for row in rows if free.get(uuid_of(row[0]))]
    changed = {row[0] for row in ending}
    answers = [
        Cancelled(
            delivery_id=uuid_of(row[0]),
            status=_status_after(row, free, cancelled=row[0] in changed),
            changed=row[0] in changed,
        )
        for row in rows
    ]
    if ending or stopped:
        end(conn, [uuid_of(row[0]) for row in ending], Status.CANCELLED, Why.CANCELLED, now)
        never_sent = all(answer.status in _NEVER_SENT for answer in answers)
        closed = len(ending) + stopped
        _close(conn, notification_id, ending, closed, now, never_sent=never_sent, books=books)
    return answers


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
    digests.free(conn, deliveries, now)


def end_each(conn: Connection, ending: Sequence[tuple[UUID, Status, str | None, str | None, int]]) -> None:
    """End waiting deliveries, each with its own (id, status, reason, detail, time)."""
    ordered = sorted(ending)
    run(conn, _LEAVE_QUEUE, [(one[0],) for one in ordered])
    run(conn, _END, ordered)


def _close(
    conn: Connection,
    notification_id: UUID,
    ending: Sequence[Values],
    closed: int,
    now: int,
    *,
    never_sent: bool,
    books: Books,
) -> None:
    state = NotificationStatus.CANCELLED if never_sent else NotificationStatus.COMPLETED
    left = ask(conn, _CLOSE, closed, now, state, notification_id)
    entries = [
        ledger.Entry(
            notification_id=notification_id,
            delivery_id=uuid_of(row[0]),
            project=row[2],
            channel=row[3],
            provider=row[4],
            status=Status.CANCELLED,
            reason=Why.CANCELLED,
            detail=None,
            at=now,
            closed=False,  # closed above, since only here may the notification end as cancelled
        )
        for row in ending
    ]
    ledger.record(conn, books, entries)
    if left and left[0][0] <= 0:
        ledger.finish(conn, books, notification_id, state, now)


def _status_after(row: Values, free: dict[UUID, bool], *, cancelled: bool) -> Status:
    if cancelled:
        return Status.CANCELLED
    return Status.SENDING if free.get(uuid_of(row[0])) is False else Status(row[1])
