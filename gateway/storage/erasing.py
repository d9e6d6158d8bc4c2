"""Erasing a person: from every table, in slices.

Owns the list of where a person can be (`PLACES`) and the order: deliveries with all that hangs on them first, a slice
to a transaction, then what is kept by address and by user, and the profile last. A test holds the list against the
tables: a new column is either named in a place or said to tell nothing about anybody (`PLAIN`).

A row that others need (a delivery that was counted, a request to several people) stays, without the person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from gateway.model import ids
from gateway.model.addresses import list_key
from gateway.model.states import Status, Why
from gateway.storage import cancelling, echoes, ledger
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import UserRow
from gateway.storage.ledger import Books

SLICE: Final = 100
"""Deliveries of one transaction: a few milliseconds, so that nobody waits."""


_PERSONAL_CHANNELS: Final = frozenset({"email", "sms", "web_push", "mobile_push"})


class By(StrEnum):
    """How a place is found."""

    DELIVERY = "delivery"
    ALONE = "notification that speaks of nobody else"
    ECHO = "notification that carries an event about them to an endpoint"
    ADDRESS = "address"
    USER = "user"


class Place(msgspec.Struct, frozen=True):
    """Where a person can be: a table, what of it speaks of them, and the statement that removes or blanks it.

    The statement takes the columns of its `by` and answers a row for each that it touched.
    """

    table: str
    personal: tuple[str, ...]
    by: By
    statement: Batch


_DELIVERY: Final = columns(id=Kind.ID, notification_id=Kind.ID, object=Kind.BYTES)
_ALONE: Final = columns(id=Kind.ID, list=Kind.BYTES)
_ECHO: Final = columns(id=Kind.ID)
_ADDRESS: Final = columns(channel=Kind.TEXT, address=Kind.TEXT)
_USER: Final = columns(user_id=Kind.TEXT)

PLACES: Final = (
    Place(
        "deliveries",
        ("address", "address_id", "user_id", "recipient", "first_detail", "detail"),
        By.DELIVERY,
        Batch(
            """
            UPDATE deliveries
            SET address = NULL, address_id = NULL, user_id = NULL, recipient = v.object, first_detail = NULL,
                detail = NULL
            FROM v WHERE deliveries.id = v.id
            RETURNING deliveries.id
            """,
            _DELIVERY,
        ),
    ),
    Place(
        "attempts",
        ("detail",),
        By.DELIVERY,
        Batch(
            "UPDATE attempts SET detail = NULL FROM v WHERE attempts.delivery_id = v.id RETURNING attempts.number",
            _DELIVERY,
        ),
    ),
    Place(
        "events",
        ("detail",),
        By.DELIVERY,
        Batch(
            """
            UPDATE events SET detail = NULL FROM v
            WHERE events.notification_id = v.notification_id AND events.delivery_id = v.id
            RETURNING events.id
            """,
            _DELIVERY,
        ),
    ),
    Place(
        "captured",
        (
            *("to_address", "original_to", "subject", "text", "html", "data", "headers", "attachments", "raw"),
            *("reference", "searched"),
        ),
        By.DELIVERY,
        Batch(
            """
            DELETE FROM captured
            WHERE notification_id IN (SELECT notification_id FROM v) AND delivery_id IN (SELECT id FROM v)
            RETURNING id
            """,
            _DELIVERY,
        ),
    ),
    Place(
        "status_changes",
        ("detail", "address", "sender"),
        By.DELIVERY,
        Batch("DELETE FROM status_changes WHERE delivery_id IN (SELECT id FROM v) RETURNING id", _DELIVERY),
    ),
    Place(
        "status_changes",
        ("detail", "address", "sender"),
        By.DELIVERY,
        Batch(
            """
            DELETE FROM status_changes WHERE (provider, told_by) IN
                (SELECT a.provider, a.provider_id FROM v JOIN attempts AS a ON a.delivery_id = v.id
                 WHERE a.provider_id IS NOT NULL)
            RETURNING id
            """,
            _DELIVERY,
        ),
    ),
    Place(
        "outbox",
        ("detail", "about"),
        By.DELIVERY,
        Batch(
            "UPDATE outbox SET detail = NULL, about = NULL FROM v WHERE outbox.delivery_id = v.id RETURNING outbox.id",
            _DELIVERY,
        ),
    ),
    Place(
        "collapsing",
        ("place",),
        By.DELIVERY,
        Batch("DELETE FROM collapsing WHERE delivery_id IN (SELECT id FROM v) RETURNING place", _DELIVERY),
    ),
    Place(
        "digests",
        ("key",),
        By.DELIVERY,
        Batch(
            """
            UPDATE digests SET key = NULL
            WHERE id IN (SELECT i.digest_id FROM v JOIN digest_items AS i ON i.delivery_id = v.id) RETURNING id
            """,
            _DELIVERY,
        ),
    ),
    Place(
        "digest_items",
        ("key",),
        By.DELIVERY,
        Batch(
            "UPDATE digest_items SET key = v.object FROM v WHERE digest_items.delivery_id = v.id"
            " RETURNING digest_items.delivery_id",
            _DELIVERY,
        ),
    ),
    Place(
        "requests",
        ("request",),
        By.ALONE,
        Batch("DELETE FROM requests WHERE notification_id IN (SELECT id FROM v) RETURNING notification_id", _ALONE),
    ),
    Place(
        "attachments",
        ("filename", "content_type", "content_id", "content"),
        By.ALONE,
        Batch("DELETE FROM attachments WHERE notification_id IN (SELECT id FROM v) RETURNING position", _ALONE),
    ),
    Place(
        "tags",
        ("tag",),
        By.ALONE,
        Batch("DELETE FROM tags WHERE notification_id IN (SELECT id FROM v) RETURNING tag", _ALONE),
    ),
    Place(
        "notifications",
        ("reference", "tags", "collapse_key"),
        By.ALONE,
        Batch(
            """
            UPDATE notifications
            SET reference = NULL, tags = v.list, collapse_key = NULL, has_attachments = FALSE
            FROM v WHERE notifications.id = v.id
            RETURNING notifications.id
            """,
            _ALONE,
        ),
    ),
    Place(
        # For the lock, too: what was noted is either an event by now, and found as one, or says nothing any more.
        "outbox",
        ("detail",),
        By.ALONE,
        Batch(
            "UPDATE outbox SET detail = NULL FROM v WHERE outbox.notification_id = v.id RETURNING outbox.id",
            _ALONE,
        ),
    ),
    Place(
        # Whoever is sending one just then has words of before in hand: what becomes of that is not kept.
        "queue",
        (),
        By.ECHO,
        Batch(
            """
            UPDATE queue SET leased_by = NULL, due_at = deliveries.updated_at, token = queue.token + 1, unsure = TRUE
            FROM v JOIN deliveries ON deliveries.notification_id = v.id
            WHERE queue.delivery_id = deliveries.id AND queue.leased_by IS NOT NULL
            RETURNING queue.delivery_id
            """,
            _ECHO,
        ),
    ),
    Place(
        "deliveries",
        ("detail",),
        By.ECHO,
        Batch(
            """
            UPDATE deliveries SET detail = NULL FROM v
            WHERE deliveries.notification_id = v.id AND deliveries.detail IS NOT NULL
            RETURNING deliveries.id
            """,
            _ECHO,
        ),
    ),
    Place(
        "attempts",
        ("detail",),
        By.ECHO,
        Batch(
            """
            UPDATE attempts SET detail = NULL FROM v JOIN deliveries ON deliveries.notification_id = v.id
            WHERE attempts.delivery_id = deliveries.id AND attempts.detail IS NOT NULL
            RETURNING attempts.number
            """,
            _ECHO,
        ),
    ),
    Place(
        "events",
        ("detail",),
        By.ECHO,
        Batch(
            """
            UPDATE events SET detail = NULL FROM v
            WHERE events.notification_id = v.id AND events.detail IS NOT NULL
            RETURNING events.id
            """,
            _ECHO,
        ),
    ),
    Place(
        "captured",
        ("data", "raw"),
        By.ECHO,
        Batch("DELETE FROM captured WHERE notification_id IN (SELECT id FROM v) RETURNING id", _ECHO),
    ),
    Place(
        "echoes",
        ("channel", "address"),
        By.ECHO,
        Batch("DELETE FROM echoes WHERE carrier_id IN (SELECT id FROM v) RETURNING carrier_id", _ECHO),
    ),
    Place(
        "opt_outs",
        ("channel", "address", "category", "source"),
        By.ADDRESS,
        Batch(
            "DELETE FROM opt_outs WHERE (channel, address) IN (SELECT channel, address FROM v) RETURNING category",
            _ADDRESS,
        ),
    ),
    Place(
        "wishes",
        ("channel", "address", "name", "source", "detail", "heard"),
        By.ADDRESS,
        Batch(
            "DELETE FROM wishes WHERE (channel, address) IN (SELECT channel, address FROM v) RETURNING name",
            _ADDRESS,
        ),
    ),
    Place(
        "subscriptions",
        ("topic", "user_id"),
        By.USER,
        Batch("DELETE FROM subscriptions WHERE user_id IN (SELECT user_id FROM v) RETURNING topic", _USER),
    ),
    Place(
        # A send that had come to this person begins its topic again, and finds everybody else planned already.
        "expansions",
        ("last_user",),
        By.USER,
        Batch(
            "UPDATE expansions SET last_user = '' WHERE last_user IN (SELECT user_id FROM v) RETURNING notification_id",
            _USER,
        ),
    ),
    Place(
        "addresses",
        ("id", "user_id", "channel", "address", "key", "label"),
        By.USER,
        Batch("DELETE FROM addresses WHERE user_id IN (SELECT user_id FROM v) RETURNING id", _USER),
    ),
    Place(
        "inbox_items",
        ("user_id", "category", "collapse_key", "title", "body_text", "body_html", "data"),
        By.USER,
        Batch("DELETE FROM inbox_items WHERE user_id IN (SELECT user_id FROM v) RETURNING id", _USER),
    ),
    Place(
        "inboxes",
        ("user_id",),
        By.USER,
        Batch("DELETE FROM inboxes WHERE user_id IN (SELECT user_id FROM v) RETURNING user_id", _USER),
    ),
    Place(
        "preferences",
        ("user_id", "category", "channel", "allowed"),
        By.USER,
        Batch("DELETE FROM preferences WHERE user_id IN (SELECT user_id FROM v) RETURNING category", _USER),
    ),
    Place(
        "users",
        (
            *("user_id", "name", "locale", "timezone", "attributes"),
            *("quiet_start", "quiet_end", "quiet_timezone"),
        ),
        By.USER,
        Batch("DELETE FROM users WHERE user_id IN (SELECT user_id FROM v) RETURNING user_id", _USER),
    ),
)
"""Beside these, three are written anew by code: `requests` of several people, `idempotency` and `suppressions`."""

REWRITTEN: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("request",),
    "idempotency": ("answer",),
    "suppressions": ("channel", "address", "source", "detail"),
}

PLAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "users": ("created_at", "updated_at", "chosen_at", "quiet_source", "quiet_at"),
    "preferences": ("source", "updated_at"),
    "addresses": ("profile", "created_at", "retired_at", "retired_reason"),
    "forgotten_suppressions": ("hash", "channel", "reason", "source", "created_at"),
    "notifications": (
        *("id", "project", "mode", "category", "priority", "template_key", "template_version", "has_attachments"),
        *("created_at", "send_at", "expires_at", "state", "open_deliveries", "updated_at"),
    ),
    "provider_switches": ("provider", "paused_at", "paused_by", "resumed_at"),
    "provider_reports": (
        *("worker", "provider", "breaker", "until", "detail", "in_use", "places", "last_outcome", "last_reason"),
        *("last_at", "seen_at"),
    ),
    "requests": ("notification_id",),
    "tags": ("notification_id",),
    "attachments": ("notification_id", "position"),
    "deliveries": (
        *("id", "notification_id", "project", "category", "channel", "lane", "position", "first_status"),
        *("first_reason", "status", "final", "reason", "provider", "provider_id", "engagement", "due_at"),
        *("deadline_at", "on_unknown", "retry_of", "created_at", "updated_at", "step", "strategy"),
    ),
    "webhooks": (
        *("id", "project", "url", "events", "secrets", "enabled", "disabled_reason", "disabled_at", "failures"),
        *("first_failure_at", "last_failure_at", "last_success_at", "replay_since", "replay_until", "replay_after"),
        "created_at",
    ),
    "outbox": ("id", "webhook_id", "type", "at", "notification_id", "delivery_id", "status", "reason", "replayed"),
    "inboxes": ("version",),
    "inbox_items": (
        *("id", "number", "version", "delivery_id", "notification_id", "project", "created_at", "seen_at", "read_at"),
        *("archived_at", "expires_at"),
    ),
    "subscriptions": ("created_at",),
    "expansions": ("notification_id", "topics", "place", "position", "rank", "due_at", "leased_by", "token"),
    "digests": ("id", "opened_at", "due_at", "carrier_id"),
    "digest_items": ("delivery_id", "digest_id"),
    "echoes": ("carrier_id", "notification_id", "delivery_id"),
    "cancellations": ("notification_id", "at", "position", "last_id", "sent", "busy", "look_at"),
    "turns": ("delivery_id", "budget_ms", "look_at"),
    "collapsing": ("delivery_id", "replaced_id", "shown_by", "shown_id"),
    "queue": (
        *("delivery_id", "lane", "due_at", "deadline_at", "leased_by", "token", "attempts", "losses", "granted"),
        *("unsure", "counted"),
    ),
    "attempts": ("delivery_id", "number", "provider", "started_at", "took_ms", "outcome", "reason", "provider_id"),
    "events": ("notification_id", "id", "delivery_id", "type", "at", "status", "reason"),
    "awaiting_receipt": ("delivery_id", "since"),
    "status_changes": (
        *("provider", "told_by", "type", "id", "provider_id", "delivery_id", "reason", "at", "due_at", "look_at"),
        "received_at",
    ),
    "captured": ("id", "delivery_id", "notification_id", "project", "channel", "created_at"),
    "idempotency": ("key_id", "key", "body_hash", "expires_at", "notification_id"),
    "pacing": ("key", "grants", "until"),
    "opt_outs": ("created_at",),
    "wishes": ("scope", "stopped", "at"),
    "suppressions": ("reason", "created_at"),
    "spending": ("channel", "day", "amount"),
    "counts": ("hour", "shard", "project", "channel", "provider", "status", "reason", "count"),
    "api_keys": (
        *("id", "name", "project", "mode", "scopes", "hash", "hint", "rate", "created_at", "expires_at"),
        *("revoked_at", "last_used_at"),
    ),
    "edited_templates": ("project", "key", "last_number", "published_number", "published_version", "changed_at"),
    "template_edits": ("project", "key", "number", "version", "created_at", "published_at"),
    "template_versions": ("version", "key", "source", "created_at"),
}
"""What tells nothing about anybody. A provider's id of a message leads late reports to their delivery, where only their
type is kept; the keys of `pacing` are keyed hashes already, and expire."""

_LOCK_USER: Final = Query("SELECT u.user_id FROM users AS u WHERE u.user_id = $1 {lock u}")

_FIND_BY_USER: Final = Query(
    """
    SELECT id, notification_id, position, channel, address, project, provider FROM deliveries
    WHERE user_id = $1 ORDER BY notification_id LIMIT $2
    """,
)

_FIND_BY_ADDRESS: Final = Batch(
    f"""
    SELECT d.id, d.notification_id, d.position, d.channel, d.address, d.project, d.provider
    FROM v JOIN deliveries AS d ON d.address = v.address AND d.channel = v.channel
    WHERE d.address IS NOT NULL AND d.user_id IS NULL LIMIT {SLICE}
    """,  # noqa: S608 - a constant
    _ADDRESS,
)

_BESIDE: Final = Batch(
    """
    SELECT d.id, d.notification_id, d.position, d.channel, d.address, d.project, d.provider
    FROM v JOIN deliveries AS d ON d.notification_id = v.id AND d.position = v.position
    WHERE d.user_id IS NULL AND d.recipient <> v.object
    """,
    columns(id=Kind.ID, position=Kind.INT, object=Kind.BYTES),
)
"""What else went to a recipient who was named by an address: a channel without one is a delivery that names them."""

_WAITING: Final = Batch(
    """
    SELECT q.delivery_id, q.unsure OR q.losses > 0 OR q.leased_by IS NOT NULL
    FROM v JOIN queue AS q ON q.delivery_id = v.id
    ORDER BY q.delivery_id {lock q}
    """,
    columns(id=Kind.ID),
)

_SHARED: Final = Batch(
    """
    SELECT DISTINCT d.notification_id FROM v JOIN deliveries AS d ON d.notification_id = v.id
    WHERE d.address IS NOT NULL OR d.user_id IS NOT NULL OR d.recipient <> v.object
    UNION
    SELECT e.notification_id FROM v JOIN expansions AS e ON e.notification_id = v.id
    """,
    columns(id=Kind.ID, object=Kind.BYTES),
)

_REQUESTS: Final = Batch(
    "SELECT r.notification_id, r.request FROM v JOIN requests AS r ON r.notification_id = v.id",
    columns(id=Kind.ID),
)

_UPDATE_REQUESTS: Final = Batch(
    "UPDATE requests SET request = v.request FROM v WHERE requests.notification_id = v.id",
    columns(id=Kind.ID, request=Kind.BYTES),
)

_ANSWERS: Final = Batch(
    """
    SELECT i.key_id, i.key, i.notification_id, i.answer FROM v
    JOIN idempotency AS i ON i.notification_id = v.id
    """,
    columns(id=Kind.ID),
)

_UPDATE_ANSWERS: Final = Batch(
    "UPDATE idempotency SET answer = v.answer FROM v WHERE idempotency.key_id = v.key_id AND idempotency.key = v.key",
    columns(key_id=Kind.ID, key=Kind.TEXT, answer=Kind.BYTES),
)

_UNSUPPRESS: Final = Batch(
    """
    DELETE FROM suppressions WHERE (channel, address) IN (SELECT channel, address FROM v)
    RETURNING channel, address, reason, source, created_at
    """,
    _ADDRESS,
)

_STOPPED_SENDERS: Final = Batch(
    """
    SELECT w.channel, w.address, 'opted_out', w.source, w.at
    FROM v JOIN wishes AS w ON w.channel = v.channel AND w.address = v.address
    WHERE w.scope = 'sender' AND w.stopped
    """,
    _ADDRESS,
)

_NOTED: Final = Query("SELECT id, about FROM outbox WHERE about IS NOT NULL")

_UNNOTE: Final = Batch("DELETE FROM outbox WHERE id IN (SELECT id FROM v)", columns(id=Kind.ID))

_FORGET: Final = insert_into(
    "forgotten_suppressions",
    columns(hash=Kind.BYTES, channel=Kind.TEXT, reason=Kind.TEXT, source=Kind.TEXT, created_at=Kind.INT),
    "ON CONFLICT (hash) DO NOTHING",
)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction did; `finished` when the profile went, which is the last thing."""

    removed: Mapping[str, int]
    cancelled: int
    finished: bool


