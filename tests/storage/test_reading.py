from __future__ import annotations

from collections import Counter

import pytest

from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage import reading
from gateway.storage.contract import (
    Acceptance,
    DeliveryFilter,
    NotificationFilter,
    Page,
)
from gateway.storage.store import SqlStore
from tests.storage.rows import DAY, START, Clock, Rows


@pytest.fixture
async def three(store: SqlStore, rows: Rows, clock: Clock) -> list[Acceptance]:
    """Three notifications, oldest first, a second apart, each of another project."""
    found: list[Acceptance] = []
    await rows.know(store, *[f"user-{n}" for n in range(3)])
    for n in range(3):
        deliveries = [
            rows.delivery(user_id=f"user-{n}", address=f"u{n}@example.com"),
            rows.delivery(user_id=f"user-{n}", address=f"u{n}@example.com", channel="sms", position=1),
        ]
        found.append(
            rows.acceptance(
                *deliveries[: 2 if n < 2 else 1],
                project=f"project-{n}",
                category=f"category-{n}",
                reference=f"reference-{n}",
                tags=("all", f"tag-{n}"),
                send_at=clock.now + 10_000 if n == 1 else None,
            )
        )
        await store.accept(found[-1])
        clock.later(1000)
    return found


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (NotificationFilter(), [2, 1, 0]),
        (NotificationFilter(project="project-1"), [1]),
        (NotificationFilter(category="category-1"), [1]),
        (NotificationFilter(reference="reference-1"), [1]),
        (NotificationFilter(user="user-1"), [1]),
        (NotificationFilter(address="u1@example.com"), [1]),
        (NotificationFilter(user="user-1", address="u2@example.com"), []),
        (NotificationFilter(tag="all"), [2, 1, 0]),
        (NotificationFilter(tag="tag-1"), [1]),
        (NotificationFilter(tag="all", user="user-2"), [2]),
        (NotificationFilter(tag="all", channel="sms"), [1, 0]),
        (NotificationFilter(user="user-2", channel="sms"), []),
        (NotificationFilter(reference="reference-1", tag="tag-2"), []),
        (NotificationFilter(reference="reference-1", address="u1@example.com", user="user-1", tag="all"), [1]),
        (NotificationFilter(status=NotificationStatus.SCHEDULED), [1]),
        (NotificationFilter(status=NotificationStatus.PROCESSING), [2, 0]),
        (NotificationFilter(status=NotificationStatus.CANCELLED), []),
    ],
    ids=repr,
)
async def test_every_filter_finds_what_matches_and_nothing_else(
    store: SqlStore, three: list[Acceptance], where: NotificationFilter, expected: list[int]
) -> None:
    found = (await store.notifications(where, Page(limit=10))).rows
    assert [one.id for one in found] == [three[n].notification.id for n in expected]


async def test_lists_are_bounded_by_time(store: SqlStore, three: list[Acceptance]) -> None:
    times = [one.notification.created_at for one in three]
    found = (await store.notifications(NotificationFilter(since=times[1], until=times[2]), Page(limit=10))).rows
    assert [one.id for one in found] == [three[1].notification.id]
    found = (await store.notifications(NotificationFilter(since=times[1], user="user-1"), Page(limit=10))).rows
    assert [one.id for one in found] == [three[1].notification.id]


@pytest.mark.parametrize(
    "where",
    [
        NotificationFilter(),
        NotificationFilter(user="me"),
        NotificationFilter(tag="t"),
        NotificationFilter(reference="r"),
    ],
    ids=repr,
)
async def test_pages_follow_each_other_without_gap_or_repeat(
    store: SqlStore, rows: Rows, where: NotificationFilter
) -> None:
    await rows.know(store, "me")
    accepted = [
        rows.acceptance(rows.delivery(user_id="me"), rows.delivery(user_id="me"), tags=("t",), reference="r")
        for _ in range(7)
    ]
    await store.accept_many(accepted)
    seen: list[object] = []
    page = Page(limit=3)
    while found := (await store.notifications(where, page)).rows:
        seen += [one.id for one in found]
        page = Page(limit=3, before=found[-1].id)
        await store.accept(rows.acceptance(rows.delivery(user_id="me"), tags=("t",), reference="r"))
    assert seen == [one.notification.id for one in reversed(accepted)]


