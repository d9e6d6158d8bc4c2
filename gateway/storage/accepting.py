"""Storing what a 202 promises: notifications, their deliveries and what waits, many at once.

Owns the idempotency keys too, because a key and what it stands for are kept or lost together. Refuses to know plans:
rows come ready-made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.states import WAITING, NotificationStatus
from gateway.storage import collapsing, digests, ledger, suppressions, topics, turns
from gateway.storage.bulk import Batch, Kind, Values, columns, insert_into, run, uuid_of
from gateway.storage.contract import (
    Acceptance,
    AcceptResult,
    AttachmentRow,
    DeliveryRow,
    Gone,
    Idempotency,
    KeyReused,
    NotificationRow,
    Replayed,
    Stored,
    Suppressed,
)
from gateway.storage.ledger import Books

_KEY_COLUMNS: Final = columns(
    key_id=Kind.ID,
    key=Kind.TEXT,
    body_hash=Kind.BYTES,
    answer=Kind.BYTES,
    expires_at=Kind.INT,
    notification_id=Kind.ID,
    now=Kind.INT,
)

_FORGET_KEYS: Final = Batch(
    """
    DELETE FROM idempotency
    WHERE (key_id, key) IN (SELECT key_id, key FROM v) AND expires_at <= (SELECT max(now) FROM v)
    """,
    columns(key_id=Kind.ID, key=Kind.TEXT, now=Kind.INT),
)

_INSERT_KEYS: Final = insert_into(
    "idempotency",
    _KEY_COLUMNS[:-1],
    "ON CONFLICT (key_id, key) DO NOTHING RETURNING key_id, key",
)

_FIND_KEYS: Final = Batch(
    """
    SELECT i.key_id, i.key, i.body_hash, i.answer, i.expires_at FROM v
    JOIN idempotency AS i ON i.key_id = v.key_id AND i.key = v.key
    """,
    columns(key_id=Kind.ID, key=Kind.TEXT),
)

_INSERT_NOTIFICATIONS: Final = insert_into(
    "notifications",
    columns(
        id=Kind.ID,
        project=Kind.TEXT,
        mode=Kind.TEXT,
        category=Kind.TEXT,
        priority=Kind.TEXT,
        template_key=Kind.TEXT,
        template_version=Kind.TEXT,
        reference=Kind.TEXT,
        tags=Kind.BYTES,
        collapse_key=Kind.TEXT,
        has_attachments=Kind.BOOL,
        created_at=Kind.INT,
        send_at=Kind.INT,
        expires_at=Kind.INT,
        open_deliveries=Kind.INT,
    ),
    also={
        "state": f"CASE WHEN v.open_deliveries > 0 THEN '{ledger.OPEN}' ELSE '{NotificationStatus.COMPLETED}' END",
        "updated_at": "v.created_at",
    },
)

_INSERT_REQUESTS: Final = insert_into("requests", columns(notification_id=Kind.ID, request=Kind.BYTES))

_INSERT_TAGS: Final = insert_into("tags", columns(tag=Kind.TEXT, notification_id=Kind.ID), "ON CONFLICT DO NOTHING")

_INSERT_ATTACHMENTS: Final = insert_into(
    "attachments",
    columns(
        notification_id=Kind.ID,
        position=Kind.INT,
        filename=Kind.TEXT,
        content_type=Kind.TEXT,
        content_id=Kind.TEXT,
        content=Kind.BYTES,
    ),
)

_INSERT_DELIVERIES: Final = insert_into(
    "deliveries",
    columns(
        id=Kind.ID,
        notification_id=Kind.ID,
        project=Kind.TEXT,
        category=Kind.TEXT,
        channel=Kind.TEXT,
        lane=Kind.TEXT,
        position=Kind.INT,
        address=Kind.TEXT,
        user_id=Kind.TEXT,
        recipient=Kind.BYTES,
        status=Kind.TEXT,
        final=Kind.BOOL,
        reason=Kind.TEXT,
        detail=Kind.TEXT,
        provider=Kind.TEXT,
        due_at=Kind.INT,
        deadline_at=Kind.INT,
        on_unknown=Kind.TEXT,
        retry_of=Kind.ID,
        created_at=Kind.INT,
        step=Kind.INT,
        strategy=Kind.TEXT,
        address_id=Kind.ID,
    ),
    also={
        "first_status": "v.status",
        "first_reason": "v.reason",
        "first_detail": "v.detail",
        "engagement": "''",
        "updated_at": "v.created_at",
    },
)

_INSERT_QUEUE: Final = insert_into(
    "queue",
    columns(
        delivery_id=Kind.ID,
        lane=Kind.TEXT,
        due_at=Kind.INT,
        deadline_at=Kind.INT,
        leased_by=Kind.TEXT,
    ),
    also={
        "token": "CASE WHEN v.leased_by IS NULL THEN 0 ELSE 1 END",
        "attempts": "0",
        "losses": "0",
        "granted": "FALSE",
        "unsure": "FALSE",
    },
)

_REOPEN: Final = Batch(
    """
    UPDATE notifications
    SET open_deliveries = open_deliveries + v.opened, state = CASE WHEN v.opened > 0 THEN 'open' ELSE state END,
        updated_at = v.now
    FROM v
    WHERE notifications.id = v.id
    RETURNING notifications.id, project, category
    """,
    columns(id=Kind.ID, opened=Kind.INT, now=Kind.INT),
)

_encode = msgspec.json.Encoder().encode


class Placed(NamedTuple):
    """A delivery and the notification it belongs to."""

    row: DeliveryRow
    notification_id: UUID
    project: str
    category: str
    now: int


def weight_of(acceptance: Acceptance) -> int:
    """Estimate the bytes that an acceptance puts into a transaction."""
    return (
        len(acceptance.notification.request)
        + 512 * len(acceptance.deliveries)
        + sum(len(attachment.content) for attachment in acceptance.attachments)
    )


def accept(conn: Connection, acceptances: Sequence[Acceptance], *, books: Books) -> list[AcceptResult]:
    """Store a batch; a key used before, in the database or earlier in the batch, stores nothing."""
    results = _judged(conn, acceptances, books)
    new = [acceptance for acceptance, result in zip(acceptances, results, strict=True) if isinstance(result, Stored)]
    new = gathered(conn, new, books)
    notifications: list[Values] = []
    requests: list[Values] = []
    tags: list[Values] = []
    files: list[Values] = []
    placed: list[Placed] = []
    done: list[tuple[UUID, int]] = []
    for acceptance in new:
        row = acceptance.notification
        # Subscribers who are still to be planned count as one delivery: nobody takes it for completed meanwhile.
        open_deliveries = len([one for one in acceptance.deliveries if not one.final])
        open_deliveries += acceptance.expansion is not None
        notifications.append(_notification_values(row, open_deliveries, has_attachments=bool(acceptance.attachments)))
        requests.append((row.id, row.request))
        if row.tags:
            tags.extend((tag, row.id) for tag in set(row.tags))
        if acceptance.attachments:
            files.extend(_file_values(row.id, place, file) for place, file in enumerate(acceptance.attachments))
        if not open_deliveries:
            done.append((row.id, row.created_at))
        placed += [Placed(one, row.id, row.project, row.category, row.created_at) for one in acceptance.deliveries]
    run(conn, _INSERT_NOTIFICATIONS, notifications)
    run(conn, _INSERT_REQUESTS, requests)
    run(conn, _INSERT_TAGS, tags)
    run(conn, _INSERT_ATTACHMENTS, files)
    entries = insert_deliveries(conn, placed)
    topics.start(conn, new)
    if new:
        collapsed = collapsing.replace(conn, new, max(one.notification.created_at for one in new))
        ledger.record(conn, books, collapsed)
    ledger.record_planned(conn, books, entries, done)
    return results


def gathered(conn: Connection, new: list[Acceptance], books: Books) -> list[Acceptance]:
    """Put what waits in a digest into it, and say when it is due. Costs nothing where nothing does."""
    asked = [
        digests.Asking(row.id, row.join, one.notification.created_at)
        for one in new
        for row in one.deliveries
        if row.join is not None
    ]
    if not asked:
        return new
    due = digests.join(conn, asked, books=books)
    return [
        msgspec.structs.replace(
            one,
            deliveries=tuple(
                msgspec.structs.replace(row, due_at=due.get(row.id, row.due_at)) for row in one.deliveries
            ),
        )
        for one in new
    ]


def recall(
    conn: Connection,
    asked: Sequence[tuple[UUID, str, bytes, int]],
) -> list[AcceptResult | None]:
    """Look (key id, key, body hash, now) up."""
    rows = run(conn, _FIND_KEYS, sorted({(key_id, key) for key_id, key, _, _ in asked}))
    known = {(uuid_of(row[0]), row[1]): row for row in rows}
    answers: list[AcceptResult | None] = []
    for key_id, key, body_hash, now in asked:
        row = known.get((key_id, key))
        live = row is not None and row[4] > now
        answers.append(_compare(row[2], row[3], body_hash) if live and row is not None else None)
    return answers


def add_deliveries(
    conn: Connection,
    rows: Mapping[UUID, Sequence[DeliveryRow]],
    now: int,
    *,
    books: Books,
) -> None:
    """Add deliveries to notifications and open those again. To one that is not there nothing is added."""
    opened = [(id_, sum(not row.final for row in added), now) for id_, added in sorted(rows.items())]
    placed = [
        Placed(row, uuid_of(id_), project, category, now)
        for id_, project, category in run(conn, _REOPEN, opened)
        for row in rows[uuid_of(id_)]
    ]
    entries = insert_deliveries(conn, placed)
    retried = {row.id: row.retry_of for added in rows.values() for row in added if row.retry_of is not None}
    digests.rejoin(conn, retried, now, books=books)
    ledger.record_planned(conn, books, entries, [])


def insert_deliveries(conn: Connection, placed: Sequence[Placed]) -> list[ledger.Entry]:
    """Write deliveries, what waits of them into the queue, and chains; answers what is to be counted, last of all."""
    run(conn, _INSERT_DELIVERIES, [_delivery_values(*one) for one in placed])
    run(conn, _INSERT_QUEUE, [_queue_values(one.row) for one in placed if one.row.status in WAITING])
    turns.keep(conn, [(one.row, one.now) for one in placed if one.row.turn is not None])
    return [_entry(one) for one in placed]


def _judged(conn: Connection, acceptances: Sequence[Acceptance], books: Books) -> list[AcceptResult]:
    """Decide for each acceptance whether it is stored: not if it presumed too much, nor if its key was used."""
    refused = _gone(conn, acceptances) | _presumed_too_much(conn, acceptances, books)
    if not refused:
        return _take_keys(conn, acceptances)
    rest = iter(_take_keys(conn, [one for place, one in enumerate(acceptances) if place not in refused]))
    return [refused[place] if place in refused else next(rest) for place in range(len(acceptances))]


def _presumed_too_much(conn: Connection, acceptances: Sequence[Acceptance], books: Books) -> dict[int, AcceptResult]:
    pairs = [acceptance.presumed_clear for acceptance in acceptances]
    found = suppressions.look_up(conn, pairs, books=books) if any(pairs) else []
    return {place: Suppressed(rows=tuple(rows)) for place, rows in enumerate(found) if rows}


def _gone(conn: Connection, acceptances: Sequence[Acceptance]) -> dict[int, AcceptResult]:
    """Find who was erased between the look-up and now; those who are still there stay until this is committed."""
    named = [{row.user_id for row in one.deliveries if row.user_id is not None} for one in acceptances]
    wanted = sorted(set[str]().union(*named))
    if not wanted:
        return {}
    there = {row[0] for row in run(conn, topics.HOLD_USERS, [(id_,) for id_ in wanted])}
    return {place: Gone(users=frozenset(ids - there)) for place, ids in enumerate(named) if not ids <= there}


def _take_keys(conn: Connection, acceptances: Sequence[Acceptance]) -> list[AcceptResult]:
    """Decide for each acceptance whether it is new, taking the keys of those that are."""
    first: dict[tuple[UUID, str], tuple[Idempotency, NotificationRow]] = {}
    for acceptance in acceptances:
        asked = acceptance.idempotency
        if asked is not None:
            first.setdefault((asked.key_id, asked.key), (asked, acceptance.notification))
    if not first:
        return [Stored()] * len(acceptances)
    # Sorted, so that two transactions that meet in several keys wait for each other in one direction only.
    rows = sorted(
        (key_id, key, asked.body_hash, asked.answer, asked.expires_at, about.id, about.created_at)
        for (key_id, key), (asked, about) in first.items()
    )
    run(conn, _FORGET_KEYS, [(row[0], row[1], row[6]) for row in rows])
    fresh = {(uuid_of(key_id), key) for key_id, key in run(conn, _INSERT_KEYS, [row[:-1] for row in rows])}
    used = [place for place in first if place not in fresh]
    before = {(uuid_of(row[0]), row[1]): row for row in run(conn, _FIND_KEYS, sorted(used))}
    results: list[AcceptResult] = []
    for acceptance in acceptances:
        asked = acceptance.idempotency
        if asked is None:
            results.append(Stored())
            continue
        place = (asked.key_id, asked.key)
        if place in fresh and first[place][0] is asked:
            results.append(Stored())
        elif place in fresh:
            winner = first[place][0]
            results.append(_compare(winner.body_hash, winner.answer, asked.body_hash))
        else:
            results.append(_compare(before[place][2], before[place][3], asked.body_hash))
    return results


def _compare(known_hash: bytes, answer: bytes, body_hash: bytes) -> AcceptResult:
    return Replayed(answer=bytes(answer)) if bytes(known_hash) == body_hash else KeyReused()


def _notification_values(row: NotificationRow, open_deliveries: int, *, has_attachments: bool) -> Values:
    return (
        row.id,
        row.project,
        row.mode,
        row.category,
        row.priority,
        row.template_key,
        row.template_version,
        row.reference,
        _encode(row.tags),
        row.collapse_key,
        has_attachments,
        row.created_at,
        row.send_at,
        row.expires_at,
        open_deliveries,
    )


def _file_values(notification_id: UUID, place: int, file: AttachmentRow) -> Values:
    return (notification_id, place, file.filename, file.content_type, file.content_id, file.content)


def _delivery_values(row: DeliveryRow, notification_id: UUID, project: str, category: str, now: int) -> Values:
    return (
        row.id,
        notification_id,
        project,
        category,
        row.channel,
        row.lane,
        row.position,
        row.address,
        row.user_id,
        row.recipient,
        row.status,
        row.final,
        row.reason,
        row.detail,
        row.provider,
        row.due_at,
        row.deadline_at,
        row.on_unknown,
        row.retry_of,
        now,
        None if row.turn is None else row.turn.step,
        None if row.turn is None else row.turn.strategy,
        row.address_id,
    )


def _queue_values(row: DeliveryRow) -> Values:
    lease = row.lease
    if lease is None:
        return (row.id, row.lane, row.due_at, row.deadline_at, None)
    return (row.id, row.lane, lease.until, row.deadline_at, lease.worker)


def _entry(placed: Placed) -> ledger.Entry:
    row, notification_id, project, _, now = placed
    return ledger.Entry(
        notification_id,
        row.id,
        project,
        row.channel,
        row.provider,
        row.status,
        row.reason,
        row.detail,
        now,
        row.final,
    )