def erase(conn: Connection, user: UserRow, now: int, *, books: Books) -> Round:
    """Erase one slice; the last one takes the profile. Who accepts for this user meanwhile comes before or after."""
    ask(conn, _LOCK_USER, user.id)
    own = _own_addresses(user)
    rows = ask(conn, _FIND_BY_USER, user.id, SLICE) or _with_those_beside(
        conn, run(conn, _FIND_BY_ADDRESS, only_theirs(own))[:SLICE]
    )
    removed: Counter[str] = Counter()
    about = echoes.of_deliveries(conn, [uuid_of(row[0]) for row in rows]) if rows else echoes.of_addresses(conn, own)
    if len(about) >= echoes.SLICE:  # those first: what they are about leads to the rest of them
        _erase_echoes(conn, about, removed)
        return Round(removed=removed, cancelled=0, finished=False)
    if rows:
        cancelled = _erase_deliveries(conn, rows, now, removed, books)
        return Round(removed=removed, cancelled=cancelled, finished=False)
    removed["suppressions"] += _forget(conn, own, books)
    while carriers := echoes.of_addresses(conn, own):
        _erase_echoes(conn, carriers, removed)
    _erase_places(conn, By.ADDRESS, own, removed)
    _erase_places(conn, By.USER, [(user.id,)], removed)
    return Round(removed=removed, cancelled=0, finished=True)


