"""Topics: who subscribed, and which sends to topics are still to be planned.

Owns `subscriptions`, and of `expansions` everything but what writes deliveries (`expanding`). Whoever subscribes a user
holds the user's row against erasure meanwhile. Refuses to know plans.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.states import Mode
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import (
    Acceptance,
    Expanding,
    Expansion,
    Lease,
    NotificationRow,
    Subscribed,
    SubscriberRow,
    Subscribers,
)

HOLD_USERS: Final = Batch(
    "SELECT u.user_id FROM v JOIN users AS u ON u.user_id = v.user_id ORDER BY u.user_id {share u}",
    columns(user_id=Kind.TEXT),
)

_SUBSCRIBE: Final = insert_into(
    "subscriptions",
    columns(topic=Kind.TEXT, user_id=Kind.TEXT, created_at=Kind.INT),
    "ON CONFLICT (topic, user_id) DO NOTHING RETURNING user_id",
)

_UNSUBSCRIBE: Final = Query("DELETE FROM subscriptions WHERE topic = $1 AND user_id = $2 RETURNING user_id")

_FIND: Final = Query("SELECT topic, user_id, created_at FROM subscriptions WHERE topic = $1 AND user_id = $2")

_LIST: Final = Query(
    """
    SELECT topic, user_id, created_at FROM subscriptions
    WHERE topic = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
    """,
)

_COUNT: Final = Query("SELECT count(*) FROM (SELECT 1 FROM subscriptions WHERE topic = $1 LIMIT $2) AS first_ones")

_OF_USER: Final = Query("SELECT topic, user_id, created_at FROM subscriptions WHERE user_id = $1 ORDER BY topic")

_START: Final = insert_into(
    "expansions",
    columns(
        notification_id=Kind.ID,
        topics=Kind.BYTES,
        place=Kind.INT,
        last_user=Kind.TEXT,
        position=Kind.INT,
        rank=Kind.INT,
        due_at=Kind.INT,
        leased_by=Kind.TEXT,
        token=Kind.INT,
    ),
)

_STOP: Final = Query("DELETE FROM expansions WHERE notification_id = $1 RETURNING notification_id")

_DUE: Final = Query("SELECT notification_id FROM expansions WHERE due_at <= $1 ORDER BY due_at LIMIT 1")

_CLAIM: Final = Query(
    """
    WITH picked AS MATERIALIZED
        (SELECT notification_id FROM expansions WHERE due_at <= $3 ORDER BY rank, due_at LIMIT 1 {lock skip})
    UPDATE expansions SET leased_by = $1, due_at = $2, token = token + 1
    WHERE notification_id IN (SELECT notification_id FROM picked)
    RETURNING notification_id, topics, place, last_user, position, rank, due_at, token
    """,
)
"""`MATERIALIZED`: PostgreSQL may else run the inner SELECT again for each row, and lease more than it answers."""

_RELEASE: Final = Query(
    """
    UPDATE expansions SET leased_by = NULL, due_at = $1
    WHERE notification_id = $2 AND token = $3 AND leased_by IS NOT NULL
    """,
)

_LOAD: Final = Query(
    """
    SELECT n.id, n.project, n.mode, n.category, n.priority, n.template_key, n.template_version, n.reference, r.request,
           n.collapse_key, n.created_at, n.send_at, n.expires_at
    FROM notifications AS n LEFT JOIN requests AS r ON r.notification_id = n.id
    WHERE n.id = $1
    """,
)

_PLANNED: Final = Batch(
    """
    SELECT v.user_id FROM v
    WHERE EXISTS (
        SELECT 1 FROM deliveries AS d
        WHERE d.user_id = v.user_id AND d.notification_id = v.notification_id AND d.user_id IS NOT NULL
        LIMIT 1 OFFSET 0
    )
    """,
    columns(user_id=Kind.TEXT, notification_id=Kind.ID),
)
"""Both here and below, `OFFSET 0` keeps PostgreSQL from making a join of it: the planners take a notification for a few
deliveries, and would read all hundred thousand of them for each slice."""

_GIVEN: Final = Query(
    """
    SELECT DISTINCT d.channel, d.address FROM deliveries AS d
    WHERE d.notification_id = $1 AND d.position < $2 AND d.address IS NOT NULL
    """,
)

_PLANNED_ADDRESSES: Final = Batch(
    """
    SELECT v.channel, v.key FROM v
    WHERE EXISTS (
        SELECT 1 FROM addresses AS a
        WHERE a.channel = v.channel AND a.key = v.key AND EXISTS (
            SELECT 1 FROM deliveries AS d
            WHERE d.user_id = a.user_id AND d.notification_id = v.notification_id AND d.user_id IS NOT NULL
                AND d.channel = a.channel AND d.address = a.address
            LIMIT 1 OFFSET 0
        )
        LIMIT 1 OFFSET 0
    )
    """,
    columns(channel=Kind.TEXT, key=Kind.TEXT, notification_id=Kind.ID),
)

_encode = msgspec.json.Encoder().encode
_topics = msgspec.json.Decoder(tuple[tuple[int, str], ...]).decode


def subscribe(conn: Connection, topic: str, users: Collection[str], now: int) -> Subscribed:
    """Subscribe all of them, or nobody."""
    # Sorted, so that two transactions that meet in several people wait for each other in one direction only.
    wanted = sorted(set(users))
    there = {row[0] for row in run(conn, HOLD_USERS, [(id_,) for id_ in wanted])}
    if len(there) < len(wanted):
        return Subscribed(unknown=frozenset(wanted) - there)
    added = run(conn, _SUBSCRIBE, [(topic, id_, now) for id_ in wanted])
    return Subscribed(added=frozenset(row[0] for row in added))


def unsubscribe(conn: Connection, topic: str, user_id: str) -> bool:
    """Take one off."""
    return bool(ask(conn, _UNSUBSCRIBE, topic, user_id))


def one(conn: Connection, topic: str, user_id: str) -> SubscriberRow | None:
    """Show one."""
    rows = ask(conn, _FIND, topic, user_id)
    return _subscriber(rows[0]) if rows else None


def listing(conn: Connection, topic: str, limit: int, after: str) -> list[SubscriberRow]:
    """List in the order of ids; every id is greater than the empty one."""
    return [_subscriber(row) for row in ask(conn, _LIST, topic, after, limit)]


def of_user(conn: Connection, user_id: str) -> list[SubscriberRow]:
    """List what one user subscribed to."""
    return [_subscriber(row) for row in ask(conn, _OF_USER, user_id)]


def count(conn: Connection, topic: str, most: int) -> int:
    """Count, but not beyond `most`."""
    return ask(conn, _COUNT, topic, most)[0][0]


def start(conn: Connection, accepted: Sequence[Acceptance]) -> None:
    """Note the topics whose subscribers are still to be planned."""
    rows = [
        (one.notification.id, _encode(wanted.topics), 0, "", wanted.position, wanted.rank, wanted.due_at, None, 0)
        for one in accepted
        if (wanted := one.expansion) is not None
    ]
    run(conn, _START, rows)


def stop(conn: Connection, notification_id: UUID) -> bool:
    """Plan nobody else; `False` if nobody was left. Waits for a slice that is being written."""
    return bool(ask(conn, _STOP, notification_id))


def due(conn: Connection, now: int) -> bool:
    """Tell whether one could be claimed."""
    return bool(ask(conn, _DUE, now))


def claim(conn: Connection, lease: Lease, now: int) -> Expanding | None:
    """Lease one. As in the queue, its due time becomes the end of its lease."""
    rows = ask(conn, _CLAIM, lease.worker, lease.until, now)
    if not rows:
        return None
    id_, topics, place, last_user, position, rank, due_at, token = rows[0]
    [notification] = ask(conn, _LOAD, uuid_of(id_))
    return Expanding(
        notification=_notification(notification),
        expansion=Expansion(topics=_topics(bytes(topics)), position=position, rank=rank, due_at=due_at),
        place=place,
        last_user=last_user,
        token=token,
    )


def release(conn: Connection, notification_id: UUID, token: int, now: int) -> None:
    """Give a claim back."""
    ask(conn, _RELEASE, now, notification_id, token)


def following(conn: Connection, held: Expanding, most: int) -> Subscribers:
    """Find the next subscribers, without those who have a delivery of this notification already."""
    _, topic = held.expansion.topics[held.place]
    ids = [row.user_id for row in listing(conn, topic, most, held.last_user)]
    planned = {row[0] for row in run(conn, _PLANNED, [(id_, held.notification.id) for id_ in ids])}
    return Subscribers(
        users=tuple(id_ for id_ in ids if id_ not in planned),
        last_user=ids[-1] if ids else held.last_user,
        more=len(ids) >= most,
    )


def given(conn: Connection, notification_id: UUID, before: int) -> list[tuple[str, str]]:
    """List where the deliveries before a position go."""
    return [(row[0], row[1]) for row in ask(conn, _GIVEN, notification_id, before)]


def planned_addresses(
    conn: Connection, notification_id: UUID, keys: Collection[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Find the keys of addresses that people share, one of whom this notification goes to already."""
    rows = run(conn, _PLANNED_ADDRESSES, [(*key, notification_id) for key in sorted(set(keys))])
    return {(row[0], row[1]) for row in rows}


def _subscriber(row: Values) -> SubscriberRow:
    return SubscriberRow(topic=row[0], user_id=row[1], created_at=row[2])


def _notification(row: Sequence[Any]) -> NotificationRow:
    return NotificationRow(
        id=uuid_of(row[0]),
        project=row[1],
        mode=Mode(row[2]),
        category=row[3],
        priority=row[4],
        template_key=row[5],
        template_version=row[6],
        reference=row[7],
        request=bytes(row[8] or b""),
        collapse_key=row[9],
        created_at=row[10],
        send_at=row[11],
        expires_at=row[12],
    )
