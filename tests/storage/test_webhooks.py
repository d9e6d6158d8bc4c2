"""Events for services: noted with the change that made them, taken once, replayed in steps. On both databases."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from gateway.model.events import EVENT_CATEGORY, PATTERNS
from gateway.model.states import Status, Why
from gateway.router.events import delivery_of
from gateway.storage import outbox
from gateway.storage.contract import EndpointReport, NotedEvent, OutboxState, Page, WebhookRow
from gateway.storage.contract.rows import NotificationFilter
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, START, Clock, Rows

FIVE_DAYS = 5 * DAY
NOTHING = OutboxState(listening=False, noted=False, replaying=False, failing=False)


def endpoint(rows: Rows, *events: str, **changes: Any) -> WebhookRow:
    values = {
        "id": rows.id(),
        "project": "default",
        "url": "https://hooks.example.com/in",
        "events": events or ("*",),
        "secrets": b"sealed",
        "created_at": rows.clock.now,
    }
    return WebhookRow(**(values | changes))


async def listening(store: SqlStore, rows: Rows, *events: str, **changes: Any) -> WebhookRow:
    row = endpoint(rows, *events, **changes)
    assert await store.add_webhook(row, 50)
    return row


async def taken(store: SqlStore, clock: Clock, limit: int = 1000) -> list[NotedEvent]:
    """Relay, and answer what was there to be relayed."""
    seen: list[NotedEvent] = []

    def make(event: NotedEvent, notification_id: UUID, delivery_id: UUID) -> Any:
        seen.append(event)
        return delivery_of(event, notification_id, delivery_id, clock.now)

    await store.relay_events(make, limit, clock.now)
    return seen


async def types(store: SqlStore, clock: Clock) -> list[str]:
    return [event.type for event in await taken(store, clock)]


async def test_what_is_stored_before_the_schema_knew_is_found_as_well(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    def echoes(conn: Connection) -> list[Any]:
        found = conn.exec_driver_sql("SELECT * FROM echoes ORDER BY carrier_id").all()
        return [tuple(row) for row in found]

    def as_before(conn: Connection) -> None:
        conn.exec_driver_sql("DROP TABLE echoes")
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0013'")

    await listening(store, rows)
    for _ in range(501):
        await store.accept(rows.acceptance())
    await store.suppress(rows.suppression())
    assert len(await taken(store, clock)) == 502
    noted = await store._db.read(echoes)
    assert len(noted) == 502
    assert [row[3:] for row in noted if row[1] is None] == [("email", "ada@example.com")]
    await store._db.write(as_before)
    assert await store.migrate() == ["0014", "0015"]
    assert await store._db.read(echoes) == noted


async def test_nothing_is_noted_while_nobody_listens(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    await store.settle(rows.settlement(await rows.claim_one(store), Status.FAILED))
    await store.suppress(rows.suppression())
    assert await store.outbox_state(FIVE_DAYS) == NOTHING


async def test_every_change_is_noted_with_what_its_body_is_made_of(store: SqlStore, rows: Rows, clock: Clock) -> None:
    row = await listening(store, rows)
    asked = rows.acceptance(reference="order-7", request=b'{"metadata":{"a":1}}')
    await store.accept(asked)
    clock.later(1)
    claimed = await rows.claim_one(store)
    await store.settle(rows.sent(claimed, "theirs"))
    clock.later(1)
    await store.apply_status(
        [
            rows.change("opened", provider_id="theirs"),
            rows.change("bounced", provider_id="theirs", reason=Why.ADDRESS_DEAD, detail="no such box"),
        ],
        clock.now,
    )
    events = await taken(store, clock)
    assert [event.type for event in events][:2] == ["delivery.queued", "delivery.sent"]
    assert {event.type for event in events} == {
        "delivery.queued",
        "delivery.sent",
        "delivery.opened",
        "delivery.bounced",
        "notification.completed",
        "suppression.created",
    }
    for event in events:
        assert (event.webhook_id, event.url, event.project) == (row.id, row.url, "default")
        if event.type != "suppression.created":
            assert event.notification_id == asked.notification.id
            assert (event.reference, event.request) == ("order-7", b'{"metadata":{"a":1}}')
    [bounced] = [event for event in events if event.type == "delivery.bounced"]
    assert (bounced.delivery_id, bounced.status, bounced.reason, bounced.detail) == (
        claimed.id,
        "bounced",
        "address_dead",
        "no such box",
    )
    [suppressed] = [event for event in events if event.about is not None]
    assert suppressed.about == b'{"channel":"email","address":"ada@example.com","source":"smtp"}'
    shown = {view.id: view.type for view in await store.events(asked.notification.id)}
    assert {event.id: event.type for event in events if event.notification_id} == shown, "the ledger's own ids"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("delivery.*",), ["delivery.queued", "delivery.cancelled"]),
        (("notification.*",), ["notification.cancelled"]),
        (("delivery.cancelled", "notification.completed"), ["delivery.cancelled"]),
        (("suppression.*",), []),
        (("delivery.cancel",), []),
        (("*",), ["delivery.queued", "delivery.cancelled", "notification.cancelled"]),
    ],
)
async def test_an_endpoint_hears_of_what_its_patterns_name(
    store: SqlStore, rows: Rows, clock: Clock, patterns: tuple[str, ...], expected: list[str]
) -> None:
    await listening(store, rows, *patterns)
    asked = rows.acceptance()
    await store.accept(asked)
    await store.cancel(asked.notification.id, clock.later(5))
    assert sorted(await types(store, clock)) == sorted(expected)


async def test_expiry_and_missing_receipts_are_noted(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await listening(store, rows, "delivery.expired", "notification.completed")
    await store.accept(rows.acceptance())
    await store.settle(rows.sent(await rows.claim_one(store)))
    await store.accept(rows.acceptance(rows.delivery(deadline_at=clock.now + 5)))
    await store.upkeep(rows.rules(receipts_before=clock.now + 1), clock.later(10))
    assert sorted(await types(store, clock)) == ["delivery.expired", "notification.completed", "notification.completed"]


async def test_only_the_own_projects_and_enabled_endpoints_hear(store: SqlStore, rows: Rows, clock: Clock) -> None:
    ours = await listening(store, rows, project="ours")
    await listening(store, rows, project="theirs")
    off = await listening(store, rows, project="ours")
    assert await store.change_webhook(off.id, enabled=False, events=None, now=clock.now)
    await store.accept(rows.acceptance(project="ours"))
    assert [event.webhook_id for event in await taken(store, clock)] == [ours.id]
    await store.suppress(rows.suppression())
    assert len(await taken(store, clock)) == 2, "suppressions are one list for all projects"


async def test_an_event_follows_a_creation_in_another_process(open_store: OpenStore, rows: Rows, clock: Clock) -> None:
    one, two = await open_store(), await open_store()
    await two.accept(rows.acceptance())
    for number in range(5):
        row = await listening(one, rows, "delivery.queued")
        await two.accept(rows.acceptance())
        assert [event.webhook_id for event in await taken(one, clock)] == [row.id], number
        assert await one.delete_webhook(None, row.id)


async def test_each_note_is_taken_once_however_many_take(open_store: OpenStore, rows: Rows, clock: Clock) -> None:
    one, two = await open_store(), await open_store()
    await listening(one, rows, "delivery.queued")
    await one.accept_many([rows.acceptance() for _ in range(100)])
    shares = await asyncio.gather(*[taken(store, clock, 30) for store in (one, two) * 4])
    events = [event.id for share in shares for event in share]
    assert len(events) == len(set(events)) == 100


async def test_a_taken_event_is_a_delivery_and_no_event(store: SqlStore, rows: Rows, clock: Clock) -> None:
    row = await listening(store, rows, "delivery.*")
    await store.accept(rows.acceptance())
    assert len(await taken(store, clock)) == 1
    [claimed] = await store.claim({f"{EVENT_CATEGORY}:normal": 10}, rows.lease(), clock.now)
    assert (claimed.channel, claimed.address, claimed.category) == ("webhook", row.url, EVENT_CATEGORY)
    assert await store.settle(rows.settlement(claimed, Status.FAILED))
    assert not (await store.outbox_state(FIVE_DAYS)).noted
    page = Page(limit=10)
    assert len((await store.notifications(NotificationFilter(), page)).rows) == 1
    [carrying] = (await store.notifications(NotificationFilter(category=EVENT_CATEGORY), page)).rows
    assert carrying.id == claimed.notification_id


async def test_a_change_that_is_not_committed_notes_nothing(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await listening(store, rows)
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    assert not await store.settle(rows.settlement(claimed, Status.SENT, token=claimed.token + 1))
    assert await types(store, clock) == ["delivery.queued"]


async def test_what_is_noted_for_an_endpoint_that_is_off_or_gone_is_dropped(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    off, gone = await listening(store, rows), await listening(store, rows)
    await store.accept(rows.acceptance())
    await store.change_webhook(off.id, enabled=False, events=None, now=clock.now)
    assert await store.delete_webhook("default", gone.id)
    assert await taken(store, clock) == []
    assert not (await store.outbox_state(FIVE_DAYS)).noted


async def test_a_project_has_so_many_endpoints_and_no_more(store: SqlStore, rows: Rows) -> None:
    for _ in range(3):
        assert await store.add_webhook(endpoint(rows), 3)
    assert not await store.add_webhook(endpoint(rows), 3)
    assert await store.add_webhook(endpoint(rows, project="another"), 3)


async def test_endpoints_are_listed_newest_first_and_belong_to_a_project(store: SqlStore, rows: Rows) -> None:
    made = [await listening(store, rows, project=("ours", "theirs")[number % 2]) for number in range(4)]
    assert await store.webhooks(None, 10, None) == made[::-1]
    assert await store.webhooks("ours", 10, None) == [made[2], made[0]]
    assert await store.webhooks(None, 2, made[2].id) == [made[1], made[0]]
    assert await store.webhook("theirs", made[1].id) == made[1]
    assert await store.webhook("ours", made[1].id) is None
    assert not await store.delete_webhook("ours", made[1].id)
    assert not await store.change_webhook(rows.id(), enabled=True, events=None, now=0)


async def test_secrets_are_exchanged_only_for_those_that_were_read(store: SqlStore, rows: Rows) -> None:
    row = await listening(store, rows)
    assert await store.replace_secrets(row.id, b"sealed", b"newer")
    assert not await store.replace_secrets(row.id, b"sealed", b"mine")
    found = await store.webhook(None, row.id)
    assert found is not None
    assert found.secrets == b"newer"


async def reported(store: SqlStore, rows: Rows, row: WebhookRow, *, ok: bool, gone: bool = False) -> WebhookRow:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    report = EndpointReport(webhook_id=row.id, ok=ok, gone=gone)
    assert await store.settle(rows.settlement(claimed, Status.FAILED, endpoint=report))
    found = await store.webhook(None, row.id)
    assert found is not None
    return found


async def test_failures_count_until_a_success_and_five_days_of_them_switch_off(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    row = await listening(store, rows, "suppression.created")
    first = await reported(store, rows, row, ok=False)
    assert (first.failures, first.first_failure_at, first.last_failure_at) == (1, START, START)
    clock.later(FIVE_DAYS - 1)
    assert (await reported(store, rows, row, ok=False)).failures == 2
    assert not (await store.outbox_state(FIVE_DAYS)).failing
    well = await reported(store, rows, row, ok=True)
    assert (well.failures, well.first_failure_at, well.last_success_at) == (0, None, clock.now)
    await reported(store, rows, row, ok=False)
    clock.later(FIVE_DAYS)
    assert not (await store.outbox_state(FIVE_DAYS)).failing, "one failure long ago is no failure for five days"
    await reported(store, rows, row, ok=False)
    assert (await store.outbox_state(FIVE_DAYS)).failing
    [off] = await store.switch_off_failing(FIVE_DAYS, clock.now)
    assert (off.id, off.enabled, off.disabled_reason, off.disabled_at) == (row.id, False, "failing", clock.now)
    assert await store.switch_off_failing(FIVE_DAYS, clock.now) == [], "told to one caller only"
    assert await store.change_webhook(row.id, enabled=True, events=("*",), now=clock.now)
    on = await store.webhook(None, row.id)
    assert on is not None
    assert (on.enabled, on.disabled_reason, on.failures, on.first_failure_at) == (True, None, 0, None)
    assert on.events == ("*",)


async def test_one_that_wants_no_more_is_off_with_the_settlement(store: SqlStore, rows: Rows, clock: Clock) -> None:
    row = await listening(store, rows, "suppression.created")
    off = await reported(store, rows, row, ok=False, gone=True)
    assert (off.enabled, off.disabled_reason, off.disabled_at) == (False, "gone", clock.now)
    later = await reported(store, rows, row, ok=True)
    assert not later.enabled, "a success that was on its way switches nothing on"


async def test_a_replay_goes_in_steps_through_what_is_kept(store: SqlStore, rows: Rows, clock: Clock) -> None:
    for number in range(10):
        await store.accept(rows.acceptance(project=("default", "another")[number % 2]))
        clock.later(1000)
    row, other = await listening(store, rows, "delivery.queued"), await listening(store, rows)
    assert await store.replay_events(row.id, START + 2000, clock.now)
    found = await store.webhook(None, row.id)
    assert found is not None
    assert found.replaying
    looked = [await store.replay_slice(4) for _ in range(4)]
    assert looked == [4, 4, 2, 0]
    events = await taken(store, clock)
    assert [event.at for event in events] == [START + 2000, START + 4000, START + 6000, START + 8000]
    assert all(event.replayed and event.webhook_id == row.id != other.id for event in events)
    assert not (await store.outbox_state(FIVE_DAYS)).replaying
    again = await store.webhook(None, row.id)
    assert again is not None
    assert not again.replaying


async def test_a_replay_finds_late_events_of_old_notifications_and_none_about_events(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    row = await listening(store, rows, "delivery.delivered")
    await store.accept(rows.acceptance())
    await store.settle(rows.sent(await rows.claim_one(store), "theirs"))
    since = clock.later(DAY)
    await store.apply_status([rows.change("delivered", provider_id="theirs")], clock.later(5))
    [told] = await taken(store, clock)
    [claimed] = await store.claim({f"{EVENT_CATEGORY}:normal": 10}, rows.lease(), clock.now)
    await store.settle(rows.settlement(claimed, Status.SENT, final=True))
    assert await store.replay_events(row.id, since, clock.later(5))
    assert await store.replay_slice(100) > 0
    [again] = await taken(store, clock)
    assert (again.id, again.at, again.replayed) == (told.id, told.at, True)
    assert not await store.replay_events(rows.id(), since, clock.now)


async def test_large_requests_are_read_a_few_at_a_time(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await listening(store, rows, "delivery.queued", "delivery.failed")
    sizes = (10, 9_000_000, 20, 5_000_000, 5_000_000)
    for size in sizes:
        await store.accept(rows.acceptance(request=b" " * size))
        clock.later(1)

    def groups(conn: Connection) -> list[list[int]]:
        count, found = outbox.take(conn, 100)
        assert count == len(sizes)
        return [[len(event.request or b"") for event in group] for group in found]

    assert await store._db.write(groups) == [[10], [9_000_000], [20, 5_000_000], [5_000_000]]


async def test_a_step_of_a_replay_ends_before_it_grows_large(store: SqlStore, rows: Rows, clock: Clock) -> None:
    for _ in range(4):
        await store.accept(rows.acceptance(*[rows.delivery(position=place) for place in range(900)]))
        clock.later(1)
    row = await listening(store, rows, "delivery.queued")
    assert await store.replay_events(row.id, START, clock.now)
    steps: list[int] = []
    while (await store.outbox_state(FIVE_DAYS)).replaying:
        await store.replay_slice(100)
        steps.append(len(await taken(store, clock, 10_000)))
    assert steps == [1800, 1800, 0], "it does not follow the notifications that it makes itself"


async def test_a_relay_of_many_is_bounded_by_its_limit(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await listening(store, rows, "delivery.queued")
    await store.accept_many([rows.acceptance() for _ in range(25)])
    make = partial(delivery_of, now=clock.now)
    assert [await store.relay_events(make, 10, clock.now) for _ in range(4)] == [10, 10, 5, 0]


def test_every_pattern_is_made_of_what_the_statements_compare() -> None:
    # The store finds a pattern between commas with LIKE: none may hold a comma or a wildcard of LIKE.
    assert not any(set(pattern) & set(",%_") for pattern in PATTERNS)