def _with_those_beside(conn: Connection, rows: Sequence[Values]) -> Sequence[Values]:
    """Add what else went to the same recipients."""
    places = sorted({(uuid_of(row[1]), row[2], b"{}") for row in rows})
    beside = {uuid_of(row[0]): row for row in (*rows, *run(conn, _BESIDE, places))}
    return list(beside.values())


def only_theirs(addresses: Sequence[Values]) -> list[Values]:
    """Choose the (channel, address) that nobody else reads: what was sent there is theirs, also where it named no user.

    A Slack channel or an endpoint that several people have is not: what was sent there names others.
    """
    return [one for one in addresses if one[0] in _PERSONAL_CHANNELS]


def _own_addresses(user: UserRow) -> list[Values]:
    """List a person's (channel, address), each as it was written and as it is looked up."""
    return sorted({(one.channel, form) for one in user.addresses for form in (one.address, one.key)})


def _erase_deliveries(conn: Connection, rows: Sequence[Values], now: int, removed: Counter[str], books: Books) -> int:
    """Blank deliveries and all that hangs on them; answers how many of them waited."""
    found = sorted((uuid_of(row[0]), uuid_of(row[1])) for row in rows)
    cancelled = _call_back(conn, {uuid_of(row[0]): row for row in rows}, now, books)
    given = {(row[3], form) for row in rows if row[4] is not None for form in (row[4], list_key(row[3], row[4]))}
    removed["suppressions"] += _forget(conn, sorted(given), books)
    _erase_places(conn, By.DELIVERY, [(id_, notification, b"{}") for id_, notification in found], removed)
    about = sorted({notification for _, notification in found})
    shared = {uuid_of(row[0]) for row in run(conn, _SHARED, [(id_, b"{}") for id_ in about])}
    alone = [id_ for id_ in about if id_ not in shared]
    _erase_places(conn, By.ALONE, [(id_, b"[]") for id_ in alone], removed)
    for look in (
        partial(echoes.of_deliveries, conn, [id_ for id_, _ in found]),
        partial(echoes.of_addresses, conn, given),
        partial(echoes.of_notifications, conn, alone),
    ):
        while carriers := look():
            _erase_echoes(conn, carriers, removed)
    places: dict[UUID, set[int]] = {}
    for row in rows:
        places.setdefault(uuid_of(row[1]), set()).add(row[2])
    removed["requests"] += _rewrite_requests(conn, {id_: places[id_] for id_ in sorted(shared)})
    removed["idempotency"] += _rewrite_answers(conn, about, {id_ for id_, _ in found}, set(alone))
    return cancelled


