"""All that is held about one person, read back: for whoever has to tell them.

Owns which rows are a person's. `gateway.storage.erasing` owns the same question for removing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, select, tuple_

from gateway.model.states import Why
from gateway.storage import echoes, erasing, inbox, preferences, reading, topics
from gateway.storage.bulk import Batch, Kind, Values, columns, run, uuid_of
from gateway.storage.captured import row_of
from gateway.storage.contract import EventView, OptOutRow, Page, PersonPage, SuppressionRow, UserRow
from gateway.storage.schema import CAPTURED, DELIVERIES, OPT_OUTS, SUPPRESSIONS

_EVENTS: Final = Batch(
    """
    SELECT e.id, e.type, e.at, e.notification_id, e.delivery_id, e.status, e.reason, e.detail
    FROM v JOIN events AS e ON e.notification_id = v.notification_id AND e.delivery_id = v.id
    ORDER BY e.notification_id, e.id
    """,
    columns(id=Kind.ID, notification_id=Kind.ID),
)


def about(conn: Connection, project: str | None, id_: str, page: Page) -> PersonPage | None:
    """Tell one page; `None`: there is no such user."""
    chosen = preferences.one(conn, id_)
    if chosen is None:
        return None
    user = chosen.user
    pairs = [(one.channel, form) for one in user.addresses for form in {one.address, one.key}]
    ids = _delivery_ids(conn, project, user, erasing.only_theirs(pairs), page)
    deliveries = reading.deliveries_by_id(conn, ids[: page.limit - 1])
    named = [(one.id, one.notification_id) for one in deliveries]
    told = echoes.told(conn, _carriers(conn, named, pairs), project)
    captured = select(CAPTURED).where(
        CAPTURED.c.notification_id.in_([one.notification_id for one in (*deliveries, *told)]),
        CAPTURED.c.delivery_id.in_([one.id for one in deliveries] + [one.delivery_id for one in told]),
    )
    s, o = SUPPRESSIONS.c, OPT_OUTS.c
    suppressed = conn.execute(select(SUPPRESSIONS).where(tuple_(s.channel, s.address).in_(pairs))).mappings()
    left = conn.execute(select(OPT_OUTS).where(tuple_(o.channel, o.address).in_(pairs))).mappings()
    return PersonPage(
        user=user,
        preferences=chosen,
        deliveries=tuple(deliveries),
        more=len(ids) >= page.limit,
        events=tuple(_event(row) for row in run(conn, _EVENTS, named)),
        captured=tuple(row_of(row) for row in conn.execute(captured.order_by(CAPTURED.c.id)).mappings()),
        suppressions=tuple(
            SuppressionRow(
                channel=row["channel"],
                address=row["address"],
                reason=Why(row["reason"]),
                source=row["source"],
                detail=row["detail"],
                created_at=row["created_at"],
            )
            for row in suppressed
        ),
        opt_outs=tuple(
            OptOutRow(
                channel=row["channel"],
                address=row["address"],
                category=row["category"],
                source=row["source"],
                created_at=row["created_at"],
            )
            for row in left
        ),
        inbox=tuple(inbox.of_user(conn, user.id, project)),
        subscriptions=tuple(topics.of_user(conn, id_)),
        echoes=tuple(told),
    )


def _carriers(conn: Connection, named: Sequence[tuple[UUID, UUID]], pairs: Sequence[Values]) -> list[UUID]:
    """Find what carries events about these deliveries, about their notifications as such, and about these addresses."""
    ids = [id_ for id_, _ in named]
    about = echoes.about_as_such(conn, {notification for _, notification in named})
    return [*echoes.of_deliveries(conn, ids), *about, *echoes.of_addresses(conn, pairs)]


def _delivery_ids(
    conn: Connection, project: str | None, user: UserRow, pairs: Sequence[Values], page: Page
) -> list[UUID]:
    """List a page of deliveries, newest first: the user's, and those to an address of theirs that named no user."""
    found = {id_ for query in delivery_queries(project, user.id, pairs, page) for id_ in conn.scalars(query)}
    return sorted(found, reverse=True)[: page.limit]


def delivery_queries(
    project: str | None, user_id: str, pairs: Sequence[Values], page: Page
) -> tuple[Select[Any], Select[Any]]:
    """Write the two queries: each walks an index of its own, which one query for both would not."""
    d = DELIVERIES.c
    conditions: list[ColumnElement[bool]] = []
    if project is not None:
        conditions.append(d.project == project)
    if page.before is not None:
        conditions.append(d.id < page.before)
    named = (d.user_id == user_id,)
    unnamed = (
        d.address.is_not(None),  # SQLite takes the partial index only if told so
        d.address.in_([address for _, address in pairs]),
        d.channel.in_([channel for channel, _ in pairs]),
        d.user_id.is_(None),
    )
    mine, at_mine = (
        select(d.id).where(*one, *conditions).order_by(d.id.desc()).limit(page.limit) for one in (named, unnamed)
    )
    return mine, at_mine


def _event(row: tuple[object, ...]) -> EventView:
    id_, type_, at, notification_id, delivery_id, status, reason, detail = row
    return EventView(
        id=uuid_of(id_),
        type=str(type_),
        at=int(str(at)),
        notification_id=uuid_of(notification_id),
        delivery_id=uuid_of(delivery_id),
        status=str(status),
        reason=None if reason is None else Why(str(reason)),
        detail=None if detail is None else str(detail),
        reference=None,
        request=None,
    )
