"""A newer message replaces an older one that is not sent yet, on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.model import ids
from gateway.model.collapsing import place_of
from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage.contract import Acceptance, Latest, ShownRow
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, LANE, Clock, Rows
from tests.storage.test_turns import LANES, OFF, WAITS, chain, claim, states

KEY = "order-7"
GONE = (Status.SKIPPED, Why.COLLAPSED)
QUEUED = (Status.QUEUED, None)
PLACE = place_of("default", KEY, "email", "ada@example.com")


async def accepted(store: SqlStore, rows: Rows, *deliveries: Any, **more: Any) -> Acceptance:
    made = rows.acceptance(*deliveries, **({"collapse_key": KEY} | more))
    await store.accept(made)
    return made


async def test_a_newer_one_replaces_what_waits_and_says_so(store: SqlStore, rows: Rows) -> None:
    held = rows.delivery(status=Status.HELD, reason=Why.SCHEDULED, due_at=rows.clock.now + DAY)
    older = [await accepted(store, rows), await accepted(store, rows, held)]
    newer = await accepted(store, rows)
    assert [await states(store, one) for one in [*older, newer]] == [[GONE], [GONE], [QUEUED]]
    shown = await store.notification(None, older[1].notification.id)
    assert shown is not None
    assert (shown.status, shown.counts) == (NotificationStatus.COMPLETED, {"skipped": 1})
    events = await store.events(older[1].notification.id)
    assert [(told.type, told.reason) for told in events][1:] == [
        ("delivery.skipped", Why.COLLAPSED),
        ("notification.completed", None),
    ]
    assert events[1].detail == f"replaced by {ids.show(ids.NOTIFICATION, newer.notification.id)}"
    assert await store.waiting() == 1


@pytest.mark.parametrize(
    "other",
    [{"collapse_key": "order-8"}, {"collapse_key": None}, {"project": "another"}, {"address": "bob@example.com"}],
    ids=["another key", "no key", "another project", "another address"],
)
async def test_only_the_same_place_is_replaced(store: SqlStore, rows: Rows, other: dict[str, Any]) -> None:
    older = await accepted(store, rows)
    of_delivery = {name: value for name, value in other.items() if name == "address"}
    of_request = {name: value for name, value in other.items() if name != "address"}
    await accepted(store, rows, rows.delivery(**of_delivery), **of_request)
    assert await states(store, older) == [QUEUED]


async def test_what_is_sent_or_in_a_workers_hands_is_left_alone(store: SqlStore, rows: Rows) -> None:
    sent = await accepted(store, rows)
    await store.settle(rows.settlement(await rows.claim_one(store), Status.SENT, final=True))
    held = await accepted(store, rows)
    claimed = await rows.claim_one(store)
    newer = await accepted(store, rows)
    assert await states(store, sent) == [(Status.SENT, None)]
    assert await states(store, held) == [(Status.SENDING, None)]
    assert await store.latest(PLACE) == Latest(delivery_id=newer.deliveries[0].id, shown_by=None, shown_id=None)
    assert claimed.collapse_key == KEY


async def test_what_may_have_been_sent_is_replaced_and_not_called_unsent(store: SqlStore, rows: Rows) -> None:
    older = await accepted(store, rows)
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.HELD, reason=Why.RETRY, due_at=rows.clock.now, unsure=True))
    newer = await accepted(store, rows)
    assert await states(store, older) == [(Status.UNKNOWN, Why.COLLAPSED)]
    event = (await store.events(older.notification.id))[-2]
    name = ids.show(ids.NOTIFICATION, newer.notification.id)
    assert (event.type, event.detail) == (
        "delivery.unknown",
        f"replaced by {name} after an attempt whose answer was lost",
    )
    assert [one.notification_id for one in await rows.claim(store)] == [newer.notification.id]


async def test_what_a_lost_worker_may_have_sent_is_not_called_unsent(store: SqlStore, rows: Rows) -> None:
    older = await accepted(store, rows)
    await rows.claim_one(store)
    rows.clock.later(60_001)
    claimed = await rows.claim_one(store)
    await store.release([(claimed.id, claimed.token)], rows.clock.now)
    await accepted(store, rows)
    assert await states(store, older) == [(Status.UNKNOWN, Why.COLLAPSED)]


async def test_what_is_skipped_from_the_start_replaces_nothing(store: SqlStore, rows: Rows) -> None:
    older = await accepted(store, rows)
    await accepted(store, rows, rows.delivery(status=Status.SKIPPED, reason=Why.SUPPRESSED))
    assert await states(store, older) == [QUEUED]


async def test_two_of_one_notification_do_not_replace_each_other(store: SqlStore, rows: Rows) -> None:
    made = await accepted(store, rows, rows.delivery(position=0), rows.delivery(position=1))
    assert await states(store, made) == [QUEUED, QUEUED]


async def test_of_one_batch_the_last_one_stays(store: SqlStore, rows: Rows) -> None:
    before = await accepted(store, rows)
    batch = [rows.acceptance(collapse_key=KEY) for _ in range(5)]
    await store.accept_many(batch)
    assert [(await states(store, one))[0] for one in [before, *batch]] == [GONE] * 5 + [QUEUED]
    for one in batch[:4]:
        shown = await store.notification(None, one.notification.id)
        assert shown is not None
        assert shown.status is NotificationStatus.COMPLETED


async def test_however_many_processes_accept_at_once_one_is_left(open_store: OpenStore, rows: Rows) -> None:
    stores = [await open_store() for _ in range(2)]
    made = [rows.acceptance(collapse_key=KEY) for _ in range(60)]
    await asyncio.gather(*[stores[place % 2].accept(one) for place, one in enumerate(made)])
    found = [(await states(stores[0], one))[0] for one in made]
    assert sorted(found) == sorted([GONE] * 59 + [QUEUED])
    assert len(await stores[0].claim({LANE: 60}, rows.lease(), rows.clock.now)) == 1


async def test_what_waits_behind_a_replaced_one_goes_with_it(store: SqlStore, rows: Rows) -> None:
    older = await accepted(store, rows, *chain(rows))
    newer = await accepted(store, rows)  # e-mail alone
    assert await states(store, older) == [GONE, GONE, GONE]
    assert await states(store, newer) == [QUEUED]
    assert len(await claim(store, rows)) == 1


async def test_a_chain_in_hand_loses_what_waits_in_the_same_place_and_behind_it(store: SqlStore, rows: Rows) -> None:
    older = await accepted(store, rows, *chain(rows))
    [first] = await claim(store, rows)
    newer = await accepted(store, rows, *chain(rows)[1:])
    assert await states(store, older) == [(Status.SENDING, None), GONE, GONE]
    await store.settle(rows.settlement(first, Status.FAILED))
    assert (await states(store, older))[1:] == [GONE, GONE]
    assert await states(store, newer) == [WAITS, WAITS]
    assert OFF not in await states(store, older)
    assert await store.claim(LANES, rows.lease(), rows.clock.now) == []


async def test_what_stands_there_is_told_unless_something_newer_does(store: SqlStore, rows: Rows) -> None:
    def shown(claimed: Any, theirs: str) -> dict[str, Any]:
        row = ShownRow(place=PLACE, delivery_id=claimed.id, provider="slack", provider_id=theirs)
        return {"final": True, "provider": "slack", "provider_id": theirs, "shown": row}

    assert await store.latest(PLACE) is None
    await accepted(store, rows)
    late = await rows.claim_one(store)
    newer = await accepted(store, rows)
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.SENT, **shown(claimed, "C7:2")))
    await store.settle(rows.settlement(late, Status.SENT, **shown(late, "C7:1")))
    expected = Latest(delivery_id=newer.deliveries[0].id, shown_by="slack", shown_id="C7:2")
    assert await store.latest(PLACE) == expected


async def test_a_place_is_forgotten_with_its_newest_delivery(store: SqlStore, rows: Rows, clock: Clock) -> None:
    def places(conn: Connection) -> int:
        return conn.exec_driver_sql("SELECT count(*) FROM collapsing").scalar_one()

    await accepted(store, rows)
    await store.settle(rows.settlement(await rows.claim_one(store), Status.SENT, final=True))
    assert await store._db.read(places) == 1
    await store.upkeep(rows.rules(notifications_before=clock.later(DAY)), clock.now)
    assert await store._db.read(places) == 0


def test_a_place_is_told_apart_by_each_of_its_parts_and_not_by_the_case_of_an_email_address() -> None:
    parts = [("default", "k", "email", "a@example.com"), ("default", "k", "slack", "a@example.com")]
    parts += [("defaultk", "", "email", "a@example.com"), ("default", "k\x00", "email", "a@example.com")]
    assert len({place_of(*one) for one in parts}) == 4
    assert place_of(*parts[0]) == place_of("default", "k", "email", "A@Example.com")
    assert place_of("p", "k", "telegram", "Ada") != place_of("p", "k", "telegram", "ada")