def _call_back(conn: Connection, rows: Mapping[UUID, Values], now: int, books: Books) -> int:
    """End what waits. What may be on its way out ends `unknown`, and its worker's word comes too late to be kept."""
    waiting = [(uuid_of(id_), bool(out)) for id_, out in run(conn, _WAITING, [(id_,) for id_ in sorted(rows)])]
    for status, wanted in ((Status.CANCELLED, False), (Status.UNKNOWN, True)):
        cancelling.end(conn, [id_ for id_, out in waiting if out is wanted], status, Why.CANCELLED, now)
    entries = [
        ledger.Entry(
            notification_id=uuid_of(rows[id_][1]),
            delivery_id=id_,
            project=rows[id_][5],
            channel=rows[id_][3],
            provider=rows[id_][6],
            status=Status.UNKNOWN if out else Status.CANCELLED,
            reason=Why.CANCELLED,
            detail=None,
            at=now,
            closed=True,
        )
        for id_, out in waiting
    ]
    ledger.record(conn, books, entries)
    return len(waiting)


def _erase_places(conn: Connection, by: By, rows: Sequence[Values], removed: Counter[str]) -> None:
    for place in PLACES:
        if place.by is by:
            removed[place.table] += len(run(conn, place.statement, rows))


def _erase_echoes(conn: Connection, carriers: Sequence[UUID], removed: Counter[str]) -> None:
    """Take a person out of the events that were stored about them, wherever those have come to."""
    removed["requests"] += echoes.blank(conn, carriers)
    _erase_places(conn, By.ECHO, [(id_,) for id_ in carriers], removed)


