"""Housekeeping: what time does to rows.

Owns expiry, giving up on receipts, and retention. Every step is one short transaction over at most a slice of rows,
found through an index, so that a step with nothing to do costs next to nothing. Refuses to know how often it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from gateway.model.ids import time_of
from gateway.model.states import Status, Why
from gateway.observe.masking import mask_text
from gateway.storage import cancelling, ledger, status, turns
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, run, uuid_of
from gateway.storage.contract import Kept, UpkeepRules
from gateway.storage.ledger import OPEN, Books
from gateway.storage.reading import first_id_of

_KEPT_REPORTS_MS: Final = 4 * 86_400_000
"""How long a provider's report may wait for its delivery: longer than any receipt takes."""

_KEPT_COUNTS_MS: Final = 400 * 86_400_000
"""A year of hourly counts and some."""

BEGINNING: Final = UUID(int=0)
"""Before every id: where a walk begins."""

_IDS: Final = columns(id=Kind.ID)

_PAST_DEADLINE: Final = Query(
    """
    SELECT q.delivery_id, d.notification_id, d.project, d.channel, d.provider, d.position, d.step
    FROM queue AS q JOIN deliveries AS d ON d.id = q.delivery_id
    WHERE q.deadline_at <= $1 AND q.leased_by IS NULL AND NOT q.unsure AND q.losses = 0
    ORDER BY q.deadline_at LIMIT $2 {lock q skip}
    """,
)

_WITHOUT_RECEIPT: Final = Query(
    "SELECT delivery_id FROM awaiting_receipt WHERE since < $1 ORDER BY since LIMIT $2 {lock skip}",
)

_FINALISE: Final = Batch(
    """
    UPDATE deliveries SET final = TRUE FROM v WHERE deliveries.id = v.id AND NOT final
    RETURNING deliveries.notification_id, deliveries.id, deliveries.project, deliveries.channel, deliveries.provider,
              deliveries.status, deliveries.position, deliveries.step
    """,
    _IDS,
)

_WITH_CONTENTS: Final = Query(
    """
    WITH next AS MATERIALIZED (
        SELECT notification_id FROM requests
        WHERE notification_id > $1 AND notification_id < $2 ORDER BY notification_id LIMIT $3
    )
    SELECT n.id, n.state, n.category FROM next JOIN notifications AS n ON n.id = next.notification_id ORDER BY n.id
    """,
)
"""`MATERIALIZED`: PostgreSQL may else walk the notifications first, most of which have no contents any more."""

_OLD: Final = Query("SELECT id, state, category FROM notifications WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3")

_BLANK: Final = (
    Batch("DELETE FROM requests WHERE notification_id IN (SELECT id FROM v)", _IDS),
    Batch("DELETE FROM attachments WHERE notification_id IN (SELECT id FROM v)", _IDS),
    Batch("DELETE FROM echoes WHERE carrier_id IN (SELECT id FROM v)", _IDS),
    Batch(
        "UPDATE deliveries SET recipient = v.object, address = NULL FROM v WHERE deliveries.notification_id = v.id",
        columns(id=Kind.ID, object=Kind.BYTES),
    ),
    Batch(
        """
        UPDATE captured
        SET to_address = '', original_to = '', subject = NULL, text = NULL, html = NULL, searched = '',
            data = v.object, headers = v.object, attachments = v.list, raw = v.empty
        FROM v WHERE captured.notification_id = v.id
        """,
        columns(id=Kind.ID, object=Kind.BYTES, list=Kind.BYTES, empty=Kind.BYTES),
    ),
)

