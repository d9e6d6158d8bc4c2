"""Calling back: in slices, by whoever is there, and never as unsent what may have been sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage import cancelling
from gateway.storage.contract import Acceptance, Gathering, Joining
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, LANE, Clock, Rows

SLICE = 40
NUMBER = 10 * SLICE + 7


async def large(store: SqlStore, rows: Rows, number: int = NUMBER, **more: Any) -> Acceptance:
    made = rows.acceptance(*[rows.delivery(position=place, **more) for place in range(number)])
    await store.accept(made)
    return made


async def begun(store: SqlStore, id_: UUID, now: int) -> cancelling.Part:
    """Do the first transaction of a cancellation, and then be gone."""
    return await store._db.write(lambda conn: cancelling.begin(conn, id_, now, SLICE, books=store._books))


async def standing(store: SqlStore, id_: UUID) -> tuple[NotificationStatus, dict[str, int]]:
    view = await store.notification(None, id_)
    assert view is not None
    return view.status, dict(view.counts)


def marks(conn: Connection) -> int:
    return conn.exec_driver_sql("SELECT count(*) FROM cancellations").scalar_one()


async def keep_house(store: SqlStore, rows: Rows) -> int:
    """Run upkeep until it has nothing more to do; answers in how many rounds."""
    for number in range(1, 100):
        if not (await store.upkeep(rows.rules(slice=SLICE), rows.clock.now)).more:
            return number
    raise AssertionError("upkeep does not come to an end")


async def unsure(store: SqlStore, rows: Rows, made: Acceptance, how: str) -> None:
    """Let one attempt be made whose answer is lost, and wait for the next."""
    claimed = await rows.claim_one(store)
    assert claimed.id == made.deliveries[0].id
    if how == "answer":
        due_at = rows.clock.now + 1000
        await store.settle(rows.settlement(claimed, Status.HELD, reason=Why.RETRY, due_at=due_at, unsure=True))
        return
    rows.clock.later(60_001)
    if how == "released":
        claimed = await rows.claim_one(store)
        assert claimed.lost == 1
        await store.release([(claimed.id, claimed.token)], rows.clock.now)


async def test_a_large_send_is_called_back_whole_and_told_delivery_by_delivery(
    open_store: OpenStore, rows: Rows, clock: Clock
) -> None:
    store = await open_store()
    store._cancel_slice = SLICE
    made = await large(store, rows)
    told = await store.cancel(made.notification.id, clock.now)
    assert [one.delivery_id for one in told] == [one.id for one in made.deliveries]
    assert {(one.status, one.changed) for one in told} == {(Status.CANCELLED, True)}
    assert await standing(store, made.notification.id) == (NotificationStatus.CANCELLED, {"cancelled": NUMBER})
    types = Counter(event.type for event in await store.events(made.notification.id))
    assert types == {"delivery.queued": NUMBER, "delivery.cancelled": NUMBER, "notification.cancelled": 1}
    assert await store._db.read(marks) == await store.waiting() == 0
    again = await store.cancel(made.notification.id, clock.now)
    assert {(one.status, one.changed) for one in again} == {(Status.CANCELLED, False)}
    assert len(again) == NUMBER


async def test_others_come_between_the_slices(store: SqlStore, rows: Rows, clock: Clock) -> None:
    store._cancel_slice = SLICE // 5  # many slices: on a busy machine the other may take as long as some of them
    made = await large(store, rows)
    order: list[str] = []

    async def cancel() -> None:
        await store.cancel(made.notification.id, clock.now)
        order.append("cancelled")

    async def accept() -> None:
        await store.accept(rows.acceptance())
        order.append("accepted")

    await asyncio.gather(cancel(), accept())
    assert order == ["accepted", "cancelled"]


async def test_whoever_dies_in_the_middle_leaves_nothing_to_be_claimed_and_upkeep_finishes(
    open_store: OpenStore, rows: Rows, clock: Clock
) -> None:
    store, other = await open_store(), await open_store()
    heard: list[str] = []
    other.on_turn(heard.append)
    made = await large(store, rows)
    beside = rows.acceptance(rows.delivery(due_at=clock.now))
    await store.accept(beside)
    part = await begun(store, made.notification.id, clock.now)
    assert len(part.told) == SLICE
    assert (await standing(store, made.notification.id))[1] == {"cancelled": SLICE, "queued": NUMBER - SLICE}
    got = []
    while not got:
        got = await rows.claim(other, 100, "worker-2")
        assert heard or got, "whose room was taken by what is called back hears that there is more"
        heard.clear()
    assert [one.id for one in got] == [beside.deliveries[0].id]
    assert await keep_house(other, rows) == 1, "it is left alone while somebody may be at it"
    clock.later(cancelling.LEASE_MS)
    assert await keep_house(other, rows) > 1, "a slice to a round"
    assert await standing(store, made.notification.id) == (NotificationStatus.CANCELLED, {"cancelled": NUMBER})
    types = Counter(event.type for event in await store.events(made.notification.id))
    assert (types["delivery.cancelled"], types["notification.cancelled"]) == (NUMBER, 1)
    assert await store._db.read(marks) == 0


async def test_cancelling_again_goes_on_where_another_died(open_store: OpenStore, rows: Rows, clock: Clock) -> None:
    store, other = await open_store(), await open_store()
    made = await large(store, rows)
    await begun(store, made.notification.id, clock.now)
    told = await other.cancel(made.notification.id, clock.now)
    assert [one.changed for one in told] == [False] * SLICE + [True] * (NUMBER - SLICE)
    assert await standing(store, made.notification.id) == (NotificationStatus.CANCELLED, {"cancelled": NUMBER})
    assert await store._db.read(marks) == 0


async def test_several_cancel_and_send_at_once_and_every_delivery_has_one_end(
    open_store: OpenStore, rows: Rows, clock: Clock
) -> None:
    stores = [await open_store() for _ in range(3)]
    made = await large(stores[0], rows)
    sent: set[UUID] = set()

    async def cancel(store: SqlStore) -> list[UUID]:
        store._cancel_slice = SLICE
        return [one.delivery_id for one in await store.cancel(made.notification.id, clock.now) if one.changed]

    async def send(store: SqlStore) -> None:
        for _ in range(20):
            for one in await store.claim({LANE: 10}, rows.lease(), clock.now):
                if await store.settle(rows.settlement(one, Status.SENT, final=True)):
                    sent.add(one.id)

    first, second, _ = await asyncio.gather(cancel(stores[0]), cancel(stores[1]), send(stores[2]))
    await asyncio.gather(*[send(stores[2])])
    clock.later(cancelling.LEASE_MS)
    await keep_house(stores[2], rows)
    ended = [*first, *second]
    assert len(ended) == len(set(ended))
    assert sent.isdisjoint(ended)
    status, counts = await standing(stores[0], made.notification.id)
    assert counts == {name: number for name, number in (("sent", len(sent)), ("cancelled", len(ended))) if number}
    assert sum(counts.values()) == NUMBER
    assert status is (NotificationStatus.COMPLETED if sent else NotificationStatus.CANCELLED)
    assert await stores[0]._db.read(marks) == 0


async def test_what_was_in_a_workers_hands_is_called_back_when_it_comes_to_wait(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    made = await large(store, rows, 3)
    [held] = await rows.claim(store, 1)
    told = await store.cancel(made.notification.id, clock.now)
    assert [(one.status, one.changed) for one in told] == [
        (Status.SENDING, False),
        (Status.CANCELLED, True),
        (Status.CANCELLED, True),
    ]
    later = clock.now + 1000
    assert await store.settle(rows.settlement(held, Status.HELD, reason=Why.RETRY, due_at=later))
    clock.later(1000)
    assert await rows.claim(store) == [], "nothing of it is handed out again"
    await store.upkeep(rows.rules(), clock.now)
    assert await standing(store, made.notification.id) == (NotificationStatus.CANCELLED, {"cancelled": 3})
    assert await store._db.read(marks) == 0


async def test_what_is_sent_again_by_hand_after_that_is_sent(store: SqlStore, rows: Rows, clock: Clock) -> None:
    made = rows.acceptance(rows.delivery(), rows.delivery(position=1), rows.delivery(position=2))
    await store.accept(made)
    failed, in_hand = await rows.claim(store, 2)
    await store.settle(rows.settlement(failed, Status.FAILED))
    await store.cancel(made.notification.id, clock.now)
    assert await store._db.read(marks) == 1, "one is in a worker's hands"
    clock.later(5)
    again = rows.delivery(retry_of=failed.id)
    await store.resend({made.notification.id: [again]}, clock.now)
    assert [one.id for one in await rows.claim(store)] == [again.id]
    assert await store.settle(rows.settlement(in_hand, Status.SENT, final=True))


@pytest.mark.parametrize("how", ["answer", "released", "lease"])
async def test_what_may_have_been_sent_ends_unknown(store: SqlStore, rows: Rows, clock: Clock, how: str) -> None:
    made = rows.acceptance()
    await store.accept(made)
    await unsure(store, rows, made, how)
    [told] = await store.cancel(made.notification.id, clock.now)
    assert (told.status, told.changed) == (Status.UNKNOWN, True)
    found = await store.delivery(None, told.delivery_id)
    assert found is not None
    assert (found.status, found.reason, found.detail, found.final) == (
        Status.UNKNOWN,
        Why.CANCELLED,
        "cancelled after an attempt whose answer was lost",
        True,
    )
    assert (await standing(store, made.notification.id))[0] is NotificationStatus.COMPLETED
    types = [event.type for event in await store.events(made.notification.id)]
    assert types[-2:] == ["delivery.unknown", "notification.completed"]


@pytest.mark.parametrize("how", ["answer", "released", "lease"])
async def test_an_erasure_does_not_call_unsent_what_may_have_been_sent(
    store: SqlStore, rows: Rows, clock: Clock, how: str
) -> None:
    await rows.know(store, "ada")
    made = rows.acceptance(rows.delivery(user_id="ada"))
    await store.accept(made)
    await unsure(store, rows, made, how)
    assert await store.erase_user("ada", clock.now) is not None
    found = await store.delivery(None, made.deliveries[0].id)
    assert found is not None
    assert (found.status, found.reason) == (Status.UNKNOWN, Why.CANCELLED)


async def test_what_a_digest_carried_that_may_have_gone_out_may_have_gone_out_too(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    join = Joining(name="ada", due_at=clock.now)
    made = [rows.acceptance(rows.delivery(join=join)) for _ in range(2)]
    for one in made:
        await store.accept(one)
    claims = await rows.claim(store)
    carrier = claims[0]
    assert carrier.digest_id is not None
    asked = Gathering(digest_id=carrier.digest_id, delivery_id=carrier.id, token=carrier.token, most=10)
    gathered = await store.gather(asked)
    assert gathered is not None
    assert gathered.count == 2
    held = {"reason": Why.RETRY, "due_at": clock.now + DAY, "digest_id": carrier.digest_id, "unsure": True}
    await store.settle(rows.settlement(carrier, Status.HELD, **held))
    carried = next(one for one in claims if one.id != carrier.id)
    for claim in (carrier, carried):
        [told] = await store.cancel(claim.notification_id, clock.now)
        assert (told.status, told.changed) == (Status.UNKNOWN, True)