def _forget(conn: Connection, addresses: Sequence[Values], books: Books) -> int:
    """Keep of suppressions only a keyed hash of the address; who stopped one sender is left alone by all of them."""
    rows = run(conn, _UNSUPPRESS, addresses)
    stopped = run(conn, _STOPPED_SENDERS, addresses)
    _unnote(conn, addresses)
    hidden = {books.hide(row[0], list_key(row[0], row[1])): row for row in (*stopped, *rows)}
    run(conn, _FORGET, [(hash_, row[0], row[2], row[3], row[4]) for hash_, row in sorted(hidden.items())])
    return len(rows)


def _unnote(conn: Connection, addresses: Sequence[Values]) -> None:
    """Drop what the outbox has noted of these addresses; it is emptied within seconds, and so never long."""
    wanted = set(addresses)
    rows = [(uuid_of(row[0]), _decode(bytes(row[1]))) for row in ask(conn, _NOTED)]
    run(
        conn, _UNNOTE, sorted({(id_,) for id_, about in rows if (about.get("channel"), about.get("address")) in wanted})
    )


def _rewrite_requests(conn: Connection, places: Mapping[UUID, set[int]]) -> int:
    """Take a person out of requests that others are in, too; the others keep their places."""
    rows = [
        (uuid_of(id_), _without_recipients(bytes(request), places[uuid_of(id_)]))
        for id_, request in run(conn, _REQUESTS, [(id_,) for id_ in places])
    ]
    run(conn, _UPDATE_REQUESTS, rows)
    return len(rows)


