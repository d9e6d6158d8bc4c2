"""The inbox: items put in by settlements, and what people do with them.

Owns the tables `inboxes` and `inbox_items`. Whoever changes an inbox raises its version first, which locks its row: so
all changes of one inbox stand in one order, and whoever has seen version n misses nothing by asking for what came after
n. The row is locked after deliveries and queue rows, here as in `settling`, so that neither waits for the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, or_, select

from gateway.model.inbox import PROVIDER, TELLS, Act
from gateway.storage import status
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import (
    InboxFilter,
    InboxItem,
    InboxMark,
    InboxMarked,
    InboxNews,
    InboxPage,
    InboxRow,
    InboxWatch,
    StatusChange,
)
from gateway.storage.ledger import Books
from gateway.storage.reading import first_id_of
from gateway.storage.schema import INBOX_ITEMS

SLICE: Final = 200
"""Items marked in one transaction: each is also a report about its delivery."""

_NEWS_MOST: Final = 100
"""Changes that are told one by one. Each raises the version by one, so that this bounds what is read."""

_RAISE: Final = insert_into(
    "inboxes",
    columns(user_id=Kind.TEXT, version=Kind.INT),
    "ON CONFLICT (user_id) DO UPDATE SET version = inboxes.version + excluded.version RETURNING user_id, version",
)

_INSERT: Final = insert_into(
    "inbox_items",
    columns(
        id=Kind.ID,
        user_id=Kind.TEXT,
        number=Kind.INT,
        version=Kind.INT,
        delivery_id=Kind.ID,
        notification_id=Kind.ID,
        project=Kind.TEXT,
        category=Kind.TEXT,
        collapse_key=Kind.TEXT,
        title=Kind.TEXT,
        body_text=Kind.TEXT,
        body_html=Kind.TEXT,
        data=Kind.BYTES,
        created_at=Kind.INT,
        expires_at=Kind.INT,
    ),
)

_REPLACED: Final = Batch(
    """
    SELECT i.id, v.user_id FROM v
    JOIN inbox_items AS i ON i.user_id = v.user_id AND i.collapse_key = v.collapse_key
        AND i.project = v.project AND i.number < v.number
    WHERE i.collapse_key IS NOT NULL AND i.archived_at IS NULL AND (i.expires_at IS NULL OR i.expires_at > v.now)
    """,
    columns(user_id=Kind.TEXT, collapse_key=Kind.TEXT, project=Kind.TEXT, number=Kind.INT, now=Kind.INT),
)

_TAKE_AWAY: Final = Batch(
    "UPDATE inbox_items SET expires_at = v.now, version = v.version FROM v WHERE inbox_items.id = v.id",
    columns(id=Kind.ID, version=Kind.INT, now=Kind.INT),
)

_NAMES: Final = (
    "i.id, i.user_id, i.number, i.version, i.delivery_id, i.notification_id, i.project, i.category, i.collapse_key, "
    "i.title, i.body_text, i.body_html, i.data, i.created_at, i.seen_at, i.read_at, i.archived_at, i.expires_at"
)

_ITEMS: Final = Batch(
    f"SELECT {_NAMES} FROM v JOIN inbox_items AS i ON i.id = v.id ORDER BY i.id",  # noqa: S608 - a constant
    columns(id=Kind.ID),
)

_MARK: Final = Batch(
    """
    UPDATE inbox_items
    SET version = v.version,
        seen_at = CASE WHEN v.seen THEN coalesce(inbox_items.seen_at, v.now) ELSE inbox_items.seen_at END,
        read_at = CASE WHEN v.read THEN coalesce(inbox_items.read_at, v.now)
                       WHEN v.unread THEN NULL ELSE inbox_items.read_at END,
        archived_at = CASE WHEN v.archive THEN coalesce(inbox_items.archived_at, v.now)
                           WHEN v.unarchive THEN NULL ELSE inbox_items.archived_at END
    FROM v WHERE inbox_items.id = v.id
    """,
    columns(
        id=Kind.ID,
        version=Kind.INT,
        now=Kind.INT,
        seen=Kind.BOOL,
        read=Kind.BOOL,
        unread=Kind.BOOL,
        archive=Kind.BOOL,
        unarchive=Kind.BOOL,
    ),
)

_UNREAD: Final = Batch(
    """
    SELECT v.place, count(i.id) FROM v
    LEFT JOIN inbox_items AS i ON i.user_id = v.user_id AND i.read_at IS NULL AND i.archived_at IS NULL
        AND (v.project IS NULL OR i.project = v.project) AND (i.expires_at IS NULL OR i.expires_at > v.now)
    WHERE v.place IS NOT NULL
    GROUP BY v.place
    """,
    columns(place=Kind.INT, user_id=Kind.TEXT, project=Kind.TEXT, now=Kind.INT),
)

_VERSIONS: Final = Batch(
    "SELECT i.user_id, i.version FROM v JOIN inboxes AS i ON i.user_id = v.user_id",
    columns(user_id=Kind.TEXT),
)

_CHANGED: Final = Batch(
    f"""
    SELECT v.place, {_NAMES} FROM v
    JOIN inbox_items AS i ON i.user_id = v.user_id AND i.version > v.since
        AND (v.project IS NULL OR i.project = v.project)
    ORDER BY i.number
    """,  # noqa: S608 - a constant
    columns(place=Kind.INT, user_id=Kind.TEXT, project=Kind.TEXT, since=Kind.INT),
)

_THERE: Final = Query("SELECT user_id FROM users WHERE user_id = $1")

_OLD: Final = Query("SELECT id FROM inbox_items WHERE id < $1 ORDER BY id LIMIT $2")

_EXPIRED: Final = Query(
    "SELECT id FROM inbox_items WHERE expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
)

_DELETE: Final = Batch("DELETE FROM inbox_items WHERE id IN (SELECT id FROM v)", columns(id=Kind.ID))

_KEPT_EXPIRED_MS: Final = 86_400_000
"""How long an expired or replaced item is kept, so that whoever watches the inbox can be told that it is gone."""


def keep(conn: Connection, rows: Sequence[InboxRow]) -> None:
    """Put items into their inboxes, each with the next number of its own, and take away what they replace."""
    if not rows:
        return
    next_ = _raised(conn, Counter(row.user_id for row in rows))
    numbered: list[tuple[InboxRow, int]] = []
    for row in rows:
        next_[row.user_id] += 1
        numbered.append((row, next_[row.user_id]))
    run(conn, _INSERT, [_values(row, number) for row, number in sorted(numbered, key=lambda pair: pair[0].id)])
    _replace(conn, numbered)


def _raised(conn: Connection, by_user: Counter[str]) -> dict[str, int]:
    """Raise the versions of several inboxes; answers what each was before. Sorted, as whoever locks several must."""
    raised = run(conn, _RAISE, sorted(by_user.items()))
    return {row[0]: row[1] - by_user[row[0]] for row in raised}


def _replace(conn: Connection, numbered: Sequence[tuple[InboxRow, int]]) -> None:
    """End what lies where a newer one came; each is a change of its own, so that nobody who watches misses it."""
    now = max(row.created_at for row, _ in numbered)
    keyed = [(row, number) for row, number in numbered if row.collapse_key is not None]
    found = run(conn, _REPLACED, [(row.user_id, row.collapse_key, row.project, number, now) for row, number in keyed])
    gone = {uuid_of(id_): user_id for id_, user_id in found}
    next_ = _raised(conn, Counter(gone.values())) if gone else {}
    ends: list[Values] = []
    for id_, user_id in sorted(gone.items()):
        next_[user_id] += 1
        ends.append((id_, next_[user_id], now))
    run(conn, _TAKE_AWAY, ends)


def page(conn: Connection, where: InboxFilter, now: int) -> InboxPage | None:
    """Show a page; `None`: there is no such user."""
    if not ask(conn, _THERE, where.user_id):
        return None
    rows = conn.execute(listed(where, now)).all()
    return InboxPage(items=tuple(_item(row) for row in rows), unread=_unread(conn, where.user_id, where.project, now))


def listed(where: InboxFilter, now: int) -> Select[Any]:
    """Write the query of a page."""
    i = INBOX_ITEMS.c
    conditions: list[ColumnElement[bool]] = [
        i.user_id == where.user_id,
        or_(i.expires_at.is_(None), i.expires_at > now),
        i.archived_at.is_not(None) if where.archived else i.archived_at.is_(None),
    ]
    if where.unread:
        conditions.append(i.read_at.is_(None))
    if where.project is not None:
        conditions.append(i.project == where.project)
    if where.before is not None:
        conditions.append(i.number < where.before)
    return select(*_COLUMNS).where(*conditions).order_by(i.number.desc()).limit(where.limit)


def to_mark(mark: InboxMark, now: int, up_to: int | None) -> Select[Any]:
    """Write the query of what a mark for all would change, newest first."""
    i = INBOX_ITEMS.c
    unmarked = {Act.SEEN: i.seen_at, Act.READ: i.read_at, Act.ARCHIVE: i.archived_at}[mark.act]
    conditions: list[ColumnElement[bool]] = [
        i.user_id == mark.user_id,
        unmarked.is_(None),
        i.archived_at.is_(None),
        or_(i.expires_at.is_(None), i.expires_at > now),
    ]
    if mark.project is not None:
        conditions.append(i.project == mark.project)
    if up_to is not None:
        conditions.append(i.number <= up_to)
    return select(*_COLUMNS).where(*conditions).order_by(i.number.desc()).limit(SLICE)


def mark(conn: Connection, wanted: InboxMark, now: int, *, books: Books, due: set[str]) -> InboxMarked | None:
    """Mark one item or a slice of all; `None`: the one that is named is not in this inbox.

    The lanes in which something came due by it are added to `due`.
    """
    named = wanted.id or wanted.up_to
    found = None if named is None else _own(conn, wanted, named)
    if named is not None and found is None:
        return None
    if wanted.id is not None and found is not None:
        chosen = [found] if _changes(found, wanted.act) else []
    else:
        query = to_mark(wanted, now, None if found is None else found.number)
        chosen = [_item(row) for row in conn.execute(query).all()]
    _apply(conn, chosen, wanted.act, now, books=books, due=due)
    return InboxMarked(
        item=None if wanted.id is None else _own(conn, wanted, wanted.id),
        changed=len(chosen),
        unread=_unread(conn, wanted.user_id, wanted.project, now),
    )


def _apply(conn: Connection, chosen: Sequence[InboxItem], act: Act, now: int, *, books: Books, due: set[str]) -> None:
    if not chosen:
        return
    reports = [_report(books.ids.new(now), item, said, now) for item in chosen for said in TELLS[act]]
    status.apply_status(conn, reports, now, books=books, due=due)
    version = _raised(conn, Counter(item.user_id for item in chosen))[chosen[0].user_id]
    read, archive = act in (Act.READ, Act.ACKNOWLEDGE), act is Act.ARCHIVE
    seen = bool(TELLS[act])
    rows = [
        (item.id, version + place, now, seen, read, act is Act.UNREAD, archive, act is Act.UNARCHIVE)
        for place, item in enumerate(sorted(chosen, key=lambda item: item.number), start=1)
    ]
    run(conn, _MARK, sorted(rows))


def _report(id_: UUID, item: InboxItem, said: str, now: int) -> StatusChange:
    return StatusChange(
        id=id_,
        provider=PROVIDER,
        provider_id=None,
        delivery_id=item.delivery_id,
        type=said,
        reason=None,
        detail=None,
        at=now,
        due_at=now,
    )


def _changes(item: InboxItem, act: Act) -> bool:
    """Say whether a mark changes an item. An answer is always worth telling: only its delivery knows of an earlier."""
    match act:
        case Act.SEEN:
            return item.seen_at is None
        case Act.READ:
            return item.read_at is None or item.seen_at is None
        case Act.UNREAD:
            return item.read_at is not None
        case Act.ARCHIVE:
            return item.archived_at is None
        case Act.UNARCHIVE:
            return item.archived_at is not None
        case Act.ACKNOWLEDGE:
            return True


def _own(conn: Connection, wanted: InboxMark, id_: UUID) -> InboxItem | None:
    rows = run(conn, _ITEMS, [(id_,)])
    item = _item(rows[0]) if rows else None
    if item is None or item.user_id != wanted.user_id or wanted.project not in (None, item.project):
        return None
    return item


def versions(conn: Connection, users: Collection[str]) -> dict[str, int]:
    """Tell how far several inboxes have come."""
    return {row[0]: row[1] for row in run(conn, _VERSIONS, [(user_id,) for user_id in sorted(users)])}


def news(conn: Connection, asked: Sequence[tuple[InboxWatch, int]]) -> list[InboxNews]:
    """Tell what changed in several inboxes; a version that is not theirs (an erased person's) is asked from anew."""
    known = versions(conn, {watch.user_id for watch, _ in asked})
    at = [known.get(watch.user_id, 0) for watch, _ in asked]
    since = [version if watch.since is None else watch.since for version, (watch, _) in zip(at, asked, strict=True)]
    whole = [0 <= version - known_ <= _NEWS_MOST for version, known_ in zip(at, since, strict=True)]
    wanted = [
        (place, watch.user_id, watch.project, since[place])
        for place, (watch, _) in enumerate(asked)
        if whole[place] and at[place] > since[place]
    ]
    items: defaultdict[int, list[InboxItem]] = defaultdict(list)
    for place, *row in run(conn, _CHANGED, wanted):
        items[place].append(_item(row))
    counted = [(place, watch.user_id, watch.project, now) for place, (watch, now) in enumerate(asked)]
    unread = dict(map(tuple, run(conn, _UNREAD, counted)))
    return [
        InboxNews(version=version, items=tuple(items[place]), unread=unread[place], whole=whole[place])
        for place, version in enumerate(at)
    ]


def of_user(conn: Connection, user_id: str, project: str | None) -> list[InboxItem]:
    """List what lies in an inbox, archived items too, newest first: for whoever tells a person what is held."""
    i = INBOX_ITEMS.c
    own = [i.user_id == user_id] if project is None else [i.user_id == user_id, i.project == project]
    rows = conn.execute(select(*_COLUMNS).where(*own).order_by(i.number.desc())).all()
    return [_item(row) for row in rows]


def forget(conn: Connection, before: int, now: int, limit: int) -> int:
    """Delete what is old, and what expired a while ago; answers how many."""
    rows = [*ask(conn, _OLD, first_id_of(before), limit), *ask(conn, _EXPIRED, now - _KEPT_EXPIRED_MS, limit)]
    gone = sorted({uuid_of(row[0]) for row in rows})
    run(conn, _DELETE, [(id_,) for id_ in gone])
    return len(gone)


def _unread(conn: Connection, user_id: str, project: str | None, now: int) -> int:
    [(_, number)] = run(conn, _UNREAD, [(0, user_id, project, now)])
    return int(number)


def _values(row: InboxRow, number: int) -> Values:
    return (
        row.id,
        row.user_id,
        number,
        number,
        row.delivery_id,
        row.notification_id,
        row.project,
        row.category,
        row.collapse_key,
        row.title,
        row.text,
        row.html,
        row.data,
        row.created_at,
        row.expires_at,
    )


_COLUMNS: Final = [INBOX_ITEMS.c[name.removeprefix("i.")] for name in _NAMES.split(", ")]


def _item(row: Sequence[Any]) -> InboxItem:
    return InboxItem(
        id=uuid_of(row[0]),
        user_id=row[1],
        number=row[2],
        version=row[3],
        delivery_id=uuid_of(row[4]),
        notification_id=uuid_of(row[5]),
        project=row[6],
        category=row[7],
        collapse_key=row[8],
        title=row[9],
        text=row[10],
        html=row[11],
        data=bytes(row[12]),
        created_at=row[13],
        seen_at=row[14],
        read_at=row[15],
        archived_at=row[16],
        expires_at=row[17],
    )
