"""Numbers for people and dashboards: how much waits, what happened by hour.

Owns how a count stays cheap when a million rows wait. Refuses to know what the numbers are for.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

from gateway.storage.bulk import Query, ask
from gateway.storage.contract import LaneDepth, StatRow
from gateway.storage.ledger import HOUR_MS
from gateway.storage.schema import COUNTS

_COUNTED: Final = 100_000
"""Rows of a lane that are counted one by one; beyond it a lane is simply this deep."""

_DEPTHS: Final = Query(
    """
    WITH RECURSIVE lanes(lane) AS (
        SELECT min(lane) FROM queue
        UNION ALL
        SELECT (SELECT min(queue.lane) FROM queue WHERE queue.lane > lanes.lane) FROM lanes WHERE lane IS NOT NULL
    )
    SELECT lane,
        (SELECT count(*) FROM (SELECT 1 FROM queue
            WHERE queue.lane = lanes.lane AND due_at <= $1 LIMIT $2) AS overdue),
        (SELECT count(*) FROM (SELECT 1 FROM queue
            WHERE queue.lane = lanes.lane AND due_at > $1 AND leased_by IS NULL LIMIT $2) AS later),
        (SELECT due_at FROM queue WHERE queue.lane = lanes.lane AND due_at <= $1 ORDER BY due_at LIMIT 1)
    FROM lanes WHERE lane IS NOT NULL
    """,
)
"""Walks from lane to lane through the index instead of reading every row for its lane."""

_WAITING: Final = Query("SELECT count(*) FROM queue")


def depths(conn: Connection, now: int) -> list[LaneDepth]:
    """Count what waits, by lane; exact up to 100,000 a lane."""
    return [
        LaneDepth(lane=lane, waiting=due + later, due=due, oldest_due_at=oldest)
        for lane, due, later, oldest in ask(conn, _DEPTHS, now, _COUNTED)
        if due + later
    ]


def waiting(conn: Connection) -> int:
    """Count the queue."""
    return int(ask(conn, _WAITING)[0][0])


def stats(conn: Connection, project: str | None, since: int, until: int) -> list[StatRow]:
    """Add the hourly counts up; the hour in which the span begins belongs to it."""
    c = COUNTS.c
    keys = (c.hour, c.project, c.channel, c.provider, c.status, c.reason)
    query = (
        select(*keys, func.sum(c.count))
        .where(c.hour >= since - since % HOUR_MS, c.hour < until)
        .group_by(*keys)
        .order_by(*keys)
    )
    if project is not None:
        query = query.where(c.project == project)
    return [
        StatRow(
            hour=hour,
            project=of,
            channel=channel,
            provider=provider or None,
            status=status,
            reason=reason or None,
            count=int(number),
        )
        for hour, of, channel, provider, status, reason, number in conn.execute(query)
    ]
