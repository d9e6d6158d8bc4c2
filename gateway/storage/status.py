"""What providers report later: applied in any order, however often, before or after the settlement.

Owns the rule of what a report changes (`moved`, pure) and the waiting room for reports that come too early. Refuses to
know how a report was proven genuine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.addresses import list_key
from gateway.model.states import FINAL, Engagement, Status, Why, may_follow
from gateway.storage import ledger, people, preferences, suppressions, turns, wishes
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import Scope, StatusChange, SuppressionRow, Wish
from gateway.storage.contract.wishes import place_of
from gateway.storage.ledger import Books

_LOOK_AGAIN_MS: Final = 60_000
"""How soon upkeep looks for the delivery of an early report again, should its settlement have missed it."""

_LOOK_LATE_MS: Final = 3_600_000
"""How rarely it looks at the most: a report about somebody else's message never finds one."""

_STATUSES: Final = frozenset(status.value for status in Status)
_ENGAGEMENTS: Final = frozenset(engagement.value for engagement in Engagement)
_NOT_ARRIVED: Final = frozenset({Status.BOUNCED.value, Status.FAILED.value})
_RESUBSCRIBED: Final = "resubscribed"
_WORDS: Final = frozenset({Engagement.UNSUBSCRIBED.value, _RESUBSCRIBED})
_HARD: Final = frozenset({Why.ADDRESS_DEAD})
"""A bounce for one of these says that the address will never work. Any other bounce says nothing about the address."""

_PLACE: Final = columns(place=Kind.INT, provider_id=Kind.TEXT, provider=Kind.TEXT)

_FIND_BY_PROVIDER_ID: Final = Batch(
    """
    SELECT v.place, a.delivery_id FROM v
    JOIN attempts AS a ON a.provider_id = v.provider_id AND a.provider = v.provider
    """,
    _PLACE,
)

_LOCK_QUEUE: Final = Batch(
    """
    SELECT q.delivery_id, q.leased_by IS NOT NULL FROM v JOIN queue AS q ON q.delivery_id = v.id
    ORDER BY q.delivery_id {lock q}
    """,
    columns(id=Kind.ID),
)

_LOCK_DELIVERIES: Final = Batch(
    """
    SELECT d.id, d.notification_id, d.project, d.channel, d.address, d.provider, d.status, d.final, d.reason, d.detail,
           d.engagement, d.user_id, d.position, d.step, d.category
    FROM v JOIN deliveries AS d ON d.id = v.id
    ORDER BY d.id {lock d}
    """,
    columns(id=Kind.ID),
)

_ADDRESSES: Final = Batch(
    "SELECT d.id, d.channel, d.address FROM v JOIN deliveries AS d ON d.id = v.id",
    columns(id=Kind.ID),
)

_UPDATE: Final = Batch(
    """
    UPDATE deliveries
    SET status = v.status, final = v.final, reason = v.reason, detail = v.detail, engagement = v.engagement,
        updated_at = v.now
    FROM v
    WHERE deliveries.id = v.id
    """,
    columns(
        id=Kind.ID,
        status=Kind.TEXT,
        final=Kind.BOOL,
        reason=Kind.TEXT,
        detail=Kind.TEXT,
        engagement=Kind.TEXT,
        now=Kind.INT,
    ),
)

_LEAVE_QUEUE: Final = Batch("DELETE FROM queue WHERE delivery_id IN (SELECT id FROM v)", columns(id=Kind.ID))

_AWAIT: Final = insert_into(
    "awaiting_receipt",
    columns(delivery_id=Kind.ID, since=Kind.INT),
    "ON CONFLICT (delivery_id) DO NOTHING",
)

_STOP_WAITING: Final = Batch(
    "DELETE FROM awaiting_receipt WHERE delivery_id IN (SELECT id FROM v)",
    columns(id=Kind.ID),
)

