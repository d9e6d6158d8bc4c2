"""Recording what became of claims, many at once.

Owns the fence: a settlement is written only while its token is still the queue's. Everything else follows from the
rows that passed it, in a fixed number of statements whatever the size of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.states import WAITING, Status
from gateway.storage import (
    captured,
    collapsing,
    digest_ends,
    digests,
    inbox,
    ledger,
    people,
    status,
    suppressions,
    turns,
    webhooks,
)
from gateway.storage.bulk import Batch, Kind, Values, columns, insert_into, run, uuid_of
from gateway.storage.contract import AttemptRow, Settlement
from gateway.storage.ledger import Books

_HELD_TOKENS: Final = Batch(
    """
    SELECT q.delivery_id, q.token, d.notification_id, d.project, d.channel, d.user_id, d.position, d.step
    FROM v
    JOIN queue AS q ON q.delivery_id = v.id
    JOIN deliveries AS d ON d.id = v.id
    WHERE q.leased_by IS NOT NULL
    ORDER BY q.delivery_id
    {lock q, d}
    """,
    columns(id=Kind.ID),
)

_UPDATE_DELIVERIES: Final = Batch(
    """
    UPDATE deliveries
    SET status = v.status, final = v.final, reason = v.reason, detail = v.detail,
        provider = coalesce(v.provider, deliveries.provider),
        provider_id = coalesce(v.provider_id, deliveries.provider_id),
        due_at = v.due_at, updated_at = v.now
    FROM v
    WHERE deliveries.id = v.id
    """,
    columns(
        id=Kind.ID,
        status=Kind.TEXT,
        final=Kind.BOOL,
        reason=Kind.TEXT,
        detail=Kind.TEXT,
        provider=Kind.TEXT,
        provider_id=Kind.TEXT,
        due_at=Kind.INT,
        now=Kind.INT,
    ),
)

_INSERT_ATTEMPTS: Final = insert_into(
    "attempts",
    columns(
        delivery_id=Kind.ID,
        number=Kind.INT,
        provider=Kind.TEXT,
        started_at=Kind.INT,
        took_ms=Kind.INT,
        outcome=Kind.TEXT,
        reason=Kind.TEXT,
        detail=Kind.TEXT,
        provider_id=Kind.TEXT,
    ),
)

_WAIT_AGAIN: Final = Batch(
    """
    UPDATE queue
    SET due_at = v.due_at, leased_by = NULL, granted = v.granted, attempts = queue.attempts + v.attempts, losses = 0,
        unsure = v.unsure, counted = v.counted
    FROM v
    WHERE queue.delivery_id = v.id
    """,
    columns(id=Kind.ID, due_at=Kind.INT, granted=Kind.BOOL, attempts=Kind.INT, unsure=Kind.BOOL, counted=Kind.BOOL),
)

_LEAVE_QUEUE: Final = Batch("DELETE FROM queue WHERE delivery_id IN (SELECT id FROM v)", columns(id=Kind.ID))


class Settled(NamedTuple):
    """Whether a settlement was written, and the lanes in which something came due by the batch it was in."""

    kept: bool
    due: frozenset[str] = frozenset()


def settle(
    conn: Connection,
    settlements: Sequence[Settlement],
    *,
    books: Books,
) -> list[Settled]:
    """Write those whose lease is still held; the others answer that they were not, and leave nothing."""
    carriers = digest_ends.lock(conn, settlements)
    held = {
        uuid_of(row[0]): row for row in run(conn, _HELD_TOKENS, [(id_,) for id_ in sorted({s.id for s in settlements})])
    }
    answers: list[bool] = []
    kept: list[tuple[Settlement, Values]] = []
    for settlement in settlements:
        row = held.get(settlement.id)
        good = row is not None and row[1] == settlement.token
        answers.append(good)
        if good and row is not None:
            kept.append((settlement, row))
            del held[settlement.id]
    due = frozenset(_write(conn, _joined(conn, kept, books), carriers, books=books) if kept else ())
    return [Settled(good, due) for good in answers]


def _joined(
    conn: Connection, kept: Sequence[tuple[Settlement, Values]], books: Books
) -> Sequence[tuple[Settlement, Values]]:
    """Put those that wait in a digest from now on into it, and say when it is due."""
    asked = [digests.Asking(one.id, one.join, one.now) for one, _ in kept if one.join is not None]
    if not asked:
        return kept
    due = digests.join(conn, asked, books=books)
    return [(msgspec.structs.replace(one, due_at=due.get(one.id, one.due_at)), row) for one, row in kept]


def leave_queue(conn: Connection, ids: Sequence[UUID]) -> None:
    """Take deliveries out of the queue; those that are not in it are left alone."""
    run(conn, _LEAVE_QUEUE, [(id_,) for id_ in ids])


def _write(
    conn: Connection,
    kept: Sequence[tuple[Settlement, Values]],
    carriers: Mapping[UUID, UUID],
    *,
    books: Books,
) -> set[str]:
    # In the order of ids everywhere, so that two transactions lock rows in the same order.
    ordered = sorted(kept, key=lambda pair: pair[0].id)
    run(conn, _UPDATE_DELIVERIES, [_delivery_values(settlement) for settlement, _ in ordered])
    run(conn, _INSERT_ATTEMPTS, [values for settlement, _ in ordered for values in _attempt_values(settlement)])
    run(conn, _WAIT_AGAIN, [_queue_values(settlement) for settlement, _ in ordered if settlement.status in WAITING])
    leave_queue(conn, [settlement.id for settlement, _ in ordered if settlement.status not in WAITING])
    status.await_receipts(
        conn,
        [(s.id, s.now) for s, _ in ordered if s.status is Status.SENT and not s.final],
    )
    captured.keep(conn, [s.captured for s, _ in ordered if s.captured is not None])
    suppressions.add(
        conn,
        [row for s, _ in ordered for row in (*s.stops, *([] if s.suppress is None else [s.suppress]))],
        books.ids,
    )
    people.retire(conn, [(row[5], s.suppress) for s, row in ordered if s.suppress is not None])
    collapsing.show(conn, [s.shown for s, _ in ordered if s.shown is not None])
    webhooks.report(conn, [(s.endpoint, s.now) for s, _ in ordered if s.endpoint is not None])
    due: set[str] = set()
    entries = [_entry(settlement, row) for settlement, row in ordered]
    entries += digest_ends.settle(conn, carriers, [s for s, _ in ordered], max(s.now for s, _ in ordered), due)
    ledger.record(conn, books, [*entries, *turns.followers(conn, entries, due)])
    status.catch_up(
        conn,
        [(s.id, s.provider, s.provider_id) for s, _ in ordered],
        max(s.now for s, _ in ordered),
        books=books,
        due=due,
    )
    inbox.keep(conn, [s.inbox for s, _ in ordered if s.inbox is not None])  # last: its rows are locked after all others
    return due


def _delivery_values(settlement: Settlement) -> Values:
    return (
        settlement.id,
        settlement.status,
        settlement.final,
        settlement.reason,
        settlement.detail,
        settlement.provider,
        settlement.provider_id,
        settlement.due_at,
        settlement.now,
    )


def _queue_values(settlement: Settlement) -> Values:
    return (
        settlement.id,
        settlement.due_at,
        settlement.granted,
        len(settlement.attempts),
        settlement.unsure,
        settlement.counted,
    )


def _attempt_values(settlement: Settlement) -> list[Values]:
    return [
        (
            settlement.id,
            attempt.number,
            attempt.provider,
            attempt.started_at,
            attempt.took_ms,
            attempt.outcome,
            attempt.reason,
            attempt.detail,
            attempt.provider_id,
        )
        for attempt in _findable(settlement)
    ]


def _findable(settlement: Settlement) -> Sequence[AttemptRow]:
    """Make sure that the provider's id stands on an attempt: that is where a callback is looked up."""
    attempts = settlement.attempts
    if settlement.provider_id is None or not attempts or any(a.provider_id == settlement.provider_id for a in attempts):
        return attempts
    return (*attempts[:-1], msgspec.structs.replace(attempts[-1], provider_id=settlement.provider_id))


def _entry(settlement: Settlement, row: Sequence[Any]) -> ledger.Entry:
    return ledger.Entry(
        notification_id=uuid_of(row[2]),
        delivery_id=settlement.id,
        project=row[3],
        channel=row[4],
        provider=settlement.provider,
        status=settlement.status,
        reason=settlement.reason,
        detail=settlement.detail,
        at=settlement.now,
        closed=settlement.final,
        chain=None if row[7] is None else (row[6], row[7]),
    )
