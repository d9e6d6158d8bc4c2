"""With 20,000 rows in each table, what runs often touches no more of them than it answers: on both databases, and on
PostgreSQL as the planner chooses with fresh statistics, advised by the gateway's settings or by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Connection, Select

from gateway.model.states import NotificationStatus, Status
from gateway.storage import (
    bulk,
    captured,
    claiming,
    digests,
    inbox,
    outbox,
    pacing,
    people,
    reading,
    settling,
    telling,
    topics,
    turns,
    upkeep,
)
from gateway.storage import status as reports
from gateway.storage.bulk import Batch, Kind, Query
from gateway.storage.contract import (
    AddressPut,
    CapturedFilter,
    DeliveryFilter,
    InboxFilter,
    NotificationFilter,
    OptOutRow,
    Page,
    UserFilter,
    UserPut,
)
from gateway.storage.store import SqlStore
from tests.storage.plans import Walk, plan_by_itself, walk
from tests.storage.rows import DAY, LANE, Clock, Rows
from tests.support.copies import Copies, fill_postgres, fill_sqlite

REAL = 200
SETS = 99
STEP_MS = 480_000
SLICE = 50
BULK = "sms:bulk"

TABLES = (
    *("notifications", "requests", "tags", "deliveries", "queue", "attempts", "events", "awaiting_receipt", "captured"),
    *("status_changes", "idempotency", "suppressions", "opt_outs", "users", "addresses", "subscriptions"),
    *("inboxes", "inbox_items", "digests", "digest_items", "turns", "outbox", "pacing", "preferences"),
)

BY_HAND = (
    "INSERT INTO turns (delivery_id, budget_ms, look_at) SELECT delivery_id, 1000, due_at FROM queue",
    "INSERT INTO digests (id, opened_at, due_at) SELECT delivery_id, 5, due_at FROM queue",
    "INSERT INTO outbox (id, webhook_id, type, at, replayed) SELECT delivery_id, delivery_id, 'x', 5, FALSE FROM queue",
    "INSERT INTO preferences SELECT user_id, 'news', '', FALSE, 'api', created_at FROM users",
)
"""What takes many verbs to come about. Its content is not read here."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A statement, and how many rows it may look at; by default some for each that it may answer."""

    name: str
    text: str
    values: tuple[Any, ...]
    most: int = 8 * SLICE


