"""Every statement that runs often, and every listing, finds its rows through an index: asked of the planners."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Select

from gateway.model.inbox import OF_ALL
from gateway.model.states import NotificationStatus, Status
from gateway.storage import (
    accepting,
    bulk,
    cancelling,
    choices,
    claiming,
    collapsing,
    digest_ends,
    digests,
    erasing,
    expanding,
    figures,
    inbox,
    ledger,
    outbox,
    pacing,
    people,
    preferences,
    providers,
    reading,
    settling,
    spending,
    suppressions,
    telling,
    topics,
    turns,
    upkeep,
    webhooks,
    wishes,
)
from gateway.storage import status as reports
from gateway.storage.bulk import Batch, Kind, Query
from gateway.storage.contract import (
    AddressPut,
    DeliveryFilter,
    InboxFilter,
    InboxMark,
    NotificationFilter,
    OptOutRow,
    Page,
    UserFilter,
    UserPut,
)
from gateway.storage.schema import METADATA
from gateway.storage.store import SqlStore
from tests.storage.rows import LANE, Clock, Rows

SMALL = {
    *("api_keys", "template_versions", "counts", "forgotten_suppressions", "expansions", "webhooks", "outbox"),
    "spending",
    "cancellations",
}
"""Tables that stay small, of which a planner may read the whole; of the forgotten ones only whether there is
a row is asked, the outbox is emptied within seconds, expansions and cancellations are what is under way, and spending
has a row for each channel."""

BATCHES: dict[str, Batch] = (
    {
        f"{module.__name__.rpartition('.')[2]}{name}": statement
        for module in (
            accepting,
            cancelling,
            choices,
            claiming,
            collapsing,
            digest_ends,
            digests,
            erasing,
            inbox,
            expanding,
            ledger,
            outbox,
            pacing,
            people,
            preferences,
            providers,
            reading,
            settling,
            spending,
            wishes,
            reports,
            suppressions,
            telling,
            topics,
            turns,
            webhooks,
        )
        for name, statement in vars(module).items()
        if isinstance(statement, Batch) and "POSTGRES" not in name
    }
    | {
        f"upkeep_{place}": statement
        for place, statement in enumerate([*upkeep._BLANK, *upkeep._DELETE, upkeep._FINALISE, *outbox._REPLAY])
    }
    | {f"place_{number}_{place.table}": place.statement for number, place in enumerate(erasing.PLACES)}
)

LISTS: dict[str, Select[Any]] = {
    f"{number}": query
    for number, query in enumerate(
        [
            reading.notification_ids(where, page, 5)
            for page in (Page(limit=50), Page(limit=50, before=Rows(Clock()).id()))
            for where in (
                NotificationFilter(),
                NotificationFilter(project="default"),
                NotificationFilter(user="user-7"),
                NotificationFilter(address="u7@example.com", channel="email"),
                NotificationFilter(reference="reference-7"),
                NotificationFilter(tag="tag-7", status=NotificationStatus.COMPLETED),
                NotificationFilter(since=5, until=50, category="orders"),
            )
        ]
        + [
            reading.delivery_query(where, Page(limit=50))
            for where in (
                DeliveryFilter(),
                DeliveryFilter(ids=(Rows(Clock()).id(),)),
                DeliveryFilter(notification_id=Rows(Clock()).id()),
                DeliveryFilter(statuses=(Status.FAILED,), since=5),
            )
        ]
        + [
            query
            for page in (Page(limit=50), Page(limit=50, before=Rows(Clock()).id()))
            for query in telling.delivery_queries("default", "user-7", [("email", "u7@example.com")], page)
        ]
        + [
            people.listed(where, 50, after)
            for after in (None, (5, "user-7"))
            for where in (
                UserFilter(),
                UserFilter(channel="email"),
                UserFilter(channel="email", key="u7@example.com"),
                UserFilter(since=5, until=50),
            )
        ]
        + [
            query
            for user, project in (("user-7", "default"), ("user-7", None))
            for query in (
                inbox.listed(InboxFilter(user_id=user, project=project, limit=50), 5),
                inbox.listed(InboxFilter(user_id=user, project=project, unread=True, limit=50, before=5), 5),
                inbox.listed(InboxFilter(user_id=user, project=project, archived=True, limit=50), 5),
                *(inbox.to_mark(InboxMark(user_id=user, project=project, act=act), 5, 7) for act in OF_ALL),
            )
        ]
    )
}


def left(address: str) -> OptOutRow:
    return OptOutRow(channel="email", address=address, category="news", source="link", created_at=5)


async def filled(store: SqlStore, rows: Rows) -> SqlStore:
    """Store enough that reading all of it would be a bad plan."""
    await store.put_users(
        [
            UserPut(
                id=f"user-{n}",
                name=None,
                locale=None,
                timezone=None,
                attributes=b"{}",
                addresses=(AddressPut(channel="email", address=f"u{n}@example.com", key=f"u{n}@example.com"),),
                now=n,
            )
            for n in range(3000)
        ]
    )
    for start in range(0, 3000, 500):
        await store.accept_many(
            [
                rows.acceptance(
                    rows.delivery(user_id=f"user-{n}", address=f"u{n}@example.com"),
                    reference=f"reference-{n}",
                    tags=(f"tag-{n}",),
                )
                for n in range(start, start + 500)
            ]
        )
    claims = await rows.claim(store, 1500)
    await asyncio.gather(*[store.settle(rows.sent(one, one.id.hex, inbox=rows.item(one))) for one in claims])
    await asyncio.gather(
        *[store.reserve(rows.reservation(f"key-{n}")) for n in range(1000)],
        *[store.suppress(rows.suppression(f"u{n}@example.com")) for n in range(1000)],
        *[store.leave(left(f"u{n}@example.com"), f"user-{n}") for n in range(1000)],
        *[store.accept(rows.keyed(rows.id(), f"key-{n}")) for n in range(500)],
        store.apply_status([rows.change("delivered", provider_id=f"foreign-{n}") for n in range(1000)], rows.clock.now),
    )
    return store


def values_of(batch: Batch, rows: Rows) -> tuple[Any, ...]:
    made: dict[Kind, Any] = {Kind.ID: rows.id(), Kind.INT: 7, Kind.TEXT: "x", Kind.BYTES: b"x", Kind.BOOL: False}
    return tuple(made[kind] for _, kind in batch.columns)


def whole_tables(conn: Connection, text: str, values: tuple[Any, ...]) -> tuple[list[str], str]:
    """Name the tables that a statement reads from end to end, and show its plan."""
    if conn.dialect.name == "postgresql":
        plan = "\n".join(row[0] for row in conn.exec_driver_sql(f"EXPLAIN {text}", values))
        return re.findall(r"Seq Scan on (\w+)", plan), plan
    plan = "\n".join(str(row[3]) for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values))
    tables = set(METADATA.tables)
    scanned = re.findall(r"^SCAN (\w+)", plan, re.MULTILINE)
    aliases = dict(re.findall(r"(?:FROM|JOIN) (\w+) AS (\w+)", text))
    aliases = {alias: table for table, alias in aliases.items()}
    return [name for name in (aliases.get(name, name) for name in scanned) if name in tables], plan


async def test_no_statement_reads_a_whole_table(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await filled(store, rows)

    def check(conn: Connection) -> None:
        on_postgres = conn.dialect.name == "postgresql"
        conn.exec_driver_sql("ANALYZE")
        bad: dict[str, str] = {}
        for name, batch in BATCHES.items():
            many = [values_of(batch, rows) for _ in range(64)]
            if on_postgres:
                text = bulk._for_postgres(batch)
                values = tuple(list(column) for column in zip(*many, strict=True))
            else:
                text = bulk._for_sqlite(batch, 64)
                values = tuple(v.bytes if isinstance(v, UUID) else v for row in many for v in row)
            found, plan = whole_tables(conn, text, values)
            if set(found) - SMALL:
                bad[name] = plan
        for name, query in LISTS.items():
            found, plan = explained(conn, query)
            if set(found) - SMALL:
                bad[f"list {name}: {query}"] = plan
        assert not bad, "\n\n".join(f"{name}\n{plan}" for name, plan in bad.items())

    await store._db.write(check)


def explained(conn: Connection, query: Select[Any]) -> tuple[list[str], str]:
    on_postgres = conn.dialect.name == "postgresql"
    compiled = query.compile(conn, compile_kwargs={"render_postcompile": True})
    parameters = compiled.construct_params()
    values = [parameters[name] for name in compiled.positiontup or []]
    plain = tuple(value.bytes if isinstance(value, UUID) and not on_postgres else value for value in values)
    prefix = "EXPLAIN" if on_postgres else "EXPLAIN QUERY PLAN"
    rows = conn.exec_driver_sql(f"{prefix} {compiled}", plain)
    plan = "\n".join(str(row[0] if on_postgres else row[3]) for row in rows)
    if on_postgres:
        return re.findall(r"Seq Scan on (\w+)", plan), plan
    # A table without row ids is scanned in the order of its key: with a limit and no sorting that is a walk.
    sorted_first = "USE TEMP B-TREE FOR ORDER BY" in plan
    return re.findall(r"^SCAN (\w+)", plan, re.MULTILINE) if sorted_first else [], plan


QUERIES = [
    (upkeep._PAST_DEADLINE, (5, 10), "queue_by_deadline"),
    (upkeep._WITHOUT_RECEIPT, (5, 10), "awaiting_receipt_by_since"),
    (upkeep._FORGET_REPORTS, (5, 10), "status_changes_by_received"),
    (reports._TO_LOOK_AT, (5, 10), "status_changes_by_look"),
    (turns._TO_LOOK_AT, (5, 10), "turns_by_look"),
    (inbox._OLD, (UUID(int=5), 10), "inbox_items"),
    (inbox._EXPIRED, (5, 10), "inbox_expiring"),
    (topics._DUE, (5,), "expansions_by_due"),
    (cancelling._DUE, (5,), "cancellations_by_look"),
    (cancelling._NEXT, (Rows(Clock()).id(), 5, Rows(Clock()).id(), 10), "deliveries_by_notification"),
    (cancelling._SENT_BEYOND, (Rows(Clock()).id(), 5, Rows(Clock()).id()), "deliveries_by_notification"),
    (topics._LIST, ("news", "user-7", 50), "subscriptions"),
    (topics._COUNT, ("news", 50), "subscriptions"),
    (topics._OF_USER, ("user-7",), "subscriptions_by_user"),
    (topics._GIVEN, (Rows(Clock()).id(), 5), "deliveries_by_notification"),
    (figures._DEPTHS, (5, 100), "queue_by_due"),
    (claiming._pick_sqlite(2), (LANE, 5, 10, "sms:bulk", 5, 10), "queue_by_due"),
]


@pytest.mark.parametrize(("query", "values", "index"), QUERIES, ids=[index for _, _, index in QUERIES])
async def test_what_runs_all_the_time_walks_its_own_index(
    store: SqlStore, query: Query, values: tuple[Any, ...], index: str
) -> None:
    def plan(conn: Connection) -> str:
        if conn.dialect.name == "postgresql":
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
            conn.exec_driver_sql("SET LOCAL enable_sort = off")
            conn.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        prefix = "EXPLAIN" if conn.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        return "\n".join(map(str, bulk.ask(conn, Query(f"{prefix} {query.text}"), *values)))

    assert index in await store._db.read(plan)


async def test_a_claim_walks_no_further_than_it_was_asked(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await filled(store, rows)

    def plan(conn: Connection) -> str:
        if conn.dialect.name == "postgresql":
            conn.exec_driver_sql("ANALYZE queue")
            text = bulk._for_postgres(claiming._PICK_POSTGRES)
            rows = conn.exec_driver_sql(f"EXPLAIN ANALYZE {text}", ([LANE], [clock.now], [16]))
            return "\n".join(str(row[0]) for row in rows)
        query = claiming._pick_sqlite(1)
        return "\n".join(map(str, bulk.ask(conn, Query(f"EXPLAIN QUERY PLAN {query.text}"), LANE, clock.now, 16)))

    found = await store._db.write(plan)
    assert "queue_by_due" in found
    assert "TEMP B-TREE" not in found
    if "actual" in found:
        walked = re.search(r"Index Scan using queue_by_due.*rows=(\d+(?:\.\d+)?) loops=1", found)
        assert walked is not None, found
        assert float(walked[1]) == 16


@pytest.mark.parametrize("statement", [topics._PLANNED, topics._PLANNED_ADDRESSES], ids=["users", "addresses"])
@pytest.mark.parametrize("analysed", [False, True])
async def test_whether_a_topic_has_come_to_somebody_is_never_asked_of_all_its_deliveries(
    store: SqlStore, rows: Rows, statement: Batch, *, analysed: bool
) -> None:
    users = [f"user-{n}" for n in range(2000)]
    await rows.know(store, *users)
    made = rows.acceptance(*[rows.delivery(user_id=user, address=f"{user}@example.com") for user in users])
    await store.accept(made)

    def plan(conn: Connection) -> str:
        if analysed:
            conn.exec_driver_sql("ANALYZE")
        many = [values_of(statement, rows) for _ in range(500)]
        if conn.dialect.name == "postgresql":
            values = tuple(list(column) for column in zip(*many, strict=True))
            return whole_tables(conn, bulk._for_postgres(statement), values)[1]
        flat = tuple(v.bytes if isinstance(v, UUID) else v for row in many for v in row)
        return whole_tables(conn, bulk._for_sqlite(statement, 500), flat)[1]

    found = await store._db.write(plan)
    assert re.search("deliveries_by_(user|address)", found), found
    assert "deliveries_by_notification" not in found, found
