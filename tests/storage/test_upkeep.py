from __future__ import annotations

from uuid import UUID

import msgspec

from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage.contract import (
    AttachmentRow,
    CapturedFilter,
    Kept,
    NotificationFilter,
    NotificationView,
    Page,
    UpkeepReport,
)
from gateway.storage.schema import METADATA
from gateway.storage.store import SqlStore
from tests.storage.rows import DAY, LANE, START, Clock, Rows


async def rows_by_table(store: SqlStore) -> dict[str, int]:
    def count(conn: object) -> dict[str, int]:
        found = {
            name: conn.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()  # type: ignore[attr-defined]
            for name in METADATA.tables
        }
        return {name: number for name, number in found.items() if number}

    return await store._db.read(count)


async def test_with_nothing_to_do_nothing_is_done(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    assert await store.upkeep(rows.rules(), clock.now) == UpkeepReport()


async def test_past_its_deadline_a_waiting_delivery_expires(store: SqlStore, rows: Rows, clock: Clock) -> None:
    waiting = rows.delivery(due_at=clock.now + DAY, deadline_at=clock.now + 100)
    leased = rows.delivery(deadline_at=clock.now + 100)
    later = rows.delivery(due_at=clock.now + DAY, deadline_at=clock.now + 101)
    accepted = rows.acceptance(waiting, leased, later)
    await store.accept(accepted)
    await rows.claim_one(store)
    assert (await store.upkeep(rows.rules(), clock.later(99))).expired == 0
    assert (await store.upkeep(rows.rules(), clock.later(1))).expired == 1
    by_id = {view.id: view for view in await store.deliveries(accepted.notification.id)}
    expired = by_id[waiting.id]
    assert (expired.status, expired.reason, expired.final) == (Status.EXPIRED, Why.EXPIRED, True)
    assert by_id[leased.id].status is Status.SENDING
    assert by_id[later.id].status is Status.QUEUED
    assert "delivery.expired" in [event.type for event in await store.events(accepted.notification.id)]


async def test_what_a_lost_worker_may_have_sent_does_not_expire_though_it_was_given_back(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(rows.acceptance(rows.delivery(deadline_at=clock.now + 100)))
    await store.claim({LANE: 1}, rows.lease("lost", for_ms=10), clock.now)
    clock.later(10)
    [claimed] = await store.claim({LANE: 1}, rows.lease(), clock.now)
    assert claimed.lost == 1
    await store.release([(claimed.id, claimed.token)], clock.now)
    assert (await store.upkeep(rows.rules(), clock.later(200))).expired == 0
    [again] = await store.claim({LANE: 1}, rows.lease(), clock.now)
    assert again.lost == 1


async def test_the_last_expiry_completes_the_notification(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance(*[rows.delivery(deadline_at=clock.now) for _ in range(2)])
    await store.accept(accepted)
    await store.upkeep(rows.rules(), clock.now)
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert (view.status, view.counts) == (NotificationStatus.COMPLETED, {"expired": 2})
    assert await store.waiting() == 0


async def test_what_waits_does_not_hide_what_is_finished_behind_it(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept_many([rows.acceptance(rows.delivery(due_at=clock.now + DAY)) for _ in range(25)])
    done = [rows.acceptance(rows.delivery(status=Status.SKIPPED)) for _ in range(3)]
    await store.accept_many(done)
    rules = rows.rules(slice=10, notifications_before=clock.now + DAY, contents_before=clock.now + DAY)
    reports = [await store.upkeep(rules, clock.now) for _ in range(4)]
    assert [(report.deleted, report.more) for report in reports] == [(0, False), (0, False), (3, False), (0, False)]
    assert [await store.notification(None, one.notification.id) for one in done] == [None] * 3
    assert len((await store.notifications(NotificationFilter(), Page(limit=50))).rows) == 25


async def test_a_round_does_one_slice_and_says_when_there_is_more(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance(*[rows.delivery(deadline_at=clock.now) for _ in range(25)]))
    reports = [await store.upkeep(rows.rules(slice=10), clock.now) for _ in range(3)]
    assert [(report.expired, report.more) for report in reports] == [(10, True), (10, True), (5, False)]


async def full_notification(store: SqlStore, rows: Rows) -> None:
    file = AttachmentRow(filename="a", content_type="text/plain", content_id=None, content=b"secret")
    await store.accept(rows.acceptance(attachments=(file,), tags=("t",), reference="r"))
    claimed = await rows.claim_one(store)
    captured = rows.captured(claimed)
    attempts = (rows.attempt(),)
    await store.settle(rows.settlement(claimed, Status.CAPTURED, captured=captured, attempts=attempts))


async def test_contents_are_forgotten_and_the_record_stays(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await full_notification(store, rows)
    await store.accept(rows.acceptance(rows.delivery(due_at=clock.now + 9 * DAY, deadline_at=clock.now + 9 * DAY)))
    clock.later(DAY)
    await full_notification(store, rows)
    await store.upkeep(rows.rules(contents_before=START + 1), clock.now)
    fresh, unfinished, old = (await store.notifications(NotificationFilter(), Page(limit=5))).rows
    assert (fresh.request is None, unfinished.request is None, old.request is None) == (False, False, True)
    assert old.reference == "r"
    (delivery,) = await store.deliveries(old.id)
    assert (delivery.recipient, delivery.address, len(delivery.attempts)) == (b"{}", None, 1)
    assert await store.attachments(old.id) == ()
    assert [event.request for event in await store.events(old.id)] == [None] * 3
    (_, captured) = await store.captured(CapturedFilter(), Page(limit=5))
    whole = await store.captured_one(None, captured.id)
    assert whole is not None
    assert (whole.subject, whole.text, whole.html, whole.data, whole.headers, whole.raw) == (
        None,
        None,
        None,
        b"{}",
        b"{}",
        b"",
    )
    assert (whole.to, whole.original_to) == ("", "")
    assert await store.captured(CapturedFilter(contains="parcel", since=0), Page(limit=5)) != []
    assert len(await store.attachments(fresh.id)) == 1


async def test_a_provider_s_words_are_kept_without_the_addresses_in_them(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    said = "550 5.1.1 <ada@example.com>: no such user; call +1 555 010 0001"
    attempts = (rows.attempt(detail=said),)
    await store.settle(rows.settlement(claimed, Status.FAILED, detail=said, attempts=attempts))
    clock.later(DAY)
    before = await store.delivery(None, claimed.id)
    await store.upkeep(rows.rules(contents_before=clock.now), clock.now)
    after = await store.delivery(None, claimed.id)
    assert before is not None
    assert after is not None
    assert (before.detail, before.attempts[0].detail) == (said, said)
    told = [after.detail, after.attempts[0].detail]
    told += [event.detail for event in await store.events(after.notification_id) if event.detail is not None]
    masked = "550 5.1.1 <a***@example.com>: no such user; call +1555***0001"
    assert told == [masked] * 3


async def test_each_category_is_kept_for_as_long_as_it_says(store: SqlStore, rows: Rows, clock: Clock) -> None:
    ids: dict[str, UUID] = {}
    for category in ("default", "audit", "brief"):
        accepted = rows.acceptance(rows.delivery(status=Status.SKIPPED), category=category)
        await store.accept(accepted)
        ids[category] = accepted.notification.id

    def kept(day: int) -> Kept:
        now = START + day * DAY + 1
        return Kept(before=now - 5 * DAY, by_category={"audit": now - 300 * DAY, "brief": now})

    async def views(**rules: Kept) -> dict[str, NotificationView | None]:
        await store.upkeep(msgspec.structs.replace(rows.rules(), **rules), clock.now)
        return {name: await store.notification(None, id_) for name, id_ in ids.items()}

    for day, gone in ((0, {"brief"}), (5, {"brief", "default"}), (300, set(ids))):
        seen = await views(contents=kept(day))
        assert {name for name, view in seen.items() if view is not None and view.request is None} == gone
    for day, gone in ((0, {"brief"}), (5, {"brief", "default"}), (300, set(ids))):
        seen = await views(notifications=kept(day))
        assert {name for name, view in seen.items() if view is None} == gone


async def test_a_finished_notification_is_deleted_with_all_that_hangs_on_it(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await full_notification(store, rows)
    clock.later(1000)
    assert (await store.upkeep(rows.rules(notifications_before=START), clock.now)).deleted == 0
    assert (await store.upkeep(rows.rules(notifications_before=START + 1000), clock.now)).deleted == 1
    assert set(await rows_by_table(store)) == {"counts"}


async def test_what_is_not_finished_is_never_deleted(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    before = await rows_by_table(store)
    clock.later(1000)
    far = clock.now + DAY
    await store.upkeep(rows.rules(notifications_before=far, contents_before=far), clock.now)
    assert await rows_by_table(store) == before


async def test_captured_messages_go_by_age_and_by_number(store: SqlStore, rows: Rows, clock: Clock) -> None:
    times = []
    for _ in range(6):
        times.append(clock.now)
        await full_notification(store, rows)
        clock.later(1000)
    await store.upkeep(rows.rules(captured_before=times[1]), clock.now)
    assert len(await store.captured(CapturedFilter(), Page(limit=10))) == 5
    await store.upkeep(rows.rules(captured_most=2), clock.now)
    kept = await store.captured(CapturedFilter(), Page(limit=10))
    assert [one.created_at for one in kept] == [times[5], times[4]]


async def test_expired_idempotency_keys_are_deleted(store: SqlStore, rows: Rows, clock: Clock) -> None:
    for n in range(3):
        await store.accept(rows.keyed(rows.id()))
        clock.later(n)
    await store.upkeep(rows.rules(), clock.later(DAY - 3))
    assert (await rows_by_table(store))["idempotency"] == 1


async def test_depths_tell_what_waits_and_what_is_overdue(store: SqlStore, rows: Rows, clock: Clock) -> None:
    assert await store.depths(clock.now) == []
    other = "sms:bulk"
    await store.accept(
        rows.acceptance(
            rows.delivery(due_at=clock.now - 50),
            rows.delivery(),
            rows.delivery(due_at=clock.now + 50),
            rows.delivery(lane=other, due_at=clock.now + 50),
            rows.delivery(lane="push:normal"),
        )
    )
    await store.claim({"push:normal": 1}, rows.lease(), clock.now)
    depths = {depth.lane: (depth.waiting, depth.due, depth.oldest_due_at) for depth in await store.depths(clock.now)}
    assert depths == {LANE: (3, 2, clock.now - 50), other: (1, 0, None)}
    assert await store.waiting() == 5


async def test_hourly_counts_tell_what_entered_each_status(store: SqlStore, rows: Rows, clock: Clock) -> None:
    hour = START - START % 3_600_000
    await store.accept_many([rows.acceptance() for _ in range(3)])
    await store.accept(rows.acceptance(rows.delivery(status=Status.SKIPPED, reason=Why.OPTED_OUT), project="p"))
    claims = await rows.claim(store)
    clock.now = hour + 3_600_000
    for claimed in claims:
        await store.settle(rows.settlement(claimed, Status.FAILED, reason=Why.GAVE_UP, provider="smtp"))
    found = await store.stats(None, hour, hour + 2 * 3_600_000)
    assert [(one.hour, one.project, one.provider, one.status, one.reason, one.count) for one in found] == [
        (hour, "default", None, "queued", None, 3),
        (hour, "p", None, "skipped", "opted_out", 1),
        (hour + 3_600_000, "default", "smtp", "failed", "gave_up", 3),
    ]
    assert {one.channel for one in found} == {"email"}
    assert [one.count for one in await store.stats("p", START, clock.now)] == [1]
    assert await store.stats("p", clock.now, clock.now + 1) == []
