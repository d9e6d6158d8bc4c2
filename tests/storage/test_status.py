from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model.states import Engagement, NotificationStatus, Status, Why, may_follow
from gateway.storage.contract import Claimed, DeliveryView
from gateway.storage.store import SIMULATOR, SqlStore
from tests.storage.rows import DAY, Clock, Rows

PROVIDER_IDS = (f"msg-{number}" for number in count())


async def sent_one(store: SqlStore, rows: Rows, provider_id: str) -> Claimed:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    assert await store.settle(rows.sent(claimed, provider_id))
    return claimed


async def shown(store: SqlStore, claimed: Claimed) -> DeliveryView:
    view = await store.delivery(None, claimed.id)
    assert view is not None
    return view


async def test_a_report_is_found_by_the_providers_id(store: SqlStore, rows: Rows, clock: Clock) -> None:
    claimed = await sent_one(store, rows, "x")
    other = rows.change("delivered", provider="another", provider_id="x")
    assert await store.apply_status([other], clock.now) == 0
    assert (await shown(store, claimed)).status is Status.SENT
    assert await store.apply_status([rows.change("delivered", provider_id="x", detail="ok")], clock.now) == 1
    view = await shown(store, claimed)
    assert (view.status, view.final, view.detail) == (Status.DELIVERED, True, "ok")
    notification = await store.notification(None, claimed.notification_id)
    assert notification is not None
    assert notification.status is NotificationStatus.COMPLETED
    types = [event.type for event in await store.events(claimed.notification_id)]
    assert types == ["delivery.queued", "delivery.sent", "delivery.delivered", "notification.completed"]


async def test_repeats_and_steps_back_change_nothing(store: SqlStore, rows: Rows, clock: Clock) -> None:
    claimed = await sent_one(store, rows, "x")
    for type_, changed in (("bounced", 1), ("bounced", 0), ("sent", 0), ("deferred", 0), ("delivered", 1)):
        assert await store.apply_status([rows.change(type_, provider_id="x")], clock.now) == changed, type_
    assert (await shown(store, claimed)).status is Status.DELIVERED
    assert len(await store.events(claimed.notification_id)) == 5


async def test_engagement_joins_a_set_and_moves_no_status(store: SqlStore, rows: Rows, clock: Clock) -> None:
    claimed = await sent_one(store, rows, "x")
    changes = [rows.change(type_, provider_id="x") for type_ in ("opened", "opened", "clicked")]
    assert await store.apply_status(changes, clock.now) == 2
    assert await store.apply_status(changes, clock.now) == 0
    view = await shown(store, claimed)
    assert set(view.engagement) == {Engagement.OPENED, Engagement.CLICKED}
    assert (view.status, view.final) == (Status.SENT, False)


@pytest.mark.parametrize(
    ("type_", "why", "provider", "expected"),
    [
        ("bounced", Why.ADDRESS_DEAD, "smtp", Why.ADDRESS_DEAD),
        ("complained", None, "smtp", Why.COMPLAINED),
        ("bounced", Why.POLICY, "smtp", None),
        ("bounced", None, "smtp", None),
        ("opened", None, "smtp", None),
        ("complained", None, SIMULATOR, None),
        ("bounced", Why.ADDRESS_DEAD, SIMULATOR, None),
    ],
)
async def test_only_hard_bounces_and_complaints_suppress(
    store: SqlStore, rows: Rows, clock: Clock, type_: str, why: Why | None, provider: str, expected: Why | None
) -> None:
    claimed = await sent_one(store, rows, "x")
    await store.apply_status([rows.change(type_, delivery_id=claimed.id, reason=why, provider=provider)], clock.now)
    row = await store.suppressed("email", "ada@example.com")
    assert (row.reason if row else None) == expected
    if row is not None:
        assert row.source == provider