_CHANGE: Final = columns(
    provider=Kind.TEXT,
    told_by=Kind.TEXT,
    type=Kind.TEXT,
    id=Kind.ID,
    provider_id=Kind.TEXT,
    delivery_id=Kind.ID,
    reason=Kind.TEXT,
    detail=Kind.TEXT,
    at=Kind.INT,
    due_at=Kind.INT,
    address=Kind.TEXT,
    sender=Kind.TEXT,
    look_at=Kind.INT,
    received_at=Kind.INT,
)

_KEEP: Final = insert_into(
    "status_changes",
    _CHANGE,
    "ON CONFLICT (provider, told_by, type) DO UPDATE SET look_at = excluded.look_at",
)

_CHANGE_NAMES: Final = (
    "c.id, c.provider, c.provider_id, c.delivery_id, c.type, c.reason, c.detail, c.at, c.due_at, c.address, c.sender"
)

_ANY_EARLY: Final = Query("SELECT 1 FROM status_changes LIMIT 1")

_EARLY_BY_DELIVERY: Final = Batch(
    f"SELECT {_CHANGE_NAMES} FROM v JOIN status_changes AS c ON c.delivery_id = v.id WHERE c.due_at <= v.now",  # noqa: S608 - a constant
    columns(id=Kind.ID, now=Kind.INT),
)

_EARLY_BY_PROVIDER_ID: Final = Batch(
    f"""
    SELECT {_CHANGE_NAMES} FROM v
    JOIN status_changes AS c ON c.provider = v.provider AND c.told_by = v.provider_id
    WHERE c.due_at <= v.now
    """,  # noqa: S608 - a constant
    columns(provider=Kind.TEXT, provider_id=Kind.TEXT, now=Kind.INT),
)

_TO_LOOK_AT: Final = Query(
    f"""
    SELECT {_CHANGE_NAMES} FROM status_changes AS c
    WHERE c.look_at <= $1 ORDER BY c.look_at LIMIT $2 {{lock skip}}
    """,  # noqa: S608 - a constant
)

_DELETE: Final = Batch(
    "DELETE FROM status_changes WHERE (provider, told_by, type) IN (SELECT provider, told_by, type FROM v)",
    columns(provider=Kind.TEXT, told_by=Kind.TEXT, type=Kind.TEXT),
)


class Standing(NamedTuple):
    """A delivery as far as reports are concerned."""

    id: UUID
    notification_id: UUID
    project: str
    channel: str
    address: str | None
    provider: str | None
    status: Status
    final: bool
    reason: str | None
    detail: str | None
    engagement: tuple[str, ...]
    user_id: str | None
    category: str
    chain: tuple[int, int] | None = None
    """Its position and step, where several channels go in turn."""

    @property
    def key(self) -> str | None:
        """The address as lists are looked up."""
        return None if self.address is None else list_key(self.channel, self.address)


def moved(standing: Standing, change: StatusChange) -> Standing | None:
    """Decide what a report makes of a delivery; `None` when it changes nothing.

    A status only ever moves upwards, an engagement joins the set, everything else (`deferred`) is news without effect.
    """
    if change.type in _STATUSES:
        after = Status(change.type)
        if not may_follow(standing.status, after):
            return None
        return standing._replace(
            status=after,
            final=standing.final or after in FINAL,
            reason=change.reason,
            detail=change.detail,
        )
    if change.type in _ENGAGEMENTS and change.type not in standing.engagement:
        return standing._replace(engagement=(*standing.engagement, change.type))
    return None


