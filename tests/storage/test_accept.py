from __future__ import annotations

import asyncio

import pytest

from gateway.model.states import Mode, NotificationStatus, OnUnknown, Status, Why
from gateway.storage.contract import AttachmentRow, KeyReused, NotificationFilter, Page, Replayed, Stored
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, LANE, Clock, Rows


async def test_what_was_accepted_can_be_read_back(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await rows.know(store, "42")
    accepted = rows.acceptance(
        rows.delivery(user_id="42", provider="smtp"),
        rows.delivery(position=1, status=Status.SKIPPED, reason=Why.NO_ADDRESS, detail="none", address=None),
        reference="order-1",
        tags=("a", "b"),
        send_at=clock.now + 1000,
        expires_at=clock.now + 5000,
        collapse_key="c",
        mode=Mode.TEAM,
    )
    assert await store.accept(accepted) == Stored()
    view = await store.notification("default", accepted.notification.id)
    assert view is not None
    row = accepted.notification
    assert (view.id, view.project, view.mode, view.category, view.priority) == (
        row.id,
        "default",
        Mode.TEAM,
        "orders",
        "normal",
    )
    assert (view.template_key, view.template_version, view.reference, view.tags) == (
        "order-shipped",
        "sha256:1",
        "order-1",
        ("a", "b"),
    )
    assert (view.request, view.send_at, view.expires_at, view.created_at) == (
        row.request,
        row.send_at,
        row.expires_at,
        clock.now,
    )
    assert view.counts == {"queued": 1, "skipped": 1}
    first, second = await store.deliveries(row.id)
    assert (first.user_id, first.provider, first.lane, first.recipient) == ("42", "smtp", LANE, b'{"name":"Ada"}')
    assert (first.status, first.final, first.on_unknown) == (Status.QUEUED, False, OnUnknown.RESEND)
    assert (second.status, second.final, second.reason, second.detail) == (
        Status.SKIPPED,
        True,
        Why.NO_ADDRESS,
        "none",
    )


async def test_attachments_come_back_in_the_callers_order(store: SqlStore, rows: Rows) -> None:
    files = tuple(
        AttachmentRow(filename=f"{name}.pdf", content_type="application/pdf", content_id=None, content=bytes([0, 255]))
        for name in "zax"
    )
    accepted = rows.acceptance(attachments=files)
    await store.accept(accepted)
    assert await store.attachments(accepted.notification.id) == files
    assert await store.attachments(rows.id()) == ()
    assert (await rows.claim_one(store)).has_attachments


async def test_a_notification_of_which_nothing_waits_is_completed_at_once(store: SqlStore, rows: Rows) -> None:
    accepted = rows.acceptance(rows.delivery(status=Status.SKIPPED, reason=Why.SUPPRESSED))
    await store.accept(accepted)
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert view.status is NotificationStatus.COMPLETED
    events = await store.events(accepted.notification.id)
    assert [event.type for event in events] == ["delivery.skipped", "notification.completed"]


async def test_a_thousand_are_accepted_and_each_gets_its_own_result(store: SqlStore, rows: Rows) -> None:
    key_id = rows.id()
    many = [rows.acceptance() for _ in range(998)] + [rows.keyed(key_id), rows.keyed(key_id)]
    results = await store.accept_many(many)
    assert results[:999] == [Stored()] * 999
    assert results[999] == Replayed(answer=b"{}")
    assert await store.waiting() == 999


async def test_the_same_key_and_body_gives_the_first_answer_again(store: SqlStore, rows: Rows) -> None:
    key_id = rows.id()
    assert await store.accept(rows.keyed(key_id, answer=b"first")) == Stored()
    assert await store.accept(rows.keyed(key_id, answer=b"second")) == Replayed(answer=b"first")
    assert await store.waiting() == 1


async def test_the_same_key_with_another_body_is_refused(store: SqlStore, rows: Rows) -> None:
    key_id = rows.id()
    await store.accept(rows.keyed(key_id))
    assert await store.accept(rows.keyed(key_id, body=b"other")) == KeyReused()
    assert await store.waiting() == 1


async def test_the_same_key_of_another_api_key_is_another_key(store: SqlStore, rows: Rows) -> None:
    assert await store.accept(rows.keyed(rows.id())) == Stored()
    assert await store.accept(rows.keyed(rows.id())) == Stored()


async def test_an_expired_key_may_be_used_again(store: SqlStore, rows: Rows, clock: Clock) -> None:
    key_id = rows.id()
    await store.accept(rows.keyed(key_id, answer=b"first"))
    clock.later(DAY)
    assert await store.recall(key_id, "k", b"body", clock.now) is None
    assert await store.accept(rows.keyed(key_id, body=b"other", answer=b"second")) == Stored()
    assert await store.recall(key_id, "k", b"other", clock.now) == Replayed(answer=b"second")


async def test_recall_tells_used_reused_and_unknown_keys_apart(store: SqlStore, rows: Rows, clock: Clock) -> None:
    key_id = rows.id()
    await store.accept(rows.keyed(key_id, answer=b"first"))
    asked = [(key_id, "k", b"body"), (key_id, "k", b"other"), (key_id, "x", b"body"), (rows.id(), "k", b"body")]
    answers = await asyncio.gather(*[store.recall(*one, clock.now) for one in asked])
    assert answers == [Replayed(answer=b"first"), KeyReused(), None, None]


async def test_fifty_at_once_with_one_key_store_one(open_store: OpenStore, rows: Rows) -> None:
    stores = [await open_store(), await open_store()]
    for round_ in range(5):
        key_id = rows.id()
        asked = [(stores[n % 2], rows.keyed(key_id, answer=str(n).encode())) for n in range(50)]
        results = await asyncio.gather(*[store.accept(one) for store, one in asked])
        winners = [n for n, result in enumerate(results) if isinstance(result, Stored)]
        assert len(winners) == 1
        answer = Replayed(answer=str(winners[0]).encode())
        assert [result for result in results if not isinstance(result, Stored)] == [answer] * 49
        assert await (await open_store()).waiting() == round_ + 1


async def test_keys_that_meet_in_opposite_order_do_not_lock_each_other_out(open_store: OpenStore, rows: Rows) -> None:
    stores = [await open_store(), await open_store()]
    key_id = rows.id()
    names = [str(n) for n in range(40)]
    asked = [(stores[0], name) for name in names] + [(stores[1], name) for name in reversed(names)]
    results = await asyncio.gather(*[store.accept(rows.keyed(key_id, name)) for store, name in asked])
    assert sum(isinstance(result, Stored) for result in results) == len(names)


async def test_one_bad_row_fails_alone(store: SqlStore, rows: Rows) -> None:
    good = [rows.acceptance() for _ in range(30)]
    bad = rows.acceptance(rows.delivery(due_at=2**70))
    results = await asyncio.gather(
        *[store.accept(one) for one in [*good[:15], bad, *good[15:]]], return_exceptions=True
    )
    assert [result for result in results if result != Stored()] == [results[15]]
    assert isinstance(results[15], Exception)
    assert await store.waiting() == 30
    assert await store.notification(None, bad.notification.id) is None


async def test_a_bad_row_does_not_use_its_idempotency_key_up(store: SqlStore, rows: Rows, clock: Clock) -> None:
    keyed = rows.keyed(rows.id())
    assert keyed.idempotency is not None
    with pytest.raises(Exception):  # noqa: B017, PT011 - the driver's own, whatever it is called
        await store.accept(rows.acceptance(rows.delivery(due_at=2**70), idempotency=keyed.idempotency))
    assert await store.accept(keyed) == Stored()


async def test_resent_deliveries_open_their_notification_again(store: SqlStore, rows: Rows, clock: Clock) -> None:
    accepted = rows.acceptance()
    await store.accept(accepted)
    failed = await rows.claim_one(store)
    await store.settle(rows.settlement(failed, Status.FAILED, reason=Why.GAVE_UP))
    again = rows.delivery(retry_of=failed.id)
    await store.resend({accepted.notification.id: [again], rows.id(): [rows.delivery()]}, clock.now)
    view = await store.notification(None, accepted.notification.id)
    assert view is not None
    assert (view.status, view.counts) == (NotificationStatus.PROCESSING, {"failed": 1, "queued": 1})
    first, second = await store.deliveries(accepted.notification.id)
    assert (first.retried, second.retried) == (True, False)
    assert second.retry_of == first.id
    claimed = await rows.claim_one(store)
    assert claimed.id == again.id
    await store.settle(rows.settlement(claimed, Status.DELIVERED))
    listed = (await store.notifications(NotificationFilter(status=NotificationStatus.COMPLETED), Page(limit=5))).rows
    assert [one.id for one in listed] == [accepted.notification.id]
