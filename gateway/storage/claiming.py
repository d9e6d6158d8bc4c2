"""The queue: claiming what is due, giving claims back, telling what comes next.

Owns leases and tokens. A claim costs the same however much waits: one walk of `queue_by_due` per lane, as far as was
asked for. Refuses to know what is in a delivery.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from gateway.model.states import Mode, OnUnknown, Status, Strategy
from gateway.model.turns import NEVER
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, run, uuid_of
from gateway.storage.contract import AttachmentRow, Claimed, Lease

_PICK_POSTGRES: Final = Batch(
    """
    , picked AS MATERIALIZED (
        SELECT q.* FROM v CROSS JOIN LATERAL (
            SELECT delivery_id, lane, due_at, leased_by, token, attempts, losses, granted, unsure, counted
            FROM queue
            WHERE queue.lane = v.lane AND queue.due_at <= v.now
            ORDER BY due_at, delivery_id
            LIMIT v.most
            FOR UPDATE SKIP LOCKED
        ) AS q
    )
    SELECT * FROM picked ORDER BY due_at, delivery_id
    """,
    columns(lane=Kind.TEXT, now=Kind.INT, most=Kind.INT),
)

_LEASE: Final = Batch(
    """
    UPDATE queue
    SET leased_by = v.worker, due_at = v.until, token = token + 1, losses = losses + v.lost
    FROM v
    WHERE queue.delivery_id = v.id
    """,
    columns(id=Kind.ID, worker=Kind.TEXT, until=Kind.INT, lost=Kind.INT),
)

_LOAD: Final = Batch(
    """
    SELECT d.id, d.notification_id, n.project, n.mode, d.channel, d.lane, n.category, n.template_key,
           n.template_version, n.reference, r.request, n.has_attachments, d.address, d.user_id, d.recipient, d.status,
           d.created_at, d.due_at, d.deadline_at, d.on_unknown, n.created_at, d.address_id, n.collapse_key,
           i.digest_id, d.step, d.strategy, c.notification_id
    FROM v
    JOIN deliveries AS d ON d.id = v.id
    JOIN notifications AS n ON n.id = d.notification_id
    LEFT JOIN requests AS r ON r.notification_id = d.notification_id
    LEFT JOIN digest_items AS i ON i.delivery_id = d.id
    LEFT JOIN cancellations AS c
        ON c.notification_id = d.notification_id AND (d.retry_of IS NULL OR d.created_at <= c.at)
    """,
    columns(id=Kind.ID),
)

_SET_ASIDE: Final = Batch(
    "UPDATE queue SET leased_by = NULL, due_at = v.never FROM v WHERE queue.delivery_id = v.id",
    columns(id=Kind.ID, never=Kind.INT),
)

_LOOK_AT: Final = Batch(
    """
    , picked AS MATERIALIZED (
        SELECT c.notification_id, v.now FROM v JOIN cancellations AS c ON c.notification_id = v.id
        WHERE c.look_at > v.now AND c.busy IS FALSE AND c.position = 0 {lock c skip}
    )
    UPDATE cancellations SET look_at = picked.now
    FROM picked WHERE cancellations.notification_id = picked.notification_id
    """,
    columns(id=Kind.ID, now=Kind.INT),
)

_RELEASE: Final = Batch(
    """
    UPDATE queue SET leased_by = NULL, due_at = v.due_at
    FROM v
    WHERE queue.delivery_id = v.id AND queue.token = v.token AND queue.leased_by IS NOT NULL
    """,
    columns(id=Kind.ID, token=Kind.INT, due_at=Kind.INT),
)

_RENEW: Final = Batch(
    """
    UPDATE queue SET due_at = v.until
    FROM v
    WHERE queue.delivery_id = v.id AND queue.token = v.token AND queue.leased_by IS NOT NULL
    RETURNING queue.delivery_id
    """,
    columns(id=Kind.ID, token=Kind.INT, until=Kind.INT),
)

_NEXT_DUE: Final = Batch(
    """
    SELECT min(due_at) FROM (
        SELECT (SELECT q.due_at FROM queue AS q WHERE q.lane = v.lane ORDER BY q.due_at LIMIT 1) AS due_at FROM v
    ) AS first_of_each
    """,
    columns(lane=Kind.TEXT),
)

_ATTACHMENTS: Final = Query(
    """
    SELECT filename, content_type, content_id, content FROM attachments
    WHERE notification_id = $1 ORDER BY position
    """,
)


class Claim(NamedTuple):
    """What one caller of `claim` wants."""

    wanted: Mapping[str, int]
    lease: Lease
    now: int


class Handed(NamedTuple):
    """What one caller of `claim` got, and the lanes in which there may be more: what was met there is called back."""

    claims: list[Claimed]
    again: frozenset[str] = frozenset()


def claim(conn: Connection, claims: Sequence[Claim]) -> list[Handed]:
    """Lease due deliveries to several callers at once; nobody gets what another got, nor what is called back."""
    most: defaultdict[str, int] = defaultdict(int)
    now = max(asked.now for asked in claims)
    for asked in claims:
        for lane, number in asked.wanted.items():
            if number > 0:
                most[lane] += number
    by_lane: defaultdict[str, deque[Values]] = defaultdict(deque)
    for row in _pick(conn, sorted(most.items()), now):
        by_lane[row[1]].append(row)
    shares = [_share(asked, by_lane) for asked in claims]
    leases = [
        (uuid_of(row[0]), asked.lease.worker, asked.lease.until, int(row[3] is not None))
        for asked, share in zip(claims, shares, strict=True)
        for row in share
    ]
    if not leases:
        return [Handed([]) for _ in claims]
    run(conn, _LEASE, sorted(leases))
    rows = run(conn, _LOAD, [(id_,) for id_, *_ in leases])
    loaded = {row[0]: row for row in rows if row[26] is None}
    again = _set_aside(conn, [row for row in rows if row[26] is not None], now)
    return [Handed([_claimed(row, loaded[row[0]]) for row in share if row[0] in loaded], again) for share in shares]


def _set_aside(conn: Connection, rows: Sequence[Values], now: int) -> frozenset[str]:
    """Put what is called back out of the way, for whoever calls it back to end; answers where room was left by that."""
    run(conn, _SET_ASIDE, sorted((uuid_of(row[0]), NEVER) for row in rows))
    run(conn, _LOOK_AT, sorted({(uuid_of(row[26]), now) for row in rows}))
    return frozenset(row[5] for row in rows)


def release(conn: Connection, claims: Sequence[tuple[UUID, int]], due_at: int) -> None:
    """Give claims back, due then. A claim that is somebody else's by now is left alone."""
    run(conn, _RELEASE, [(id_, token, due_at) for id_, token in sorted(claims)])