def suppression_of(standing: Standing, change: StatusChange, simulator: str) -> SuppressionRow | None:
    """Decide whether a report means that the address is never written to again, or not by one sender."""
    if standing.key is None or simulator in (change.provider, standing.provider):
        return None
    sender = None
    if change.type == Engagement.COMPLAINED:
        reason = Why.COMPLAINED
    elif change.type == Status.BOUNCED and change.reason in _HARD:
        reason = Why.ADDRESS_DEAD
    elif change.type in _NOT_ARRIVED and change.reason is Why.OPTED_OUT and change.sender is not None:
        reason, sender = Why.OPTED_OUT, change.sender
    else:
        return None
    return SuppressionRow(
        channel=standing.channel,
        address=standing.key,
        sender=sender,
        reason=reason,
        source=change.provider,
        detail=change.detail,
        created_at=change.at,
    )


def wish_of(standing: Standing, change: StatusChange, simulator: str) -> Wish | None:
    """Decide whether a report is a word about the delivery's category: no more of it, or again."""
    if standing.key is None or simulator in (change.provider, standing.provider) or change.type not in _WORDS:
        return None
    return Wish(
        channel=standing.channel,
        address=standing.key,
        scope=Scope.CATEGORY,
        name=standing.category,
        stopped=change.type == Engagement.UNSUBSCRIBED,
        source=change.provider,
        detail=change.detail,
        at=change.at,
    )


def apply_status(
    conn: Connection,
    changes: Sequence[StatusChange],
    now: int,
    *,
    books: Books,
    due: set[str],
) -> int:
    """Apply what can be applied, keep what comes too early; answers how many reports changed something.

    The lanes in which something came due by it are added to `due`.
    """
    good, early = _sort_out(conn, [change for change in changes if change.due_at <= now])
    early = _of_recipients(conn, early)
    later = [(change, change.due_at) for change in changes if change.due_at > now]
    _keep(conn, [*later, *((change, now + _LOOK_AGAIN_MS) for change in early)], now)
    return _apply(conn, good, now, books=books, due=due)


def apply_due(
    conn: Connection,
    now: int,
    limit: int,
    *,
    books: Books,
    due: set[str],
) -> tuple[int, int]:
    """Look at kept reports whose time has come; answers how many were looked at and how many changed something."""
    changes = [_change(row) for row in ask(conn, _TO_LOOK_AT, now, limit)]
    good, early = _sort_out(conn, changes)
    _delete(conn, [change for _, change in good])
    _keep(conn, [(change, now + min(max(now - change.at, _LOOK_AGAIN_MS), _LOOK_LATE_MS)) for change in early], now)
    return len(changes), _apply(conn, good, now, books=books, due=due)


def catch_up(
    conn: Connection,
    settled: Sequence[tuple[UUID, str | None, str | None]],
    now: int,
    *,
    books: Books,
    due: set[str],
) -> None:
    """Apply the reports that arrived before these settlements (delivery, provider, provider's id)."""
    if not ask(conn, _ANY_EARLY):
        return
    by_provider_id = {(provider, theirs): id_ for id_, provider, theirs in settled if provider and theirs}
    early: list[tuple[UUID, StatusChange]] = []
    for row in run(conn, _EARLY_BY_DELIVERY, [(id_, now) for id_, _, _ in settled]):
        change = _change(row)
        if change.delivery_id is not None:
            early.append((change.delivery_id, change))
    for row in run(conn, _EARLY_BY_PROVIDER_ID, [(*pair, now) for pair in sorted(by_provider_id)]):
        change = _change(row)
        if change.delivery_id is None:
            early.append((by_provider_id[change.provider, change.provider_id or ""], change))
    if early:
        _delete(conn, [change for _, change in early])
        _apply(conn, early, now, books=books, due=due)


def await_receipts(conn: Connection, sent: Sequence[tuple[UUID, int]]) -> None:
    """Note that receipts are expected (delivery, since)."""
    run(conn, _AWAIT, sent)


def stop_waiting(conn: Connection, deliveries: Sequence[UUID]) -> None:
    """Expect no more receipts for these."""
    run(conn, _STOP_WAITING, [(id_,) for id_ in deliveries])


