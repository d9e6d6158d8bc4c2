"""What the API shows: notifications, deliveries, events.

Owns how a listing finds its rows: it is driven by the index of the most selective filter, walks ids downwards from the
cursor, and never skips rows by number. Refuses to know who may look: `project` is the caller's to fill.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Select, and_, exists, or_, select

from gateway.model.events import EVENT_CATEGORY
from gateway.model.states import Engagement, Mode, NotificationStatus, OnUnknown, Status, Why
from gateway.storage.bulk import Batch, Kind, columns, run, uuid_of
from gateway.storage.contract import (
    AttemptRow,
    DeliveryFilter,
    DeliveryView,
    EventView,
    Found,
    NotificationFilter,
    NotificationView,
    Page,
)
from gateway.storage.ledger import OPEN
from gateway.storage.schema import DELIVERIES, EVENTS, EXPANSIONS, NOTIFICATIONS, QUEUE, REQUESTS, TAGS

_tags = msgspec.json.Decoder(tuple[str, ...]).decode

_COUNTS: Final = Batch(
    """
    SELECT d.notification_id, CASE WHEN q.leased_by IS NULL THEN d.status ELSE 'sending' END AS shown, count(*)
    FROM v
    JOIN deliveries AS d ON d.notification_id = v.id
    LEFT JOIN queue AS q ON q.delivery_id = d.id
    GROUP BY d.notification_id, shown
    """,
    columns(id=Kind.ID),
)

_ATTEMPTS: Final = Batch(
    """
    SELECT a.delivery_id, a.number, a.provider, a.started_at, a.took_ms, a.outcome, a.reason, a.detail, a.provider_id
    FROM v JOIN attempts AS a ON a.delivery_id = v.id
    ORDER BY a.delivery_id, a.number
    """,
    columns(id=Kind.ID),
)

_RETRIED: Final = Batch("SELECT d.retry_of FROM v JOIN deliveries AS d ON d.retry_of = v.id", columns(id=Kind.ID))


def notification(conn: Connection, project: str | None, id_: UUID, now: int) -> NotificationView | None:
    """Show one."""
    views = _notification_views(conn, [id_], now)
    return next((view for view in views if project in (None, view.project)), None)


def notifications(conn: Connection, where: NotificationFilter, page: Page, now: int) -> Found:
    """List newest first. Rows that do not match are passed over piece by piece, and only so many for one page."""
    ids: list[UUID] = []
    floor = page.before
    for size in _PIECES:
        piece = Page(limit=page.limit - len(ids), before=floor)
        floor = conn.scalar(floor_of(where, piece, size))
        ids += conn.scalars(notification_ids(where, piece, now, floor))
        if floor is None or len(ids) == page.limit:
            return Found(rows=_notification_views(conn, ids, now))
    return Found(rows=_notification_views(conn, ids, now), passed=floor)


def notification_ids(where: NotificationFilter, page: Page, now: int, floor: UUID | None = None) -> Select[UUID]:
    """Write the query for the ids of a page, down to `floor`."""
    n = NOTIFICATIONS.c
    source, id_, conditions = _led(where)
    if source is not NOTIFICATIONS:
        source = source.join(NOTIFICATIONS, n.id == id_)
    conditions += _further(where, led_by=id_)
    conditions += _of_status(where.status, now)
    conditions += _between(id_, n.created_at, where.since, where.until)
    if page.before is not None:
        conditions.append(id_ < page.before)
    if floor is not None:
        conditions.append(id_ >= floor)
    query = select(id_).select_from(source).where(*conditions).order_by(id_.desc()).limit(page.limit)
    # Several deliveries of one notification may match; they lie side by side in the index.
    return query.distinct() if id_ is DELIVERIES.c.notification_id else query


_PIECES: Final = (2_000, 8_000, 40_000)
"""How many rows are looked at for a page, one piece after the other: few where most match, and some tens of
milliseconds where none does."""


def floor_of(where: NotificationFilter, page: Page, size: int) -> Select[UUID]:
    """Write the query for the last of the next `size` rows on the way, matching or not; none where there are fewer."""
    source, id_, conditions = _led(where)
    if page.before is not None:
        conditions.append(id_ < page.before)
    if where.until is not None:
        conditions.append(id_ < first_id_of(where.until + _SLACK_MS))
    if where.since is not None:
        conditions.append(id_ >= first_id_of(where.since - _SLACK_MS))
    query = select(id_).select_from(source).where(*conditions)
    return query.order_by(id_.desc()).limit(1).offset(size - 1)


def _led(where: NotificationFilter) -> tuple[Any, Column[UUID], list[ColumnElement[bool]]]:
    """Choose the way: a reference is found in the table itself; otherwise the rarest thing that was given leads."""
    n, d = NOTIFICATIONS.c, DELIVERIES.c
    if where.reference is not None:
        return NOTIFICATIONS, n.id, [n.reference == where.reference]
    if where.user is not None:
        return DELIVERIES, d.notification_id, [d.user_id == where.user]
    if where.address is not None:
        return DELIVERIES, d.notification_id, [d.address == where.address]
    if where.tag is not None:
        return TAGS, TAGS.c.notification_id, [TAGS.c.tag == where.tag]
    return NOTIFICATIONS, n.id, []


def deliveries(conn: Connection, notification_ids: Sequence[UUID], limit: int) -> list[DeliveryView]:
    """List the deliveries of some notifications, in the order they were planned."""
    if not notification_ids:
        return []
    d = DELIVERIES.c
    query = (
        _select_deliveries()
        .where(d.notification_id.in_(notification_ids))
        .order_by(d.notification_id, d.position, d.id)
        .limit(limit)
    )
    return _delivery_views(conn, conn.execute(query).mappings().all())


def deliveries_by_id(conn: Connection, ids: Sequence[UUID]) -> list[DeliveryView]:
    """List some deliveries, newest first."""
    if not ids:
        return []
    query = _select_deliveries().where(DELIVERIES.c.id.in_(ids)).order_by(DELIVERIES.c.id.desc())
    return _delivery_views(conn, conn.execute(query).mappings().all())


def delivery(conn: Connection, project: str | None, id_: UUID) -> DeliveryView | None:
    """Show one."""
    query = _select_deliveries().where(DELIVERIES.c.id == id_)
    if project is not None:
        query = query.where(DELIVERIES.c.project == project)
    views = _delivery_views(conn, conn.execute(query).mappings().all())
    return views[0] if views else None


def find_deliveries(conn: Connection, where: DeliveryFilter, page: Page) -> list[DeliveryView]:
    """List newest first."""
    return _delivery_views(conn, conn.execute(delivery_query(where, page)).mappings().all())


def delivery_query(where: DeliveryFilter, page: Page) -> Select[Any]:
    """Write the query for a page of deliveries."""
    d = DELIVERIES.c
    query = _select_deliveries()
    for column, wanted in (
        (d.project, where.project),
        (d.notification_id, where.notification_id),
        (d.channel, where.channel),
        (d.provider, where.provider),
        (d.reason, where.reason),
        (d.category, where.category),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if where.ids is None and where.notification_id is None and where.category is None:
        query = query.where(d.category != EVENT_CATEGORY)
    if where.ids is not None:
        query = query.where(d.id.in_(where.ids))
    if where.statuses is not None:
        query = query.where(d.status.in_([status.value for status in where.statuses]))
    query = query.where(*_between(d.id, d.created_at, where.since, where.until))
    if page.before is not None:
        query = query.where(d.id < page.before)
    return query.order_by(d.id.desc()).limit(page.limit)


def events(conn: Connection, notification_id: UUID) -> list[EventView]:
    """List what happened, oldest first; the planning of each delivery is derived from its row."""
    n, d, e = NOTIFICATIONS.c, DELIVERIES.c, EVENTS.c
    about = conn.execute(
        select(n.reference, REQUESTS.c.request)
        .select_from(NOTIFICATIONS.outerjoin(REQUESTS, REQUESTS.c.notification_id == n.id))
        .where(n.id == notification_id),
    ).first()
    if about is None:
        return []
    planned = conn.execute(
        select(d.id, d.first_status, d.first_reason, d.first_detail, d.created_at)
        .where(d.notification_id == notification_id)
        .order_by(d.position, d.id),
    )
    rows = [(at, id_, id_, f"delivery.{status}", status, why, detail) for id_, status, why, detail, at in planned]
    happened = conn.execute(
        select(e.at, e.id, e.delivery_id, e.type, e.status, e.reason, e.detail)
        .where(e.notification_id == notification_id)
        .order_by(e.id),
    )
    rows += [tuple(row) for row in happened]
    # Stable: what was planned stands before what happened in the same millisecond.
    rows.sort(key=lambda row: row[0])
    return [
        EventView(
            id=id_,
            type=type_,
            at=at,
            notification_id=notification_id,
            delivery_id=delivery_id,
            status=status,
            reason=_why(why),
            detail=detail,
            reference=about[0],
            request=about[1],
        )
        for at, id_, delivery_id, type_, status, why, detail in rows
    ]


def _further(where: NotificationFilter, led_by: Column[UUID]) -> list[ColumnElement[bool]]:
    """Write the filters that follow, once the first has found its way through an index."""
    n = NOTIFICATIONS.c
    conditions: list[ColumnElement[bool]] = []
    if where.project is not None:
        conditions.append(n.project == where.project)
    # What carries our events to services is nobody's notification, unless somebody asks for it by its category.
    conditions.append(n.category != EVENT_CATEGORY if where.category is None else n.category == where.category)
    if where.tag is not None and led_by is not TAGS.c.notification_id:
        conditions.append(exists().where(TAGS.c.tag == where.tag, TAGS.c.notification_id == n.id))
    other = DELIVERIES.alias("other")
    for column, wanted, leads in (
        (other.c.channel, where.channel, False),
        (other.c.user_id, where.user, True),
        (other.c.address, where.address, where.user is None),
    ):
        if wanted is not None and not (leads and led_by is DELIVERIES.c.notification_id):
            conditions.append(exists().where(other.c.notification_id == n.id, column == wanted))
    return conditions


def _of_status(status: NotificationStatus | None, now: int) -> list[ColumnElement[bool]]:
    n = NOTIFICATIONS.c
    match status:
        case None:
            return []
        case NotificationStatus.SCHEDULED:
            return [and_(n.state == OPEN, n.send_at > now)]
        case NotificationStatus.PROCESSING:
            return [and_(n.state == OPEN, or_(n.send_at.is_(None), n.send_at <= now))]
        case NotificationStatus.COMPLETED | NotificationStatus.CANCELLED:
            return [n.state == status.value]


_SLACK_MS: Final = 60_000


def _between(
    id_: Column[UUID],
    created_at: Column[int],
    since: int | None,
    until: int | None,
) -> list[ColumnElement[bool]]:
    """Bound a walk by time: exactly by the column, and by the ids, which begin with their time, for the index.

    An id may be a little younger than its row, so the ids' bounds leave a minute on either side.
    """
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions += [created_at >= since, id_ >= first_id_of(since - _SLACK_MS)]
    if until is not None:
        conditions += [created_at < until, id_ < first_id_of(until + _SLACK_MS)]
    return conditions


def first_id_of(at: int) -> UUID:
    """Make the lowest id of a moment (Unix ms)."""
    return UUID(int=min(max(at, 0), (1 << 48) - 1) << 80)


def _notification_views(conn: Connection, ids: Sequence[UUID], now: int) -> list[NotificationView]:
    if not ids:
        return []
    n = NOTIFICATIONS.c
    query = (
        select(NOTIFICATIONS, REQUESTS.c.request, EXPANSIONS.c.token.is_not(None).label("expanding"))
        .select_from(
            NOTIFICATIONS.outerjoin(REQUESTS, REQUESTS.c.notification_id == n.id).outerjoin(
                EXPANSIONS, EXPANSIONS.c.notification_id == n.id
            ),
        )
        .where(n.id.in_(ids))
        .order_by(n.id.desc())
    )
    rows = conn.execute(query).mappings().all()
    counts: defaultdict[UUID, dict[str, int]] = defaultdict(dict)
    for id_, status, number in run(conn, _COUNTS, [(row["id"],) for row in rows]):
        counts[uuid_of(id_)][status] = number
    return [
        NotificationView(
            id=row["id"],
            project=row["project"],
            mode=Mode(row["mode"]),
            status=_shown_status(row["state"], row["send_at"], now),
            category=row["category"],
            priority=row["priority"],
            template_key=row["template_key"],
            template_version=row["template_version"],
            reference=row["reference"],
            request=row["request"],
            tags=_tags(row["tags"]),
            created_at=row["created_at"],
            send_at=row["send_at"],
            expires_at=row["expires_at"],
            updated_at=row["updated_at"],
            counts=counts[row["id"]],
            expanding=bool(row["expanding"]),
        )
        for row in rows
    ]


def _shown_status(state: str, send_at: int | None, now: int) -> NotificationStatus:
    if state != OPEN:
        return NotificationStatus(state)
    waits = send_at is not None and send_at > now
    return NotificationStatus.SCHEDULED if waits else NotificationStatus.PROCESSING


def _select_deliveries() -> Select[Any]:
    return select(DELIVERIES, QUEUE.c.leased_by).select_from(
        DELIVERIES.outerjoin(QUEUE, QUEUE.c.delivery_id == DELIVERIES.c.id),
    )


def _delivery_views(conn: Connection, rows: Sequence[Any]) -> list[DeliveryView]:
    ids = [(row["id"],) for row in rows]
    attempts: defaultdict[UUID, list[AttemptRow]] = defaultdict(list)
    for row in run(conn, _ATTEMPTS, ids):
        attempts[uuid_of(row[0])].append(_attempt(row))
    retried = {uuid_of(row[0]) for row in run(conn, _RETRIED, ids)}
    return [
        DeliveryView(
            id=row["id"],
            notification_id=row["notification_id"],
            project=row["project"],
            channel=row["channel"],
            lane=row["lane"],
            position=row["position"],
            address=row["address"],
            user_id=row["user_id"],
            recipient=row["recipient"],
            provider=row["provider"],
            provider_id=row["provider_id"],
            # A claim does not touch the wide row; that it is in a worker's hands stands in the queue.
            status=Status(row["status"]) if row["leased_by"] is None else Status.SENDING,
            final=bool(row["final"]),
            reason=_why(row["reason"]) if row["leased_by"] is None else None,
            detail=row["detail"],
            engagement=_engagement(row["engagement"].split(",")),
            attempts=tuple(attempts[row["id"]]),
            due_at=row["due_at"],
            deadline_at=row["deadline_at"],
            on_unknown=OnUnknown(row["on_unknown"]),
            retry_of=row["retry_of"],
            retried=row["id"] in retried,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            address_id=row["address_id"],
        )
        for row in rows
    ]


def _attempt(row: Sequence[Any]) -> AttemptRow:
    return AttemptRow(
        number=row[1],
        provider=row[2],
        started_at=row[3],
        took_ms=row[4],
        outcome=row[5],
        reason=row[6],
        detail=row[7],
        provider_id=row[8],
    )


def _engagement(names: Iterable[str]) -> tuple[Engagement, ...]:
    return tuple(Engagement(name) for name in names if name)


def _why(name: str | None) -> Why | None:
    return None if name is None else Why(name)
