"""What every change of a delivery leaves behind: events, hourly counts, the notification's open count.

Owns the three statements and their order (counts last: their rows are the ones that concurrent transactions share, so
they are locked for the shortest time; only a project that is listened to has its events noted behind them). Refuses to
know why something changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha512
from itertools import cycle
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from gateway.model.ids import IdSource
from gateway.model.states import NotificationStatus
from gateway.storage import outbox
from gateway.storage.bulk import Batch, Kind, Values, columns, insert_into, run, uuid_of

OPEN: Final = "open"
"""The stored state of a notification that still has deliveries to settle."""

HOUR_MS: Final = 3_600_000

_INSERT_EVENTS: Final = insert_into("events", outbox.EVENT)

_COUNT: Final = insert_into(
    "counts",
    columns(
        hour=Kind.INT,
        shard=Kind.INT,
        project=Kind.TEXT,
        channel=Kind.TEXT,
        provider=Kind.TEXT,
        status=Kind.TEXT,
        reason=Kind.TEXT,
        count=Kind.INT,
    ),
    "ON CONFLICT (hour, shard, project, channel, provider, status, reason)"
    " DO UPDATE SET count = counts.count + excluded.count"
    f" RETURNING {outbox.HEARD.format(project='counts.project')}",
)
"""Also tells whether any of the projects has an endpoint that may want to hear of this."""

_CLOSE: Final = Batch(
    """
    UPDATE notifications
    SET open_deliveries = open_deliveries - v.closed,
        state = CASE WHEN state = 'open' AND open_deliveries <= v.closed THEN 'completed' ELSE state END,
        updated_at = v.at
    FROM v
    WHERE notifications.id = v.id
    RETURNING notifications.id, open_deliveries, state, updated_at
    """,
    columns(id=Kind.ID, closed=Kind.INT, at=Kind.INT),
)


class Entry(NamedTuple):
    """One delivery that entered a status; `closed` when that made it final."""

    notification_id: UUID
    delivery_id: UUID
    project: str
    channel: str
    provider: str | None
    status: str
    reason: str | None
    detail: str | None
    at: int
    closed: bool
    type: str | None = None
    """The event's type where it is not `delivery.<status>`: an engagement changes no status and is not counted."""
    chain: tuple[int, int] | None = None
    """Its position and step, where several channels go in turn: others may wait for what becomes of it."""


class Books:
    """What writing needs besides rows: ids for events, a shard for counts, the name of the simulated provider.

    `shards` is how many transactions may count at once without waiting for each other. `secret` hides addresses that
    must be known again and not be read; it is the same in every process, for ever.
    """

    def __init__(self, ids: IdSource, *, shards: int, simulator: str, secret: bytes) -> None:
        self.ids = ids
        self.simulator = simulator
        self._key = secret if len(secret) <= blake2b.MAX_KEY_SIZE else sha512(secret).digest()
        self._shards = cycle(range(shards))

    def hide(self, channel: str, key: str) -> bytes:
        """Make the keyed hash of an address; `key` is its form for matching."""
        return blake2b(f"{channel}:{key}".encode(), key=self._key, digest_size=32, person=b"forgotten").digest()

    def shard(self) -> int:
        """Choose where this transaction counts."""
        return next(self._shards)


def record(conn: Connection, books: Books, entries: Sequence[Entry]) -> None:
    """Write the events of what changed, close what became final, and count."""
    if not entries:
        return
    events = [
        (
            entry.notification_id,
            id_,
            entry.delivery_id,
            entry.type or f"delivery.{entry.status}",
            entry.at,
            entry.status,
            entry.reason,
            entry.detail,
        )
        for entry, id_ in zip(entries, books.ids.many(entries[0].at, len(entries)), strict=True)
    ]
    closed: dict[UUID, list[int]] = {}
    for entry in entries:
        if entry.closed:
            seen = closed.setdefault(entry.notification_id, [0, entry.at])
            seen[0] += 1
            seen[1] = max(seen[1], entry.at)
    completed = close(conn, {id_: (count, at) for id_, (count, at) in closed.items()})
    events += completion_events(books, completed)
    run(conn, _INSERT_EVENTS, events)
    counted = [entry for entry in entries if entry.type is None]
    if count(conn, books, counted) or len(counted) < len(entries):
        outbox.note(conn, events)


def close(conn: Connection, closed: dict[UUID, tuple[int, int]]) -> list[tuple[UUID, int]]:
    """Take closed deliveries off their notifications' open counts; answers which are thereby completed, and when."""
    # In the order of ids, so that two transactions lock notifications in the same order.
    rows = run(conn, _CLOSE, [(id_, number, at) for id_, (number, at) in sorted(closed.items())])
    return [(uuid_of(id_), at) for id_, left, state, at in rows if left <= 0 and state == NotificationStatus.COMPLETED]


def completion_events(books: Books, completed: list[tuple[UUID, int]]) -> list[Values]:
    """Make the rows of `notification.completed`."""
    return [_of_notification(books, id_, NotificationStatus.COMPLETED, at) for id_, at in completed]


def finish(conn: Connection, books: Books, id_: UUID, status: NotificationStatus, at: int) -> None:
    """Write the event of one notification that reached its end."""
    events = [_of_notification(books, id_, status, at)]
    run(conn, _INSERT_EVENTS, events)
    outbox.note(conn, events)


def write_completions(conn: Connection, books: Books, completed: list[tuple[UUID, int]]) -> None:
    """Write `notification.completed` for each."""
    events = completion_events(books, completed)
    run(conn, _INSERT_EVENTS, events)
    outbox.note(conn, events)


def record_planned(
    conn: Connection,
    books: Books,
    entries: Sequence[Entry],
    completed: list[tuple[UUID, int]],
) -> None:
    """Count what was just planned. Its events are derived from the deliveries; what is done at once is written."""
    done = completion_events(books, completed)
    run(conn, _INSERT_EVENTS, done)
    if count(conn, books, entries):
        outbox.note(conn, [*map(_as_planned, entries), *done])


def count(conn: Connection, books: Books, entries: Iterable[Entry]) -> bool:
    """Add to the hourly counts; answers whether an endpoint may want to hear of what was counted."""
    shard = books.shard()
    numbers = Counter(
        (
            entry.at - entry.at % HOUR_MS,
            shard,
            entry.project,
            entry.channel,
            entry.provider or "",
            entry.status,
            entry.reason or "",
        )
        for entry in entries
    )
    return any(heard for (heard,) in run(conn, _COUNT, sorted((*key, number) for key, number in numbers.items())))


def _as_planned(entry: Entry) -> Values:
    """Write a delivery's first event, which bears the delivery's own id."""
    return (
        entry.notification_id,
        entry.delivery_id,
        entry.delivery_id,
        f"delivery.{entry.status}",
        entry.at,
        entry.status,
        entry.reason,
        entry.detail,
    )


def _of_notification(books: Books, id_: UUID, status: NotificationStatus, at: int) -> Values:
    return (id_, books.ids.new(at), None, f"notification.{status}", at, status, None, None)