def _sort_out(
    conn: Connection,
    changes: Sequence[StatusChange],
) -> tuple[list[tuple[UUID, StatusChange]], list[StatusChange]]:
    """Tell reports whose delivery is settled from those that come too early.

    One that is not found may belong to a message whose settlement is on its way, or to somebody else's.
    """
    found = _find(conn, changes)
    leased = _leased(conn, found.values())
    good: list[tuple[UUID, StatusChange]] = []
    early: list[StatusChange] = []
    for place, change in enumerate(changes):
        id_ = found.get(place)
        if id_ is None or id_ in leased:
            early.append(change)
        else:
            good.append((id_, change))
    return good, early


def _find(conn: Connection, changes: Sequence[StatusChange]) -> dict[int, UUID]:
    """Find each report's delivery, by place."""
    found = {place: change.delivery_id for place, change in enumerate(changes) if change.delivery_id is not None}
    wanted = [
        (place, change.provider_id, change.provider)
        for place, change in enumerate(changes)
        if change.delivery_id is None and change.provider_id is not None
    ]
    found.update((place, uuid_of(id_)) for place, id_ in run(conn, _FIND_BY_PROVIDER_ID, wanted))
    return found


def _of_recipients(conn: Connection, changes: Sequence[StatusChange]) -> list[StatusChange]:
    """Leave out what names a delivery that is not there, or is about somebody else than its recipient (a copy's).

    What is kept for later is kept once for each delivery and kind: a copy's bounce must not take the place of its own.
    """
    wanted = sorted({change.delivery_id for change in changes if change.delivery_id is not None})
    keys = {
        uuid_of(row[0]): None if row[2] is None else list_key(row[1], row[2])
        for row in run(conn, _ADDRESSES, [(id_,) for id_ in wanted])
    }
    return [
        change
        for change in changes
        if change.delivery_id is None
        or (change.delivery_id in keys and change.address in (None, keys[change.delivery_id]))
    ]


def _leased(conn: Connection, deliveries: Iterable[UUID]) -> set[UUID]:
    """Lock the queue rows of these deliveries and tell which are being sent right now."""
    rows = run(conn, _LOCK_QUEUE, [(id_,) for id_ in sorted(set(deliveries))])
    return {uuid_of(id_) for id_, leased in rows if leased}


def _apply(
    conn: Connection,
    changes: Sequence[tuple[UUID, StatusChange]],
    now: int,
    *,
    books: Books,
    due: set[str],
) -> int:
    if not changes:
        return 0
    rows = run(conn, _LOCK_DELIVERIES, [(id_,) for id_ in sorted({id_ for id_, _ in changes})])
    before = {standing.id: standing for standing in map(_standing, rows)}
    after = dict(before)
    entries: list[ledger.Entry] = []
    suppress: list[tuple[str | None, SuppressionRow]] = []
    words: list[tuple[str | None, Wish]] = []
    for id_, told in sorted(changes, key=lambda pair: (pair[1].at, pair[1].id)):
        standing = after.get(id_)
        if standing is None or told.address not in (None, standing.key):
            continue
        # Where its person was erased, a provider's own words may name them.
        change = told if standing.address is not None else msgspec.structs.replace(told, detail=None)
        word = wish_of(standing, change, books.simulator)
        words.extend([] if word is None else [(standing.user_id, word)])
        new = moved(standing, change)
        # A hard bounce may follow a "delivered" that was the receiving server's word, not the mailbox's.
        row = suppression_of(standing, change, books.simulator) if new or standing.status is Status.DELIVERED else None
        suppress.extend([] if row is None else [(standing.user_id, row)])
        if new is not None:
            after[id_] = new
            entries.append(_entry(standing, new, change, now))
    _write(conn, before, after, now)
    beside = suppressions.add(conn, [row for _, row in suppress], books.ids) + _hear(conn, words, books)
    people.retire(conn, suppress)
    ledger.record(conn, books, [*entries, *turns.followers(conn, entries, due)])
    return max(len(entries), beside)