async def real_rows(store: SqlStore, rows: Rows) -> None:
    """Store what the rest are copies of: half of it waits, half is finished, in two lanes."""
    users = [f"user-{n}" for n in range(REAL)]
    await store.put_users(
        [
            UserPut(
                id=user,
                name=None,
                locale=None,
                timezone=None,
                attributes=b"{}",
                addresses=(AddressPut(channel="email", address=f"{user}@example.com", key=f"{user}@example.com"),),
                now=rows.clock.now,
            )
            for user in users
        ]
    )
    await store.subscribe("news", users, rows.clock.now)
    await store.accept_many(
        [
            rows.acceptance(
                rows.delivery(user_id=user, address=f"{user}@example.com", lane=LANE if n % 4 < 2 else BULK),
                reference=f"reference-{n}",
                tags=(f"tag-{n}",),
            )
            for n, user in enumerate(users)
        ]
    )
    claims = await store.claim({LANE: REAL // 4, BULK: REAL // 4}, rows.lease(), rows.clock.now)
    await asyncio.gather(
        *[
            store.settle(rows.sent(one, one.id.hex, captured=rows.captured(one), inbox=rows.item(one)))
            for one in claims
        ],
        *[store.suppress(rows.suppression(f"{user}@example.com")) for user in users],
        *[store.leave(left(f"{user}@example.com"), user) for user in users],
        *[store.reserve(rows.reservation(user)) for user in users],
        *[store.accept(rows.keyed(rows.id(), user)) for user in users],
        store.apply_status([rows.change("delivered", provider_id=user) for user in users], rows.clock.now),
    )
    await store._db.write(lambda conn: [conn.exec_driver_sql(line) for line in BY_HAND])


def left(address: str) -> OptOutRow:
    return OptOutRow(channel="email", address=address, category="news", source="link", created_at=5)


@pytest.fixture
async def many(store: SqlStore, rows: Rows, url: str) -> SqlStore:
    """A store with a hundred times the real rows, and statistics of them."""
    since = rows.clock.now
    await real_rows(store, rows)
    copies = Copies(tables=TABLES, since=since - 1000, until=rows.clock.now + 1000, sets=SETS, step_ms=STEP_MS)
    if url.startswith("sqlite"):
        fill_sqlite(Path(url.removeprefix("sqlite:///")), copies)
    else:
        await fill_postgres(url, copies)
    await store._db.write(lambda conn: conn.exec_driver_sql("ANALYZE"))
    rows.clock.later(SETS * STEP_MS // 2)
    return store


def batch_case(conn: Connection, name: str, batch: Batch, rows: list[tuple[Any, ...]], most: int = 8 * SLICE) -> Case:
    if conn.dialect.name == "postgresql":
        values = tuple(list(column) for column in zip(*rows, strict=True))
        return Case(name=name, text=bulk._for_postgres(batch), values=values, most=most)
    flat = tuple(value.bytes if isinstance(value, UUID) else value for row in rows for value in row)
    return Case(name=name, text=bulk._for_sqlite(batch, len(rows)), values=flat, most=most)


def query_case(conn: Connection, name: str, query: Query, *values: Any, most: int = 8 * SLICE) -> Case:
    if conn.dialect.name == "postgresql":
        return Case(name=name, text=bulk._query_for_postgres(query), values=values, most=most)
    text, order = bulk._query_for_sqlite(query)
    plain = [value.bytes if isinstance(value, UUID) else value for value in values]
    return Case(name=name, text=text, values=tuple(plain[place] for place in order), most=most)


def select_case(conn: Connection, name: str, query: Select[Any], most: int = 8 * SLICE) -> Case:
    compiled = query.compile(conn, compile_kwargs={"render_postcompile": True})
    parameters = compiled.construct_params()
    values = [parameters[name] for name in compiled.positiontup or []]
    on_postgres = conn.dialect.name == "postgresql"
    plain = tuple(value.bytes if isinstance(value, UUID) and not on_postgres else value for value in values)
    return Case(name=name, text=str(compiled), values=plain, most=most)


def picks(conn: Connection, now: int) -> Iterator[Case]:
    """Claims: what is due first, and what leases ran out; each lane alone, and both at once."""
    for name, lanes in (("one lane", [LANE]), ("the other", [BULK]), ("both", [LANE, BULK])):
        wanted = [(lane, now, 16) for lane in lanes]
        if conn.dialect.name == "postgresql":
            yield batch_case(conn, f"claim: {name}", claiming._PICK_POSTGRES, wanted, most=40)
        else:
            flat = [value for one in wanted for value in one]
            yield query_case(conn, f"claim: {name}", claiming._pick_sqlite(len(lanes)), *flat, most=40)
    yield batch_case(conn, "next due", claiming._NEXT_DUE, [(LANE,), (BULK,)])


def by_ids(conn: Connection, deliveries: list[UUID], notifications: list[UUID]) -> Iterator[Case]:
    """Statements over the rows of some deliveries, or of some notifications."""
    made = {Kind.ID: deliveries[0], Kind.INT: 7, Kind.TEXT: "x", Kind.BYTES: b"{}", Kind.BOOL: False}
    for name, batch, ids in (
        ("lease", claiming._LEASE, deliveries),
        ("load", claiming._LOAD, deliveries),
        ("release", claiming._RELEASE, deliveries),
        ("renew", claiming._RENEW, deliveries),
        ("settle: tokens", settling._HELD_TOKENS, deliveries),
        ("settle: deliveries", settling._UPDATE_DELIVERIES, deliveries),
        ("settle: wait again", settling._WAIT_AGAIN, deliveries),
        ("settle: leave the queue", settling._LEAVE_QUEUE, deliveries),
        ("settle: attempts", settling._INSERT_ATTEMPTS, deliveries),
        ("upkeep: finalise", upkeep._FINALISE, deliveries),
        *((f"upkeep: blank {n}", batch, notifications) for n, batch in enumerate(upkeep._BLANK)),
        *((f"upkeep: delete {n}", batch, notifications) for n, batch in enumerate(upkeep._DELETE)),
        ("list: counts", reading._COUNTS, notifications),
        ("list: attempts", reading._ATTEMPTS, deliveries),
    ):
        rest = [made[kind] for _, kind in batch.columns[1:]]
        yield batch_case(conn, name, batch, [(id_, *rest) for id_ in ids])


def slices(conn: Connection, now: int) -> Iterator[Case]:
    """Upkeep and what else looks for work, each for one slice."""
    young = reading.first_id_of(now)
    for name, query, values in (
        ("upkeep: past the deadline", upkeep._PAST_DEADLINE, (now + 10 * DAY, SLICE)),
        ("upkeep: without a receipt", upkeep._WITHOUT_RECEIPT, (now, SLICE)),
        ("upkeep: with contents", upkeep._WITH_CONTENTS, (upkeep.BEGINNING, young, SLICE)),
        ("upkeep: old", upkeep._OLD, (upkeep.BEGINNING, young, SLICE)),
        ("upkeep: captured", upkeep._TRIM, (young, SLICE)),
        ("upkeep: first captured to keep", upkeep._FIRST_KEPT, (SLICE,)),
        ("upkeep: idempotency", upkeep._FORGET_KEYS, (now + 2 * DAY, SLICE)),
        ("upkeep: reports", upkeep._FORGET_REPORTS, (now, SLICE)),
        ("upkeep: reports to look at", reports._TO_LOOK_AT, (now + DAY, SLICE)),
        ("upkeep: turns", turns._TO_LOOK_AT, (now, SLICE)),
        ("upkeep: digests", digests._STALE, (now, SLICE)),
        ("upkeep: inbox", inbox._OLD, (young, SLICE)),
        ("upkeep: rates", pacing._WALK, ("5", SLICE)),
        ("outbox", outbox._TAKE, (SLICE,)),
        ("topics: due", topics._DUE, (now,)),
        ("topics: subscribers", topics._LIST, ("news", "5", SLICE)),
        ("topics: of a user", topics._OF_USER, ("5.user-7",)),
    ):
        yield query_case(conn, name, query, *values)


def lists(conn: Connection, now: int) -> Iterator[Case]:
    """Listings: the first page and one in the middle."""
    deep = reading.first_id_of(now)
    notifications = (
        NotificationFilter(),
        NotificationFilter(project="default"),
        NotificationFilter(channel="email", category="orders"),
        NotificationFilter(user="50.user-7"),
        NotificationFilter(address="50.user-7@example.com"),
        NotificationFilter(address="50.user-7@example.com", channel="email", status=NotificationStatus.PROCESSING),
        NotificationFilter(reference="50.reference-7"),
        NotificationFilter(tag="50.tag-7"),
        NotificationFilter(status=NotificationStatus.PROCESSING),
        NotificationFilter(status=NotificationStatus.COMPLETED, since=now - 3 * STEP_MS // 4, until=now),
        NotificationFilter(since=now - 3 * STEP_MS // 4, until=now),
    )
    deliveries = (
        DeliveryFilter(),
        DeliveryFilter(project="default", channel="email"),
        DeliveryFilter(statuses=(Status.SENT,), since=now - STEP_MS, until=now),
    )
    kept = (
        CapturedFilter(),
        CapturedFilter(channel="email"),
        CapturedFilter(to="50.user-7@example.com"),
        CapturedFilter(since=now - STEP_MS),
        CapturedFilter(contains="parcel"),
    )
    for page in (Page(limit=SLICE), Page(limit=SLICE, before=deep)):
        for where in notifications:
            yield select_case(conn, f"{where} {page}", reading.notification_ids(where, page, now))
            yield select_case(conn, f"floor of {where} {page}", reading.floor_of(where, page, SLICE))
        for one in deliveries:
            yield select_case(conn, f"{one} {page}", reading.delivery_query(one, page))
        for some in kept:
            yield select_case(conn, f"{some} {page}", captured.listed(some, page))
        pairs = [("email", "50.user-7@example.com")]
        for query in telling.delivery_queries("default", "50.user-7", pairs, page):
            yield select_case(conn, f"export {page}", query)
    for after in (None, (now, "50.user-7")):
        for people_of in (
            UserFilter(),
            UserFilter(channel="email"),
            UserFilter(channel="email", key="5.x@example.com"),
        ):
            yield select_case(conn, f"{people_of} {after}", people.listed(people_of, SLICE, after))
    mine = InboxFilter(user_id="50.user-7", project="default", limit=SLICE)
    for of_mine in (mine, msgspec.structs.replace(mine, unread=True)):
        yield select_case(conn, f"{of_mine}", inbox.listed(of_mine, now))


def every_case(conn: Connection, now: int) -> Iterator[Case]:
    found = conn.exec_driver_sql(f"SELECT delivery_id FROM queue ORDER BY due_at DESC LIMIT {SLICE}").scalars().all()
    waiting = [bulk.uuid_of(id_) for id_ in found]
    notifications = [
        bulk.uuid_of(row[0])
        for row in bulk.run(
            conn,
            Batch("SELECT d.notification_id FROM v JOIN deliveries AS d ON d.id = v.id", claiming._LOAD.columns),
            [(id_,) for id_ in waiting],
        )
    ]
    yield from picks(conn, now)
    yield from by_ids(conn, waiting, notifications)
    yield from slices(conn, now)
    yield from lists(conn, now)


def wants_advice(name: str) -> bool:
    """Name what PostgreSQL gets wrong by itself: it merges two whole indexes where fifty look-ups would do."""
    return "NotificationFilter" in name and "channel='email'" in name


def too_far(conn: Connection, cases: Iterator[Case]) -> dict[str, Walk]:
    """Walk all, and keep what went further than it may."""
    walked = {case.name: (walk(conn, case.text, case.values), case.most) for case in list(cases)}
    return {name: found for name, (found, most) in walked.items() if found.rows > most}


def told(walks: dict[str, Walk]) -> str:
    return "\n\n".join(f"{name}: {found.rows:,.0f} rows\n{found.plan}" for name, found in walks.items())


@pytest.mark.parametrize("advised", [True, False], ids=["advised", "by-itself"])
async def test_nothing_that_runs_often_touches_more_than_it_answers(
    many: SqlStore, clock: Clock, *, advised: bool
) -> None:
    def check(conn: Connection) -> None:
        assert conn.exec_driver_sql("SELECT count(*) FROM deliveries").scalar_one() >= REAL * (SETS + 1)
        if not advised:
            plan_by_itself(conn)
        far = {
            name: found
            for name, found in too_far(conn, every_case(conn, clock.now)).items()
            if advised or not wants_advice(name)
        }
        assert not far, told(far)

    await many._db.write(check)


DROPPED = (
    ("queue_by_due", {"claim: one lane", "claim: both"}),
    ("awaiting_receipt_by_since", {"upkeep: without a receipt"}),
    ("queue_by_deadline", {"upkeep: past the deadline"}),
)


async def test_without_its_index_each_goes_too_far(many: SqlStore, clock: Clock) -> None:
    def check(conn: Connection, index: str) -> set[str]:
        plan_by_itself(conn)
        with conn.begin_nested() as point:
            conn.exec_driver_sql(f"DROP INDEX {index}")
            far = too_far(conn, every_case(conn, clock.now))
            point.rollback()
        return set(far)

    for index, names in DROPPED:
        found = await many._db.write(lambda conn, index=index: check(conn, index))
        assert names <= found, index
    whole = await many._db.write(lambda conn: too_far(conn, every_case(conn, clock.now)))
    assert not whole, told(whole)
