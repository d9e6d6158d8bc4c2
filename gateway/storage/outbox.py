"""The outbox: events that an endpoint asked for, from the change that made them to the delivery that carries them.

Owns which endpoint hears of what, decided inside the statement that notes it: the endpoints are joined where the event
is written, so an event that follows the creation of an endpoint is never missed, in whichever process it happens. A
change asks for none of this while its project has no endpoint: `HEARD` comes back with a statement it makes anyway.
Refuses to know how an event is written down for its reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model.events import EVENT_CATEGORY, SUPPRESSION_CREATED
from gateway.model.ids import IdSource
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, run, uuid_of
from gateway.storage.contract import NotedEvent, OutboxState, SuppressionRow

HEARD: Final = "EXISTS (SELECT 1 FROM webhooks AS w WHERE w.enabled AND w.project = {project})"
"""Whether a project has an endpoint: for the `RETURNING` of a statement that knows the project."""

HEARD_BY_ANYBODY: Final = "EXISTS (SELECT 1 FROM webhooks AS w WHERE w.enabled)"


EVENT: Final = columns(
    notification_id=Kind.ID,
    id=Kind.ID,
    delivery_id=Kind.ID,
    type=Kind.TEXT,
    at=Kind.INT,
    status=Kind.TEXT,
    reason=Kind.TEXT,
    detail=Kind.TEXT,
)
"""A row of the table `events`: what is written there is noted as it stands."""


def _asked_for(type_: str) -> str:
    """Write the condition that an endpoint `w` asked for events of this type, an SQL expression."""
    return (
        f"(w.events = ',*,' OR w.events LIKE '%,' || {type_} || ',%'"
        f" OR (w.events LIKE '%,delivery.*,%' AND {type_} LIKE 'delivery.%')"
        f" OR (w.events LIKE '%,notification.*,%' AND {type_} LIKE 'notification.%')"
        f" OR (w.events LIKE '%,suppression.*,%' AND {type_} LIKE 'suppression.%'))"
    )


_INTO: Final = """
    INSERT INTO outbox
        (id, webhook_id, type, at, notification_id, delivery_id, status, reason, detail, replayed)