def renew(conn: Connection, claims: Sequence[tuple[UUID, int]], until: int) -> set[UUID]:
    """Prolong leases that are still held; answers which were."""
    return {uuid_of(row[0]) for row in run(conn, _RENEW, [(id_, token, until) for id_, token in sorted(claims)])}


def next_due(conn: Connection, lanes: Sequence[str]) -> int | None:
    """Tell the earliest `due_at` of the lanes."""
    found = run(conn, _NEXT_DUE, [(lane,) for lane in lanes])
    times = [row[0] for row in found if row[0] is not None]
    return min(times) if times else None


def attachments(conn: Connection, notification_id: UUID) -> tuple[AttachmentRow, ...]:
    """Load a notification's files in order."""
    return tuple(
        AttachmentRow(filename=name, content_type=type_, content_id=content_id, content=bytes(content))
        for name, type_, content_id, content in ask(conn, _ATTACHMENTS, notification_id)
    )


def _pick(conn: Connection, most: Sequence[tuple[str, int]], now: int) -> list[Values]:
    """Find the oldest due of each lane and lock them."""
    if not most:
        return []
    if conn.dialect.name == "postgresql":
        return run(conn, _PICK_POSTGRES, [(lane, now, number) for lane, number in most])
    values = [value for lane, number in most for value in (lane, now, number)]
    return ask(conn, _pick_sqlite(len(most)), *values)


@lru_cache(maxsize=64)
def _pick_sqlite(lanes: int) -> Query:
    """SQLite knows no lateral join: one walk of the index per lane, in one statement."""
    walk = """
        SELECT * FROM (
            SELECT delivery_id, lane, due_at, leased_by, token, attempts, losses, granted, unsure, counted
            FROM queue
            WHERE lane = ${} AND due_at <= ${}
            ORDER BY due_at, delivery_id
            LIMIT ${}
        )"""
    walks = [walk.format(3 * lane + 1, 3 * lane + 2, 3 * lane + 3) for lane in range(lanes)]
    return Query(" UNION ALL ".join(walks))


def _share(asked: Claim, by_lane: Mapping[str, deque[Values]]) -> list[Values]:
    share: list[Values] = []
    for lane, number in asked.wanted.items():
        rows = by_lane.get(lane)
        if not rows:
            continue
        share.extend(rows.popleft() for _ in range(min(number, len(rows))))
    return share


def _claimed(queued: Values, row: Sequence[Any]) -> Claimed:
    return Claimed(
        id=uuid_of(row[0]),
        notification_id=uuid_of(row[1]),
        project=row[2],
        mode=Mode(row[3]),
        channel=row[4],
        lane=row[5],
        category=row[6],
        template_key=row[7],
        template_version=row[8],
        reference=row[9],
        request=row[10] or b"",
        has_attachments=bool(row[11]),
        address=row[12] or "",
        user_id=row[13],
        recipient=row[14],
        status=Status(row[15]),
        attempts=queued[5],
        token=queued[4] + 1,
        lost=queued[6] + (queued[3] is not None),
        granted=bool(queued[7]),
        unsure=bool(queued[8]),
        created_at=row[16],
        due_at=row[17],
        deadline_at=row[18],
        on_unknown=OnUnknown(row[19]),
        notification_created_at=row[20],
        address_id=None if row[21] is None else uuid_of(row[21]),
        collapse_key=row[22],
        digest_id=None if row[23] is None else uuid_of(row[23]),
        counted=bool(queued[9]),
        step=row[24],
        strategy=None if row[25] is None else Strategy(row[25]),
    )