async def test_a_report_before_the_settlement_is_applied_with_it(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance(*[rows.delivery() for _ in range(2)])
    await store.accept(accepted)
    by_theirs, by_ours = await rows.claim(store)
    early = [
        rows.change("delivered", provider_id="x"),
        rows.change("opened", delivery_id=by_ours.id),
        rows.change("delivered", delivery_id=by_ours.id),
    ]
    assert await store.apply_status([*early, *early], clock.now) == 0
    assert (await shown(store, by_ours)).status is Status.SENDING
    await asyncio.gather(store.settle(rows.sent(by_theirs, "x")), store.settle(rows.sent(by_ours, "y")))
    for claimed in (by_theirs, by_ours):
        assert (await shown(store, claimed)).status is Status.DELIVERED
    assert (await shown(store, by_ours)).engagement == (Engagement.OPENED,)
    types = [event.type for event in await store.events(accepted.notification.id)]
    assert sorted(types) == sorted(
        [*["delivery.queued", "delivery.sent", "delivery.delivered"] * 2, "delivery.opened", "notification.completed"]
    )
    # Nothing is left behind to be applied again.
    assert (await store.upkeep(rows.rules(), clock.later(DAY))).events_applied == 0


async def test_a_report_with_a_time_to_come_waits_for_it(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    late = rows.change("delivered", provider_id="x", due_at=clock.now + 30_000)
    assert await store.apply_status([late], clock.now) == 0
    await store.settle(rows.sent(claimed, "x"))
    assert (await store.upkeep(rows.rules(), clock.later(29_999))).events_applied == 0
    assert (await shown(store, claimed)).status is Status.SENT
    assert (await store.upkeep(rows.rules(), clock.later(1))).events_applied == 1
    assert (await shown(store, claimed)).status is Status.DELIVERED


async def test_upkeep_finds_the_delivery_of_a_report_that_no_settlement_saw(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    claimed = await sent_one(store, rows, "x")
    # On PostgreSQL the report and the settlement may each commit without having seen the other.
    waiting = rows.change("delivered", provider_id="x", due_at=clock.now + 1)
    await store.apply_status([waiting, rows.change("delivered", provider_id="foreign")], clock.now)
    assert (await store.upkeep(rows.rules(), clock.later(60_000))).events_applied == 1
    assert (await shown(store, claimed)).status is Status.DELIVERED


async def test_reports_that_never_find_a_delivery_are_forgotten(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.apply_status([rows.change("delivered", provider_id="foreign")], clock.now)

    async def kept() -> int:
        return await store._db.read(
            lambda conn: conn.exec_driver_sql("SELECT count(*) FROM status_changes").scalar_one()
        )

    await store.upkeep(rows.rules(), clock.later(DAY))
    assert await kept() == 1
    await store.upkeep(rows.rules(), clock.later(4 * DAY))
    assert await kept() == 0


async def test_a_report_about_an_earlier_attempt_ends_the_waiting_for_the_next(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    attempt = rows.attempt(outcome="unknown", provider_id="x")
    await store.settle(rows.settlement(claimed, Status.HELD, reason=Why.RETRY, attempts=(attempt,)))
    assert await store.apply_status([rows.change("delivered", provider_id="x")], clock.now) == 1
    assert await rows.claim(store) == []
    assert (await shown(store, claimed)).status is Status.DELIVERED
    assert await store.waiting() == 0


async def test_an_unknown_delivery_is_settled_by_an_event(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.UNKNOWN, reason=Why.TIMED_OUT, provider="smtp"))
    assert await store.apply_status([rows.change("delivered", delivery_id=claimed.id)], clock.now) == 1
    notification = await store.notification(None, claimed.notification_id)
    assert notification is not None
    assert (notification.status, notification.counts) == (NotificationStatus.COMPLETED, {"delivered": 1})


async def test_what_a_rule_ended_is_not_moved_by_a_report(store: SqlStore, rows: Rows, clock: Clock) -> None:
    skipped = rows.delivery(status=Status.SKIPPED)
    await store.accept(rows.acceptance(skipped))
    assert await store.apply_status([rows.change("delivered", delivery_id=skipped.id)], clock.now) == 0
    assert await store.apply_status([rows.change("delivered", delivery_id=rows.id())], clock.now) == 0
    assert await store.apply_status([], clock.now) == 0


async def test_without_a_receipt_a_sent_delivery_becomes_final(store: SqlStore, rows: Rows, clock: Clock) -> None:
    claimed = await sent_one(store, rows, "x")
    before = clock.now
    clock.later(DAY)
    assert (await store.upkeep(rows.rules(receipts_before=before), clock.now)).finalised == 0
    assert (await store.upkeep(rows.rules(receipts_before=before + 1), clock.now)).finalised == 1
    view = await shown(store, claimed)
    assert (view.status, view.final) == (Status.SENT, True)
    notification = await store.notification(None, claimed.notification_id)
    assert notification is not None
    assert notification.status is NotificationStatus.COMPLETED
    assert await store.apply_status([rows.change("delivered", provider_id="x")], clock.now) == 1
    types = [event.type for event in await store.events(claimed.notification_id)]
    assert types == ["delivery.queued", "delivery.sent", "notification.completed", "delivery.delivered"]


REPORTS = st.lists(
    st.tuples(st.sampled_from(["sent", "delivered", "bounced", "failed", "opened", "clicked"]), st.booleans()),
    max_size=8,
)


@given(REPORTS, REPORTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_in_any_order_and_repeated_the_highest_status_stands(
    store: SqlStore, rows: Rows, before: list[tuple[str, bool]], after: list[tuple[str, bool]]
) -> None:
    provider_id = next(PROVIDER_IDS)
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)

    def change(type_: str, by_ours: bool) -> Any:
        found: dict[str, Any] = {"delivery_id": claimed.id} if by_ours else {"provider_id": provider_id}
        return rows.change(type_, **found)

    await store.apply_status([change(*one) for one in before], rows.clock.now)
    await store.settle(rows.sent(claimed, provider_id))
    for one in after:
        await store.apply_status([change(*one)], rows.clock.now)
    view = await shown(store, claimed)
    expected = Status.SENT
    for type_, _ in [*before, *after]:
        if type_ in set(Status) and may_follow(expected, Status(type_)):
            expected = Status(type_)
    assert view.status is expected
    assert set(view.engagement) == {type_ for type_, _ in [*before, *after]} & set(Engagement)
    types = [event.type for event in await store.events(claimed.notification_id)]
    assert types.count("notification.completed") == (1 if expected is not Status.SENT else 0)