@pytest.mark.parametrize(
    "where",
    [
        NotificationFilter(status=NotificationStatus.COMPLETED),
        NotificationFilter(status=NotificationStatus.COMPLETED, user="me"),
        NotificationFilter(category="rare"),
        NotificationFilter(category="rare", tag="t", until=START + DAY),
    ],
    ids=repr,
)
async def test_a_page_passes_over_only_so_many_rows_and_says_where_to_go_on(
    store: SqlStore, rows: Rows, monkeypatch: pytest.MonkeyPatch, where: NotificationFilter
) -> None:
    monkeypatch.setattr(reading, "_PIECES", (2, 3))
    await rows.know(store, "me")
    accepted = [
        rows.acceptance(
            rows.delivery(status=Status.SKIPPED if is_rare else Status.QUEUED, user_id="me"),
            tags=("t",),
            category="rare" if is_rare else "orders",
        )
        for is_rare in (number in {0, 7} for number in range(13))
    ]
    await store.accept_many(accepted)
    pages = [await store.notifications(where, Page(limit=2))]
    while (passed := pages[-1].passed) is not None:
        pages.append(await store.notifications(where, Page(limit=2, before=passed)))
    assert [[row.id for row in page.rows] for page in pages] == [
        [],
        [accepted[7].notification.id],
        [accepted[0].notification.id],
    ]
    assert pages[0].passed == accepted[8].notification.id, "five rows further"


async def test_another_projects_rows_are_not_there(store: SqlStore, three: list[Acceptance]) -> None:
    notification, delivery = three[0].notification.id, three[0].deliveries[0].id
    assert await store.notification("project-1", notification) is None
    assert await store.delivery("project-1", delivery) is None
    assert await store.notification("project-0", notification) is not None
    assert await store.delivery("project-0", delivery) is not None
    assert await store.delivery(None, notification) is None


async def test_deliveries_of_several_notifications_come_in_their_order(
    store: SqlStore, three: list[Acceptance]
) -> None:
    found = await store.deliveries_of([three[1].notification.id, three[0].notification.id])
    assert [one.id for one in found] == [one.id for accepted in three[:2] for one in accepted.deliveries]
    assert await store.deliveries_of([]) == []
    assert len(await store.deliveries(three[0].notification.id, limit=1)) == 1


async def test_deliveries_are_found_by_what_became_of_them(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept_many([rows.acceptance() for _ in range(4)])
    claims = await rows.claim(store)
    outcomes = [(Status.FAILED, Why.GAVE_UP), (Status.BOUNCED, None), (Status.FAILED, Why.POLICY)]
    for claimed, (status, why) in zip(claims, outcomes, strict=False):
        attempts = (rows.attempt(provider="smtp"),)
        await store.settle(rows.settlement(claimed, status, reason=why, provider="smtp", attempts=attempts))
    page = Page(limit=10)
    failed = await store.find_deliveries(DeliveryFilter(statuses=(Status.FAILED,), provider="smtp"), page)
    assert [one.id for one in failed] == [claims[2].id, claims[0].id]
    assert failed[0].attempts == (rows.attempt(),)
    older = await store.find_deliveries(
        DeliveryFilter(statuses=(Status.FAILED, Status.BOUNCED)), Page(limit=10, before=claims[1].id)
    )
    assert [one.id for one in older] == [claims[0].id]
    for where, number in (
        (DeliveryFilter(reason=Why.POLICY), 1),
        (DeliveryFilter(category="orders", channel="email", project="default"), 4),
        (DeliveryFilter(category="other"), 0),
        (DeliveryFilter(ids=(claims[0].id, claims[3].id)), 2),
        (DeliveryFilter(ids=()), 0),
        (DeliveryFilter(notification_id=claims[1].notification_id), 1),
        (DeliveryFilter(since=clock.now), 4),
        (DeliveryFilter(until=clock.now), 0),
    ):
        assert len(await store.find_deliveries(where, page)) == number, where


async def test_events_tell_the_whole_story_oldest_first(store: SqlStore, rows: Rows, clock: Clock) -> None:
    skipped = rows.delivery(status=Status.SKIPPED, reason=Why.NO_ADDRESS, detail="no phone", position=1)
    accepted = rows.acceptance(rows.delivery(), skipped, reference="order-7")
    await store.accept(accepted)
    clock.later(5)
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.HELD, reason=Why.RATE_LIMITED))
    clock.later(5)
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.FAILED, reason=Why.GAVE_UP, detail="550 no"))
    events = await store.events(accepted.notification.id)
    assert [(event.type, event.reason, event.detail) for event in events] == [
        ("delivery.queued", None, None),
        ("delivery.skipped", Why.NO_ADDRESS, "no phone"),
        ("delivery.held", Why.RATE_LIMITED, None),
        ("delivery.failed", Why.GAVE_UP, "550 no"),
        ("notification.completed", None, None),
    ]
    assert {event.reference for event in events} == {"order-7"}
    assert {event.request for event in events} == {accepted.notification.request}
    assert [event.delivery_id for event in events] == [claimed.id, skipped.id, claimed.id, claimed.id, None]
    assert [event.status for event in events] == ["queued", "skipped", "held", "failed", "completed"]
    assert len({event.id for event in events}) == len(events)
    assert await store.events(rows.id()) == []