def _hear(conn: Connection, words: Sequence[tuple[str | None, Wish]], books: Books) -> int:
    """Take words about categories in, as words of the addresses and, where a user was written to, of their persons."""
    turned = {place_of(wish): wish for wish in wishes.hear(conn, [word for _, word in words], books.ids)}
    said = [
        (user_id, (word.channel, word.address, word.name), turned[place_of(word)].stopped, turned[place_of(word)].at)
        for user_id, word in words
        if user_id is not None and place_of(word) in turned
    ]
    preferences.heard(conn, said)
    return len(turned)


def _write(conn: Connection, before: Mapping[UUID, Standing], after: Mapping[UUID, Standing], now: int) -> None:
    changed = [standing for id_, standing in sorted(after.items()) if standing != before[id_]]
    run(conn, _UPDATE, [_values(standing, now) for standing in changed])
    stepped = [standing for standing in changed if standing.status != before[standing.id].status]
    # A report about an earlier attempt ends the waiting for the next one.
    run(conn, _LEAVE_QUEUE, [(standing.id,) for standing in stepped])
    stop_waiting(conn, [standing.id for standing in stepped if standing.final])
    await_receipts(conn, [(standing.id, now) for standing in stepped if not standing.final])


def _values(standing: Standing, now: int) -> Values:
    return (
        standing.id,
        standing.status,
        standing.final,
        standing.reason,
        standing.detail,
        ",".join(standing.engagement),
        now,
    )


def _entry(before: Standing, after: Standing, change: StatusChange, now: int) -> ledger.Entry:
    engaged = before.status == after.status
    return ledger.Entry(
        notification_id=after.notification_id,
        delivery_id=after.id,
        project=after.project,
        channel=after.channel,
        provider=after.provider,
        status=after.status,
        reason=change.reason,
        detail=change.detail,
        at=now,
        closed=after.final and not before.final,
        type=f"delivery.{change.type}" if engaged else None,
        chain=after.chain,
    )


def _delete(conn: Connection, changes: Sequence[StatusChange]) -> None:
    run(conn, _DELETE, [(change.provider, _told_by(change), change.type) for change in changes])


def _keep(conn: Connection, changes: Sequence[tuple[StatusChange, int]], now: int) -> None:
    unique = {
        (change.provider, _told_by(change), change.type): (change, look_at) for change, look_at in reversed(changes)
    }
    run(
        conn,
        _KEEP,
        [
            (
                *place,
                change.id,
                change.provider_id,
                change.delivery_id,
                change.reason,
                change.detail,
                change.at,
                change.due_at,
                change.address,
                change.sender,
                look_at,
                now,
            )
            for place, (change, look_at) in sorted(unique.items(), key=lambda item: item[0])
        ],
    )


def _told_by(change: StatusChange) -> str:
    return f"delivery:{change.delivery_id.hex}" if change.delivery_id is not None else change.provider_id or ""


def _standing(row: Sequence[Any]) -> Standing:
    return Standing(
        id=uuid_of(row[0]),
        notification_id=uuid_of(row[1]),
        project=row[2],
        channel=row[3],
        address=row[4],
        provider=row[5],
        status=Status(row[6]),
        final=bool(row[7]),
        reason=row[8],
        detail=row[9],
        engagement=tuple(row[10].split(",")) if row[10] else (),
        user_id=row[11],
        chain=None if row[13] is None else (row[12], row[13]),
        category=row[14],
    )


def _change(row: Sequence[Any]) -> StatusChange:
    return StatusChange(
        id=uuid_of(row[0]),
        provider=row[1],
        provider_id=row[2],
        delivery_id=None if row[3] is None else uuid_of(row[3]),
        type=row[4],
        reason=None if row[5] is None else Why(row[5]),
        detail=row[6],
        at=row[7],
        due_at=row[8],
        address=row[9],
        sender=row[10],
    )
