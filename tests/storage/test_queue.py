from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from gateway.model.states import Mode, NotificationStatus, OnUnknown, Status, Why
from gateway.storage.contract import Claimed
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import LANE, Clock, Rows


async def test_a_claim_carries_all_that_is_needed_to_send(store: SqlStore, rows: Rows, clock: Clock) -> None:
    delivery = rows.delivery(user_id="42", status=Status.HELD, reason=Why.SCHEDULED)
    await rows.know(store, "42")
    accepted = rows.acceptance(delivery, reference="r", mode=Mode.TEST)
    await store.accept(accepted)
    clock.later(10)
    claimed = await rows.claim_one(store)
    assert claimed == Claimed(
        id=delivery.id,
        notification_id=accepted.notification.id,
        project="default",
        mode=Mode.TEST,
        channel="email",
        lane=LANE,
        category="orders",
        template_key="order-shipped",
        template_version="sha256:1",
        reference="r",
        request=accepted.notification.request,
        has_attachments=False,
        address="ada@example.com",
        user_id="42",
        recipient=delivery.recipient,
        status=Status.HELD,
        attempts=0,
        token=1,
        lost=0,
        granted=False,
        created_at=accepted.notification.created_at,
        due_at=delivery.due_at,
        deadline_at=delivery.deadline_at,
        on_unknown=OnUnknown.RESEND,
        notification_created_at=accepted.notification.created_at,
    )