_TOLD: Final = (
    (
        Batch(
            """
            SELECT d.id, d.detail FROM v JOIN deliveries AS d ON d.notification_id = v.id
            WHERE d.detail LIKE '%@%' OR d.detail LIKE '%+%'
            """,
            _IDS,
        ),
        Batch(
            "UPDATE deliveries SET detail = v.detail FROM v WHERE deliveries.id = v.id",
            columns(id=Kind.ID, detail=Kind.TEXT),
        ),
    ),
    (
        Batch(
            """
            SELECT a.delivery_id, a.number, a.detail FROM v JOIN deliveries AS d ON d.notification_id = v.id
            JOIN attempts AS a ON a.delivery_id = d.id WHERE a.detail LIKE '%@%' OR a.detail LIKE '%+%'
            """,
            _IDS,
        ),
        Batch(
            """
            UPDATE attempts SET detail = v.detail FROM v
            WHERE attempts.delivery_id = v.id AND attempts.number = v.number
            """,
            columns(id=Kind.ID, number=Kind.INT, detail=Kind.TEXT),
        ),
    ),
    (
        Batch(
            """
            SELECT e.notification_id, e.id, e.detail FROM v JOIN events AS e ON e.notification_id = v.id
            WHERE e.detail LIKE '%@%' OR e.detail LIKE '%+%'
            """,
            _IDS,
        ),
        Batch(
            """
            UPDATE events SET detail = v.detail FROM v
            WHERE events.notification_id = v.about AND events.id = v.id
            """,
            columns(about=Kind.ID, id=Kind.ID, detail=Kind.TEXT),
        ),
    ),
)
"""Providers' own words, which may repeat an address: what finds them, and what writes them masked."""

_DELETE: Final = (
    Batch(
        "DELETE FROM collapsing WHERE delivery_id IN"
        " (SELECT d.id FROM v JOIN deliveries AS d ON d.notification_id = v.id)",
        _IDS,
    ),
    Batch(
        "DELETE FROM attempts WHERE delivery_id IN"
        " (SELECT d.id FROM v JOIN deliveries AS d ON d.notification_id = v.id)",
        _IDS,
    ),
    Batch(
        "DELETE FROM digest_items WHERE delivery_id IN"
        " (SELECT d.id FROM v JOIN deliveries AS d ON d.notification_id = v.id)",
        _IDS,
    ),
    Batch("DELETE FROM echoes WHERE carrier_id IN (SELECT id FROM v)", _IDS),
    *(
        Batch(f"DELETE FROM {table} WHERE notification_id IN (SELECT id FROM v)", _IDS)  # noqa: S608 - constants
        for table in ("events", "tags", "attachments", "requests", "captured", "deliveries")
    ),
    Batch("DELETE FROM notifications WHERE id IN (SELECT id FROM v)", _IDS),
)

_TRIM: Final = Query(
    "DELETE FROM captured WHERE id IN (SELECT id FROM captured WHERE id < $1 ORDER BY id LIMIT $2) RETURNING id",
)

_FIRST_KEPT: Final = Query("SELECT id FROM captured ORDER BY id DESC LIMIT 1 OFFSET $1")

_FORGET_KEYS: Final = Query(
    """
    WITH picked AS MATERIALIZED
        (SELECT key_id, key FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 {lock skip})
    DELETE FROM idempotency WHERE (key_id, key) IN (SELECT key_id, key FROM picked)
    RETURNING key
    """,
)

_FORGET_REPORTS: Final = Query(
    """
    WITH picked AS MATERIALIZED
        (SELECT provider, told_by, type FROM status_changes
         WHERE received_at < $1 AND due_at < $1 ORDER BY received_at LIMIT $2 {lock skip})
    DELETE FROM status_changes WHERE (provider, told_by, type) IN (SELECT provider, told_by, type FROM picked)
    RETURNING type
    """,
)

"""`MATERIALIZED`: PostgreSQL may else run the inner SELECT again for each row, and its limit holds for nothing."""

_FORGET_COUNTS: Final = Query("DELETE FROM counts WHERE hour < $1")


def expire(conn: Connection, now: int, limit: int, *, books: Books, due: set[str]) -> int:
    """End what is past its deadline and in nobody's hands; answers how many. `due` gets the lanes of what follows."""
    rows = ask(conn, _PAST_DEADLINE, now, limit)
    cancelling.end(conn, [uuid_of(row[0]) for row in rows], Status.EXPIRED, Why.EXPIRED, now)
    entries = [
        ledger.Entry(
            notification_id=uuid_of(row[1]),
            delivery_id=uuid_of(row[0]),
            project=row[2],
            channel=row[3],
            provider=row[4],
            status=Status.EXPIRED,
            reason=Why.EXPIRED,
            detail=None,
            at=now,
            closed=True,
            chain=None if row[6] is None else (row[5], row[6]),
        )
        for row in rows
    ]
    ledger.record(conn, books, [*entries, *turns.followers(conn, entries, due)])
    return len(rows)