"""
_ONCE: Final = "ON CONFLICT (id, webhook_id) DO NOTHING"

_NOTE: Final = Batch(
    f"""
    {_INTO}
    SELECT v.id, w.id, v.type, v.at, v.notification_id, v.delivery_id, v.status, v.reason, v.detail, FALSE
    FROM v
    JOIN notifications AS n ON n.id = v.notification_id
    JOIN webhooks AS w ON w.project = n.project
    WHERE w.enabled AND n.category <> '{EVENT_CATEGORY}' AND {_asked_for("v.type")}
    {_ONCE}
    """,  # noqa: S608 - constants
    EVENT,
)

_NOTE_SUPPRESSIONS: Final = Batch(
    f"""
    INSERT INTO outbox (id, webhook_id, type, at, reason, detail, about, replayed)
    SELECT v.id, w.id, '{SUPPRESSION_CREATED}', v.at, v.reason, v.detail, v.about, FALSE
    FROM v JOIN webhooks AS w ON w.enabled
    WHERE v.id IS NOT NULL AND {_asked_for(f"'{SUPPRESSION_CREATED}'")}
    {_ONCE}
    """,  # noqa: S608 - constants
    columns(id=Kind.ID, at=Kind.INT, reason=Kind.TEXT, detail=Kind.TEXT, about=Kind.BYTES),
)

_TAKE: Final = Query(
    """
    WITH picked AS MATERIALIZED (SELECT id, webhook_id FROM outbox ORDER BY id LIMIT $1 {lock skip})
    DELETE FROM outbox WHERE (id, webhook_id) IN (SELECT id, webhook_id FROM picked)
    RETURNING id, webhook_id, type, at, notification_id, delivery_id, status, reason, detail, about, replayed
    """,
)
"""`MATERIALIZED`: PostgreSQL may else run the inner SELECT again for each row, and its limit holds for nothing."""

_ENDPOINTS: Final = Batch(
    "SELECT w.id, w.url, w.project FROM v JOIN webhooks AS w ON w.id = v.id WHERE w.enabled",
    columns(id=Kind.ID),
)

_SIZES: Final = Batch(
    "SELECT r.notification_id, length(r.request) FROM v JOIN requests AS r ON r.notification_id = v.id",
    columns(id=Kind.ID),
)

_ABOUT: Final = Batch(
    """
    SELECT n.id, n.reference, r.request FROM v
    JOIN notifications AS n ON n.id = v.id
    LEFT JOIN requests AS r ON r.notification_id = n.id
    """,
    columns(id=Kind.ID),
)

_ERASED: Final = Batch(
    """
    SELECT d.id FROM v JOIN deliveries AS d ON d.id = v.id
    WHERE d.address IS NULL AND d.user_id IS NULL AND d.recipient = v.nobody
    """,
    columns(id=Kind.ID, nobody=Kind.BYTES),
)

_STATE: Final = Query(
    """
    SELECT EXISTS (SELECT 1 FROM webhooks WHERE enabled),
        EXISTS (SELECT 1 FROM outbox),
        EXISTS (SELECT 1 FROM webhooks WHERE enabled AND replay_since IS NOT NULL),
        EXISTS (SELECT 1 FROM webhooks WHERE enabled AND last_failure_at - first_failure_at >= $1)
    """,
)

_REPLAYING: Final = Query(
    """
    SELECT id, project, replay_until, replay_after FROM webhooks
    WHERE enabled AND replay_since IS NOT NULL ORDER BY id LIMIT 1 {lock skip}
    """,
)

_NEXT: Final = Query(
    """
    SELECT n.id, n.project, n.created_at, (SELECT count(*) FROM deliveries AS d WHERE d.notification_id = n.id)
    FROM notifications AS n WHERE n.id > $1 ORDER BY n.id LIMIT $2
    """,
)

_PAIRS: Final = columns(notification_id=Kind.ID, webhook_id=Kind.ID)

_REPLAY: Final = (
    Batch(
        f"""
        {_INTO}
        SELECT d.id, w.id, 'delivery.' || d.first_status, d.created_at, d.notification_id, d.id, d.first_status,
               d.first_reason, d.first_detail, TRUE
        FROM v JOIN deliveries AS d ON d.notification_id = v.notification_id JOIN webhooks AS w ON w.id = v.webhook_id
        WHERE d.category <> '{EVENT_CATEGORY}' AND d.created_at >= w.replay_since AND d.created_at < w.replay_until
            AND {_asked_for("'delivery.' || d.first_status")}
        {_ONCE}
        """,  # noqa: S608 - constants
        _PAIRS,
    ),
    Batch(
        f"""
        {_INTO}
        SELECT e.id, w.id, e.type, e.at, e.notification_id, e.delivery_id, e.status, e.reason, e.detail, TRUE
        FROM v
        JOIN events AS e ON e.notification_id = v.notification_id
        JOIN notifications AS n ON n.id = v.notification_id
        JOIN webhooks AS w ON w.id = v.webhook_id
        WHERE n.category <> '{EVENT_CATEGORY}' AND e.at >= w.replay_since AND e.at < w.replay_until
            AND {_asked_for("e.type")}
        {_ONCE}
        """,  # noqa: S608 - constants
        _PAIRS,
    ),
)

_CAME_TO: Final = Query("UPDATE webhooks SET replay_after = $1 WHERE id = $2")

_CAME_TO_THE_END: Final = Query(
    "UPDATE webhooks SET replay_since = NULL, replay_until = NULL, replay_after = NULL WHERE id = $1",
)

_AT_ONCE_BYTES: Final = 8_388_608
"""Stored requests that are read together: whoever sends a megabyte each must not make the relay grow by hundreds."""

_AT_ONCE_DELIVERIES: Final = 2000
"""What one step of a replay notes is a few events of each."""


class _Suppressed(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says of an address beside the time and the reason."""

    channel: str
    address: str
    source: str


def note(conn: Connection, events: Sequence[Values]) -> None:
    """Note events, given as the rows of the table `events`, for whoever asked for them.

    Those about deliveries that themselves carry events are nobody's.
    """
    run(conn, _NOTE, events)


def note_suppressions(conn: Connection, rows: Sequence[SuppressionRow], ids: IdSource) -> None:
    """Note that addresses came onto the list, which all projects share, for whoever asked for that."""
    values = [
        (
            ids.new(row.created_at),
            row.created_at,
            row.reason,
            row.detail,
            msgspec.json.encode(_Suppressed(channel=row.channel, address=row.address, source=row.source)),
        )
        for row in rows
    ]
    run(conn, _NOTE_SUPPRESSIONS, values)