async def test_the_oldest_due_comes_first_and_what_is_not_due_does_not_come(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    due = [rows.delivery(due_at=clock.now - before) for before in (10, 30, 20, 0)]
    later = rows.delivery(due_at=clock.now + 1)
    await store.accept(rows.acceptance(*due, later))
    first = await rows.claim(store, 2)
    assert [claimed.id for claimed in first] == [due[1].id, due[2].id]
    rest = await rows.claim(store)
    assert [claimed.id for claimed in rest] == [due[0].id, due[3].id]
    assert await rows.claim(store) == []


async def test_each_lane_gives_at_most_what_was_asked_of_it(store: SqlStore, rows: Rows, clock: Clock) -> None:
    lanes = ["email:critical", "email:bulk", "sms:normal"]
    await store.accept(rows.acceptance(*[rows.delivery(lane=lane) for lane in lanes for _ in range(5)]))
    claimed = await store.claim({"email:critical": 3, "email:bulk": 1, "push:bulk": 4}, rows.lease(), clock.now)
    assert Counter(one.lane for one in claimed) == {"email:critical": 3, "email:bulk": 1}
    assert await store.claim({}, rows.lease(), clock.now) == []


async def test_two_stores_never_claim_the_same_delivery(open_store: OpenStore, rows: Rows) -> None:
    stores = [await open_store() for _ in range(2)]
    number = 600
    await stores[0].accept_many([rows.acceptance() for _ in range(number)])
    claimed: list[UUID] = []

    async def worker(name: int) -> None:
        while found := await rows.claim(stores[name % 2], 7, f"worker-{name}"):
            claimed.extend(one.id for one in found)

    await asyncio.gather(*[worker(name) for name in range(6)])
    assert len(claimed) == len(set(claimed)) == number


async def test_callers_of_one_moment_share_a_batch_and_never_a_delivery(store: SqlStore, rows: Rows) -> None:
    await store.accept_many([rows.acceptance() for _ in range(10)])
    shares = await asyncio.gather(*[rows.claim(store, 3, f"worker-{n}") for n in range(5)])
    ids = [one.id for share in shares for one in share]
    assert len(ids) == len(set(ids)) == 10
    assert max(len(share) for share in shares) == 3


async def test_a_lease_that_ran_out_is_claimed_again_and_counts_as_lost(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(rows.acceptance())
    first = await rows.claim_one(store)
    clock.later(59_999)
    assert await rows.claim(store) == []
    clock.later(1)
    second = await rows.claim_one(store)
    assert (second.id, second.token, second.lost) == (first.id, first.token + 1, 1)
    clock.later(60_000)
    assert (await rows.claim_one(store)).lost == 2


async def test_a_settlement_ends_the_count_of_losses(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    await rows.claim_one(store)
    clock.later(60_000)
    second = await rows.claim_one(store)
    await store.settle(rows.settlement(second, Status.HELD, reason=Why.RETRY))
    assert (await rows.claim_one(store)).lost == 0


async def test_late_worker_cannot_overwrite_a_newer_lease(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance()
    await store.accept(accepted)
    late = await rows.claim_one(store, "late")
    clock.later(60_000)
    newer = await rows.claim_one(store, "newer")
    assert (
        await store.settle(rows.settlement(late, Status.FAILED, reason=Why.GAVE_UP, attempts=(rows.attempt(),)))
        is False
    )
    (view,) = await store.deliveries(accepted.notification.id)
    assert (view.status, view.attempts) == (Status.SENDING, ())
    assert await store.settle(rows.settlement(newer, Status.DELIVERED)) is True
    assert await store.settle(rows.settlement(late, Status.FAILED)) is False
    assert [event.type for event in await store.events(accepted.notification.id)] == [
        "delivery.queued",
        "delivery.delivered",
        "notification.completed",
    ]


async def test_a_lease_that_ran_out_unclaimed_may_still_be_settled(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    clock.later(600_000)
    assert await store.settle(rows.settlement(claimed, Status.DELIVERED)) is True


async def test_one_claim_is_settled_once_even_in_one_batch(store: SqlStore, rows: Rows) -> None:
    accepted = rows.acceptance()
    await store.accept(accepted)
    claimed = await rows.claim_one(store)
    settlement = rows.settlement(claimed, Status.HELD, reason=Why.RETRY)
    assert sorted(await asyncio.gather(*[store.settle(settlement) for _ in range(3)])) == [False, False, True]
    assert await store.settle(settlement) is False
    assert len(await store.events(accepted.notification.id)) == 2


async def test_born_leased_is_claimed_by_nobody_until_its_lease_runs_out(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    born = rows.delivery(lease=rows.lease("me"))
    await store.accept(rows.acceptance(born))
    assert await rows.claim(store) == []
    clock.later(60_000)
    claimed = await rows.claim_one(store, "other")
    assert (claimed.token, claimed.lost) == (2, 1)
    assert await store.settle(rows.settlement(claimed, Status.DELIVERED, token=1)) is False
    assert await store.settle(rows.settlement(claimed, Status.DELIVERED)) is True


async def test_released_claims_are_due_at_once_and_not_lost(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await store.release([(claimed.id, claimed.token), (rows.id(), 1)], clock.now)
    again = await rows.claim_one(store, "other")
    assert (again.id, again.token, again.lost) == (claimed.id, claimed.token + 1, 0)
    await store.release([(claimed.id, claimed.token)], clock.now)
    assert await rows.claim(store) == [], "somebody else's claim was released"
    assert await store.settle(rows.settlement(claimed, Status.DELIVERED)) is False


async def test_a_released_claim_cannot_be_settled(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await store.release([(claimed.id, claimed.token)], clock.now)
    assert await store.settle(rows.settlement(claimed, Status.DELIVERED)) is False


async def test_renewing_prolongs_only_what_is_still_held(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance(rows.delivery(), rows.delivery()))
    mine, lost = await rows.claim(store)
    renewed = await store.renew([(mine.id, mine.token), (lost.id, lost.token + 1), (rows.id(), 1)], clock.now + 120_000)
    assert renewed == {mine.id}
    clock.later(60_000)
    assert [claimed.id for claimed in await rows.claim(store)] == [lost.id]


async def test_a_held_settlement_waits_until_it_is_due_and_counts_its_attempts(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    accepted = rows.acceptance()
    await store.accept(accepted)
    claimed = await rows.claim_one(store)
    attempts = (rows.attempt(outcome="retry", reason="provider_down", detail="451 later"),)
    held = rows.settlement(
        claimed,
        Status.HELD,
        reason=Why.RETRY,
        detail="451 later",
        provider="smtp",
        due_at=clock.now + 5000,
        granted=True,
        attempts=attempts,
    )
    assert await store.settle(held) is True
    (view,) = await store.deliveries(accepted.notification.id)
    assert (view.status, view.reason, view.detail, view.provider, view.due_at, view.final) == (
        Status.HELD,
        Why.RETRY,
        "451 later",
        "smtp",
        clock.now + 5000,
        False,
    )
    assert view.attempts == attempts
    assert await rows.claim(store) == []
    clock.later(5000)
    again = await rows.claim_one(store)
    assert (again.attempts, again.granted, again.status, again.token) == (1, True, Status.HELD, 2)


async def test_the_last_final_delivery_completes_the_notification(store: SqlStore, rows: Rows) -> None:
    accepted = rows.acceptance(*[rows.delivery(position=place) for place in range(3)])
    await store.accept(accepted)
    one, two, three = await rows.claim(store)
    await asyncio.gather(store.settle(rows.settlement(one, Status.DELIVERED)), store.settle(rows.sent(two)))
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert (view.status, view.counts) == (
        NotificationStatus.PROCESSING,
        {"delivered": 1, "sent": 1, "sending": 1},
    )
    await store.settle(rows.settlement(three, Status.SENT, final=True))
    await store.apply_status([rows.change("delivered", delivery_id=two.id)], rows.clock.now)
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert (view.status, view.counts) == (NotificationStatus.COMPLETED, {"delivered": 2, "sent": 1})
    events = await store.events(accepted.notification.id)
    assert [event.type for event in events].count("notification.completed") == 1


async def test_one_bad_settlement_fails_alone(store: SqlStore, rows: Rows) -> None:
    await store.accept_many([rows.acceptance() for _ in range(8)])
    claims = await rows.claim(store)
    bad = rows.settlement(claims[3], Status.FAILED, due_at=2**70)
    asked = [rows.settlement(one, Status.DELIVERED) for one in claims]
    asked[3] = bad
    results = await asyncio.gather(*[store.settle(one) for one in asked], return_exceptions=True)
    assert [result is True for result in results] == [True] * 3 + [False] + [True] * 4
    assert isinstance(results[3], Exception)
    assert await store.settle(rows.settlement(claims[3], Status.DELIVERED)) is True


async def test_the_next_due_moment_counts_leases_too(store: SqlStore, rows: Rows, clock: Clock) -> None:
    assert await store.next_due([LANE]) is None
    await store.accept(
        rows.acceptance(
            rows.delivery(), rows.delivery(due_at=clock.now + 90_000), rows.delivery(lane="sms:bulk", due_at=5)
        )
    )
    assert await store.next_due([LANE]) == clock.now
    await rows.claim_one(store)
    assert await store.next_due([LANE]) == clock.now + 60_000
    assert await store.next_due([LANE, "sms:bulk"]) == 5
    assert await store.next_due([]) is None


async def test_stores_that_settle_and_report_the_same_rows_never_lock_each_other_out(
    open_store: OpenStore, rows: Rows, clock: Clock
) -> None:
    first, second = await open_store(), await open_store()
    notifications = [rows.acceptance(*[rows.delivery() for _ in range(4)]) for _ in range(20)]
    await first.accept_many(notifications)
    claims = await rows.claim(first, 80)
    settle = [(second if n % 2 else first).settle(rows.sent(one, str(n))) for n, one in enumerate(claims)]
    report = [
        (first if n % 2 else second).apply_status([rows.change("delivered", delivery_id=one.id)], clock.now)
        for n, one in enumerate(reversed(claims))
    ]
    cancel = [second.cancel(one.notification.id, clock.now) for one in notifications]
    await asyncio.gather(*settle, *report, *cancel)
    await first.upkeep(rows.rules(), clock.later(3_600_000))
    for accepted in notifications:
        view = await first.notification(None, accepted.notification.id)
        assert view is not None
        assert (view.counts, view.status) == ({"delivered": 4}, NotificationStatus.COMPLETED)