def finalise(conn: Connection, before: int, now: int, limit: int, *, books: Books, due: set[str]) -> int:
    """Make final what was sent before then and never confirmed; answers how many."""
    ids = sorted(uuid_of(row[0]) for row in ask(conn, _WITHOUT_RECEIPT, before, limit))
    closed: dict[UUID, tuple[int, int]] = {}
    ended: list[ledger.Entry] = []
    for row in run(conn, _FINALISE, [(id_,) for id_ in ids]):
        notification_id = uuid_of(row[0])
        closed[notification_id] = (closed.get(notification_id, (0, now))[0] + 1, now)
        ended.append(_ended(row, now))
    status.stop_waiting(conn, ids)
    ledger.record(conn, books, turns.followers(conn, ended, due))
    ledger.write_completions(conn, books, ledger.close(conn, closed))
    return len(ids)


def _ended(row: Sequence[Any], now: int) -> ledger.Entry:
    """Say that a delivery is final in a status it had before: for those behind it, not for the ledger."""
    return ledger.Entry(
        notification_id=uuid_of(row[0]),
        delivery_id=uuid_of(row[1]),
        project=row[2],
        channel=row[3],
        provider=row[4],
        status=row[5],
        reason=None,
        detail=None,
        at=now,
        closed=True,
        chain=None if row[7] is None else (row[6], row[7]),
    )


class Walked(NamedTuple):
    """How far a walk from the oldest on has come: what it did in this slice, and after whom it goes on.

    A slice is so many rows that are looked at, not so many that are found finished: a million that still wait, all
    older than the rule's time, must not be read in every round. Once at the end, the walk begins anew.
    """

    done: int
    last: UUID

    @property
    def more(self) -> bool:
        """Whether the next slice is likely to find some, too."""
        return self.done > 0 and self.last != BEGINNING


def blank(conn: Connection, rules: UpkeepRules, after: UUID) -> Walked:
    """Forget contents and addresses of finished notifications of before the rule's time, a slice from `after` on."""
    ids, last = _finished(conn, _WITH_CONTENTS, after, rules.contents, rules.slice)
    blanks = (b"{}", b"[]", b"")
    for statement in _BLANK:
        run(conn, statement, [(id_, *blanks[: len(statement.columns) - 1]) for id_ in ids])
    for told, mask in _TOLD:
        masked = [(*key, mask_text(detail)) for *key, detail in run(conn, told, [(id_,) for id_ in ids])]
        run(conn, mask, masked)
    return Walked(len(ids), last)


def delete(conn: Connection, rules: UpkeepRules, after: UUID) -> Walked:
    """Delete finished notifications of before the rule's time with all that hangs on them, a slice from `after` on."""
    ids, last = _finished(conn, _OLD, after, rules.notifications, rules.slice)
    for statement in _DELETE:
        run(conn, statement, [(id_,) for id_ in ids])
    return Walked(len(ids), last)


def trim_captured(conn: Connection, rules: UpkeepRules) -> int:
    """Delete captured messages that are too old or too many, oldest first; answers how many."""
    bound = first_id_of(rules.captured_before)
    if rules.captured_most > 0:
        kept = ask(conn, _FIRST_KEPT, rules.captured_most - 1)
        bound = max(bound, uuid_of(kept[0][0])) if kept else bound
    return len(ask(conn, _TRIM, bound, rules.slice))


def forget_keys(conn: Connection, now: int, limit: int) -> int:
    """Delete expired idempotency keys; answers how many."""
    return len(ask(conn, _FORGET_KEYS, now, limit))


def forget_reports(conn: Connection, now: int, limit: int) -> int:
    """Delete reports that never found a delivery, and counts of long ago; answers how many reports."""
    ask(conn, _FORGET_COUNTS, now - _KEPT_COUNTS_MS)
    return len(ask(conn, _FORGET_REPORTS, now - _KEPT_REPORTS_MS, limit))


def _finished(conn: Connection, query: Query, after: UUID, kept: Kept, limit: int) -> tuple[list[UUID], UUID]:
    """Look at a slice; answers which are finished and have been kept long enough, and after whom to go on."""
    rows = [(uuid_of(id_), *rest) for id_, *rest in ask(conn, query, after, first_id_of(kept.latest), limit)]
    ids = [id_ for id_, state, category in rows if state != OPEN and kept.is_over(category, time_of(id_))]
    return ids, rows[-1][0] if len(rows) == limit else BEGINNING
