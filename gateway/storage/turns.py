"""Channels in turn: what waits behind a delivery is let go or called off in the transaction that decides it.

Owns the locking and the writing; `gateway.model.turns` decides. Costs nothing where no delivery of a batch belongs to a
chain. Refuses to know who sends: what has come due is queued, and its lane is named to whoever asked.

Whoever judges a chain first locks the queue rows of what waits in it, in the order of ids, and only then reads how the
chain stands: of two that settle the two addresses of one step at the same time, the second sees what the first wrote.
Rows in a worker's hands are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from gateway.model import ids
from gateway.model.inbox import INBOX
from gateway.model.states import FINAL, Status, Strategy, Why
from gateway.model.turns import NOTICED, Follows, Member, follows
from gateway.storage import cancelling, ledger
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import DeliveryRow
from gateway.storage.ledger import Books, Entry

LOOK_AGAIN_MS: Final = 60_000
"""How soon upkeep looks whether a turn came unnoticed, and how often at first."""

_LOOK_LATE_MS: Final = 3_600_000
"""How rarely it looks at the most."""

_INSERT: Final = insert_into("turns", columns(delivery_id=Kind.ID, budget_ms=Kind.INT, look_at=Kind.INT))

_LOCK_BEHIND: Final = Batch(
    """
    SELECT q.delivery_id FROM v
    JOIN deliveries AS d
        ON d.notification_id = v.notification_id AND d.position = v.position AND d.step > v.step
    JOIN queue AS q ON q.delivery_id = d.id
    WHERE q.leased_by IS NULL AND NOT q.unsure AND q.losses = 0
    ORDER BY q.delivery_id
    {lock q}
    """,
    columns(notification_id=Kind.ID, position=Kind.INT, step=Kind.INT),
)

_STANDING: Final = Batch(
    """
    SELECT d.id, d.step, d.status, d.final, d.reason, d.engagement, d.notification_id, d.position, d.strategy,
           d.project, d.channel, d.lane, d.provider, d.deadline_at, t.budget_ms
    FROM v
    JOIN deliveries AS d ON d.notification_id = v.notification_id AND d.position = v.position
    LEFT JOIN turns AS t ON t.delivery_id = d.id
    WHERE d.step IS NOT NULL
    """,
    columns(notification_id=Kind.ID, position=Kind.INT),
)

_LET_GO: Final = Batch(
    """
    UPDATE deliveries
    SET status = v.status, reason = NULL, detail = v.detail, due_at = v.now, deadline_at = v.deadline_at,
        updated_at = v.now
    FROM v WHERE deliveries.id = v.id
    """,
    columns(id=Kind.ID, status=Kind.TEXT, detail=Kind.TEXT, deadline_at=Kind.INT, now=Kind.INT),
)

_LET_GO_IN_QUEUE: Final = Batch(
    "UPDATE queue SET due_at = v.now, deadline_at = v.deadline_at FROM v WHERE queue.delivery_id = v.id",
    columns(id=Kind.ID, deadline_at=Kind.INT, now=Kind.INT),
)

_TO_LOOK_AT: Final = Query("SELECT delivery_id FROM turns WHERE look_at <= $1 ORDER BY look_at LIMIT $2 {lock skip}")

_LOOKED_AT: Final = Batch(
    """
    SELECT d.id, d.notification_id, d.position, d.step, d.created_at
    FROM v JOIN deliveries AS d ON d.id = v.id
    WHERE d.status = 'held' AND d.reason = 'fallback'
    """,
    columns(id=Kind.ID),
)

_LOOK_LATER: Final = Batch(
    "UPDATE turns SET look_at = v.look_at FROM v WHERE turns.delivery_id = v.id",
    columns(id=Kind.ID, look_at=Kind.INT),
)

_FORGET: Final = Batch("DELETE FROM turns WHERE delivery_id IN (SELECT id FROM v)", columns(id=Kind.ID))


class _Place(NamedTuple):
    """Which chain."""

    notification_id: UUID
    position: int


def keep(conn: Connection, stored: Iterable[tuple[DeliveryRow, int]]) -> None:
    """Note which of the deliveries just stored, each with its time, wait for their turn."""
    run(
        conn,
        _INSERT,
        [
            (row.id, row.turn.budget_ms, at + LOOK_AGAIN_MS)
            for row, at in stored
            if row.turn is not None and row.reason is Why.FALLBACK
        ],
    )


def followers(conn: Connection, entries: Iterable[Entry], due: set[str]) -> list[Entry]:
    """Let go or call off what waits behind deliveries that have just changed; answers what is to be recorded of it.

    The lanes of what came due are added to `due`. To be called when the change is written and nothing is closed yet:
    the ledger's rows are locked last.
    """
    told: dict[_Place, tuple[int, int]] = {}
    for entry in entries:
        if entry.chain is None or not _tells(entry):
            continue
        position, step = entry.chain
        place = _Place(entry.notification_id, position)
        before = told.get(place)
        told[place] = (step, entry.at) if before is None else (min(step, before[0]), max(entry.at, before[1]))
    return _follow(conn, {place: step for place, (step, _) in told.items()}, _latest(told), due) if told else []


def look_again(conn: Connection, now: int, limit: int, *, books: Books, due: set[str]) -> int:
    """Look at chains whose next turn may have come unnoticed; answers how many were looked at."""
    looked = sorted(uuid_of(row[0]) for row in ask(conn, _TO_LOOK_AT, now, limit))
    waiting = {uuid_of(row[0]): row for row in run(conn, _LOOKED_AT, [(id_,) for id_ in looked])}
    steps: dict[_Place, int] = {}
    for row in waiting.values():
        place = _Place(uuid_of(row[1]), row[2])
        steps[place] = min(row[3] - 1, steps.get(place, row[3]))
    later = [(id_, now + min(max(now - row[4], LOOK_AGAIN_MS), _LOOK_LATE_MS)) for id_, row in sorted(waiting.items())]
    run(conn, _LOOK_LATER, later)
    run(conn, _FORGET, [(id_,) for id_ in looked if id_ not in waiting])
    ledger.record(conn, books, _follow(conn, steps, now, due))
    return len(looked)


def _tells(entry: Entry) -> bool:
    """Say whether a change can mean anything for those behind: an end, a later end, or a sign of a person."""
    return entry.closed or entry.status in FINAL or entry.type is not None


def _latest(told: Mapping[_Place, tuple[int, int]]) -> int:
    return max(at for _, at in told.values())


def _follow(conn: Connection, steps: Mapping[_Place, int], now: int, due: set[str]) -> list[Entry]:
    """Judge chains, each from a step on."""
    locked = {
        uuid_of(row[0]) for row in run(conn, _LOCK_BEHIND, sorted((*place, step) for place, step in steps.items()))
    }
    if not locked:
        return []
    chains: defaultdict[_Place, dict[UUID, Values]] = defaultdict(dict)
    for row in run(conn, _STANDING, sorted(tuple(place) for place in steps)):
        chains[_Place(uuid_of(row[6]), row[7])][uuid_of(row[0])] = row
    let_go: dict[UUID, tuple[Values, str]] = {}
    called_off: dict[UUID, tuple[Values, str]] = {}
    for chain in chains.values():
        decided = _judge(chain)
        why = _because(chain, decided)
        let_go.update({id_: (chain[id_], why) for id_ in decided.due if id_ in locked})
        called_off.update({id_: (chain[id_], why) for id_ in decided.not_needed if id_ in locked})
    due.update(row[11] for row, _ in let_go.values())
    return [*_let_go(conn, let_go, now), *_call_off(conn, called_off, now)]


def _judge(chain: Mapping[UUID, Values]) -> Follows:
    strategy = next(Strategy(row[8]) for row in chain.values())
    return follows(strategy, [_member(id_, row) for id_, row in chain.items()])


def _let_go(conn: Connection, chosen: Mapping[UUID, tuple[Values, str]], now: int) -> list[Entry]:
    # The deadline that was asked for stays; the time for retries begins now.
    ordered = [
        (id_, min(row[13], now + row[14]) if row[14] is not None else row[13], row, why)
        for id_, (row, why) in sorted(chosen.items())
    ]
    run(conn, _LET_GO, [(id_, Status.QUEUED, why, deadline, now) for id_, deadline, _, why in ordered])
    run(conn, _LET_GO_IN_QUEUE, [(id_, deadline, now) for id_, deadline, _, _ in ordered])
    return [_entry(id_, row, Status.QUEUED, None, why, now) for id_, _, row, why in ordered]


def _call_off(conn: Connection, chosen: Mapping[UUID, tuple[Values, str]], now: int) -> list[Entry]:
    ordered = sorted(chosen.items())
    details = {id_: why for id_, (_, why) in ordered}
    cancelling.end(conn, list(details), Status.SKIPPED, Why.NOT_NEEDED, now, details=details)
    return [_entry(id_, row, Status.SKIPPED, Why.NOT_NEEDED, why, now) for id_, (row, why) in ordered]


def _because(chain: Mapping[UUID, Values], decided: Follows) -> str:
    """Say which delivery made it so: `email (dlv_…): failed (gave_up)`."""
    if decided.cause is None:
        return "nothing before it is left to wait for"
    row = chain[decided.cause]
    seen = sorted(NOTICED.intersection(row[5].split(",")))
    what = seen[-1] if seen and decided.not_needed else row[2]
    reason = f" ({row[4]})" if row[4] and decided.due else ""
    return f"{row[10]} ({ids.show(ids.DELIVERY, decided.cause)}): {what}{reason}"


def _member(id_: UUID, row: Sequence[Any]) -> Member:
    return Member(
        id=id_,
        step=row[1],
        status=Status(row[2]),
        final=bool(row[3]),
        reason=row[4],
        engagement=frozenset(row[5].split(",")),
        lies=row[10] == INBOX,
    )


def _entry(id_: UUID, row: Values, status: Status, reason: Why | None, detail: str, now: int) -> Entry:
    return Entry(
        notification_id=uuid_of(row[6]),
        delivery_id=id_,
        project=row[9],
        channel=row[10],
        provider=row[12],
        status=status,
        reason=reason,
        detail=detail,
        at=now,
        closed=status in FINAL,
    )