def take(conn: Connection, limit: int) -> tuple[int, Iterator[list[NotedEvent]]]:
    """Take noted events out, oldest first; answers how many, and those whose endpoint still wants them.

    They come in groups, mostly one: together the stored requests of a group are not large.
    """
    rows = sorted(ask(conn, _TAKE, limit), key=lambda row: (uuid_of(row[0]), uuid_of(row[1])))
    endpoints = _by_id(run(conn, _ENDPOINTS, _ids_in(rows, 1)))
    wanted = [row for row in rows if uuid_of(row[1]) in endpoints]
    sizes = {id_: row[1] for id_, row in _by_id(run(conn, _SIZES, _ids_in(wanted, 4))).items()}
    return len(rows), (_group(conn, group, endpoints) for group in _grouped(wanted, sizes))


def state(conn: Connection, failing_ms: int) -> OutboxState:
    """Tell what there is to do."""
    listening, noted, replaying, failing = map(bool, ask(conn, _STATE, failing_ms)[0])
    return OutboxState(listening=listening, noted=noted, replaying=replaying, failing=failing)


def replay_slice(conn: Connection, limit: int) -> int:
    """Look through the next notifications for one replay; answers how many.

    It goes from the oldest kept notification on, since any of them may have had an event of late.
    """
    found = ask(conn, _REPLAYING)
    if not found:
        return 0
    raw, project, until, after = found[0]
    webhook_id = uuid_of(raw)
    found = ask(conn, _NEXT, UUID(int=0) if after is None else uuid_of(after), limit)
    rows = _few(found)
    pairs = [(uuid_of(id_), webhook_id) for id_, of, created_at, _ in rows if of == project and created_at < until]
    for statement in _REPLAY:
        run(conn, statement, pairs)
    # What was accepted after the replay was asked for is none of its affair, and what carries its events least of all.
    # Ids may be a little out of step with rows, never by so many.
    seen_all = len(found) < limit and len(rows) == len(found)
    if seen_all or all(created_at >= until for _, _, created_at, _ in rows):
        ask(conn, _CAME_TO_THE_END, webhook_id)
    else:
        ask(conn, _CAME_TO, uuid_of(rows[-1][0]), webhook_id)
    return len(rows)


def _few(rows: Sequence[Values]) -> Sequence[Values]:
    """Take as many of these notifications as have few deliveries together; always one."""
    total = 0
    for place, row in enumerate(rows):
        total += row[3]
        if place and total > _AT_ONCE_DELIVERIES:
            return rows[:place]
    return rows


def _grouped(rows: Sequence[Values], sizes: Mapping[UUID, int]) -> Iterator[list[Values]]:
    """Cut rows into groups whose notifications' requests are not large together; each is counted once in a group."""
    group: list[Values] = []
    seen = set[UUID | None]()
    total = 0
    for row in rows:
        id_ = None if row[4] is None else uuid_of(row[4])
        size = 0 if id_ is None or id_ in seen else sizes.get(id_, 0)
        if group and total + size > _AT_ONCE_BYTES:
            yield group
            group, total = [], 0
            seen = set[UUID | None]()
            size = 0 if id_ is None else sizes.get(id_, 0)
        group.append(row)
        seen.add(id_)
        total += size
    if group:
        yield group


def _group(conn: Connection, rows: Sequence[Values], endpoints: Mapping[UUID, Values]) -> list[NotedEvent]:
    about = _by_id(run(conn, _ABOUT, _ids_in(rows, 4)))
    # What a request to several people says is not told any more of the delivery of one who was erased.
    erased = {uuid_of(id_) for (id_,) in run(conn, _ERASED, [(id_, b"{}") for (id_,) in _ids_in(rows, 5)])}
    return [
        _noted(row, endpoints[uuid_of(row[1])], {} if row[5] and uuid_of(row[5]) in erased else about) for row in rows
    ]


def _ids_in(rows: Sequence[Values], place: int) -> list[Values]:
    return [(id_,) for id_ in sorted({uuid_of(row[place]) for row in rows if row[place] is not None})]


def _by_id(rows: Sequence[Values]) -> dict[UUID, Values]:
    return {uuid_of(row[0]): row for row in rows}


def _noted(row: Sequence[Any], endpoint: Values, about: Mapping[UUID, Values]) -> NotedEvent:
    notification_id = None if row[4] is None else uuid_of(row[4])
    _, reference, request = (None, None, None) if notification_id is None else about.get(notification_id, (None,) * 3)
    return NotedEvent(
        id=uuid_of(row[0]),
        webhook_id=uuid_of(row[1]),
        url=endpoint[1],
        project=endpoint[2],
        type=row[2],
        at=row[3],
        notification_id=notification_id,
        delivery_id=None if row[5] is None else uuid_of(row[5]),
        status=row[6],
        reason=row[7],
        detail=row[8],
        about=None if row[9] is None else bytes(row[9]),
        reference=reference,
        request=request,
        replayed=bool(row[10]),
    )