def _without_recipients(request: bytes, places: set[int]) -> bytes:
    written: dict[str, Any] = _decode(request)
    to = written.get("to")
    if isinstance(to, list):
        listed = cast("list[Any]", to)
        written["to"] = [{} if place in places else one for place, one in enumerate(listed)]
    elif 0 in places and "to" in written:
        written["to"] = {}
    return _encode(written)


def _rewrite_answers(conn: Connection, about: Sequence[UUID], deliveries: set[UUID], alone: set[UUID]) -> int:
    """Take a person out of the answers that would be given again."""
    rows = [
        (uuid_of(key_id), key, _without_deliveries(bytes(answer), deliveries, alone=uuid_of(about_) in alone))
        for key_id, key, about_, answer in run(conn, _ANSWERS, [(id_,) for id_ in about])
    ]
    run(conn, _UPDATE_ANSWERS, sorted(rows))
    return len(rows)


def _without_deliveries(answer: bytes, deliveries: set[UUID], *, alone: bool) -> bytes:
    written: dict[str, Any] = _decode(answer)
    shown: list[dict[str, Any]] = written.get("deliveries", [])
    written["deliveries"] = [
        {**one, "address": None, "recipient": {}, "detail": None}
        if ids.read(ids.DELIVERY, one.get("id", "")) in deliveries
        else one
        for one in shown
    ]
    if alone and "reference" in written:
        written["reference"] = None
    return _encode(written)