async def test_scheduled_becomes_processing_when_its_time_comes(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance(rows.delivery(status=Status.HELD, due_at=clock.now + 50), send_at=clock.now + 50)
    await store.accept(accepted)
    expected = [(49, NotificationStatus.SCHEDULED), (1, NotificationStatus.PROCESSING)]
    for later, status in expected:
        clock.later(later)
        # PostgreSQL tells its own time; the filter and the view must agree with each other on either.
        (found,) = (await store.notifications(NotificationFilter(), Page(limit=1))).rows
        same = (await store.notifications(NotificationFilter(status=found.status), Page(limit=1))).rows
        assert [one.status for one in same] == [found.status]
        if await store.now_ms() == clock.now:
            assert found.status is status


async def test_cancelling_ends_what_waits_and_nothing_else(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance(
        rows.delivery(due_at=clock.now - 1),
        rows.delivery(position=1),
        rows.delivery(position=2, status=Status.HELD, due_at=clock.now + 1000),
        rows.delivery(position=3, status=Status.SKIPPED),
    )
    await store.accept(accepted)
    (being_sent,) = await rows.claim(store, 1)
    answers = await store.cancel(accepted.notification.id, clock.now)
    assert [(one.status, one.changed) for one in answers] == [
        (Status.SENDING, False),
        (Status.CANCELLED, True),
        (Status.CANCELLED, True),
        (Status.SKIPPED, False),
    ]
    assert not any(one.changed for one in await store.cancel(accepted.notification.id, clock.now))
    assert await rows.claim(store) == []
    await store.settle(rows.settlement(being_sent, Status.DELIVERED))
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert (view.status, view.counts) == (
        NotificationStatus.COMPLETED,
        {"delivered": 1, "cancelled": 2, "skipped": 1},
    )
    ended = (await store.deliveries(accepted.notification.id))[1]
    assert (ended.status, ended.reason, ended.final) == (Status.CANCELLED, Why.CANCELLED, True)


async def test_a_notification_that_was_never_sent_ends_cancelled(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance(rows.delivery(), rows.delivery(status=Status.SKIPPED))
    await store.accept(accepted)
    await store.cancel(accepted.notification.id, clock.now)
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert view.status is NotificationStatus.CANCELLED
    types = Counter(event.type for event in await store.events(accepted.notification.id))
    assert types["notification.cancelled"] == types["delivery.cancelled"] == 1
    assert types["notification.completed"] == 0
    assert await store.cancel(rows.id(), clock.now) == []


async def test_cancelling_what_is_finished_changes_nothing(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.DELIVERED))
    (answer,) = await store.cancel(claimed.notification_id, clock.now)
    assert (answer.delivery_id, answer.status, answer.changed) == (claimed.id, Status.DELIVERED, False)
    view = await store.notification(None, claimed.notification_id)
    assert view is not None
    assert view.status is NotificationStatus.COMPLETED
