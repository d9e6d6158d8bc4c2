"""The inbox: what is put in, in which order it is seen, what people do with it, and what their doing means."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from gateway.model.inbox import Act
from gateway.model.states import Status, Strategy
from gateway.storage import inbox
from gateway.storage.contract import InboxFilter, InboxItem, InboxMark, InboxMarked, InboxPage, InboxWatch, Turn
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, Clock, Rows

ADA = "ada"


async def put(store: SqlStore, rows: Rows, count: int = 1, user: str = ADA, **changes: Any) -> list[UUID]:
    """Deliver `count` items to an inbox, one after the other; answers their ids."""
    await rows.know(store, user)
    made: list[UUID] = []
    for _ in range(count):
        about = {name: changes[name] for name in ("project", "collapse_key") if name in changes}
        own = {name: value for name, value in changes.items() if name not in about}
        await store.accept(rows.acceptance(rows.delivery(channel="inbox", address=user, user_id=user), **about))
        [claimed] = await rows.claim(store)
        item = rows.item(claimed, **own)
        assert await store.settle(rows.settlement(claimed, Status.DELIVERED, inbox=item))
        made.append(item.id)
        rows.clock.later(10)
    return made


async def page(store: SqlStore, rows: Rows, user: str = ADA, **where: Any) -> InboxPage:
    found = await store.inbox(InboxFilter(**({"user_id": user, "project": None, "limit": 50} | where)), rows.clock.now)
    assert found is not None
    return found


async def mark(store: SqlStore, rows: Rows, act: Act, user: str = ADA, **named: Any) -> InboxMarked | None:
    wanted: dict[str, Any] = {"user_id": user, "project": None, "act": act} | named
    return await store.mark_inbox(InboxMark(**wanted), rows.clock.now)


async def item(store: SqlStore, rows: Rows, id_: UUID) -> InboxItem:
    [found] = [one for one in (await page(store, rows)).items if one.id == id_]
    return found


async def engagement(store: SqlStore, delivery_id: UUID) -> set[str]:
    found = await store.delivery(None, delivery_id)
    assert found is not None
    return set(found.engagement)


async def test_an_inbox_shows_the_newest_first_and_counts_what_is_unread(store: SqlStore, rows: Rows) -> None:
    made = await put(store, rows, 3)
    found = await page(store, rows)
    assert [one.id for one in found.items] == made[::-1]
    assert (found.unread, [one.number for one in found.items]) == (3, [3, 2, 1])
    assert (found.items[0].title, found.items[0].read_at) == ("Hello", None)


async def test_pages_do_not_move_when_something_comes_in(store: SqlStore, rows: Rows) -> None:
    made = await put(store, rows, 4)
    first = await page(store, rows, limit=2)
    await put(store, rows)
    second = await page(store, rows, limit=2, before=first.items[-1].number)
    assert [one.id for one in (*first.items, *second.items)] == made[::-1]


async def test_nobody_has_no_inbox_and_a_person_without_items_an_empty_one(store: SqlStore, rows: Rows) -> None:
    assert await store.inbox(InboxFilter(user_id="nobody", project=None, limit=5), rows.clock.now) is None
    await rows.know(store, "bob")
    assert await page(store, rows, "bob") == InboxPage(items=(), unread=0)


async def test_a_refused_settlement_puts_nothing_in(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, ADA)
    await store.accept(rows.acceptance(rows.delivery(channel="inbox", address=ADA, user_id=ADA)))
    [claimed] = await rows.claim(store)
    late = rows.settlement(claimed, Status.DELIVERED, inbox=rows.item(claimed), token=claimed.token - 1)
    assert not await store.settle(late)
    assert (await page(store, rows)).items == ()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (Act.SEEN, {"seen"}),
        (Act.READ, {"seen", "read"}),
        (Act.ARCHIVE, {"seen"}),
        (Act.ACKNOWLEDGE, {"seen", "read", "acknowledged"}),
    ],
)
async def test_a_mark_is_told_to_the_delivery_once(store: SqlStore, rows: Rows, act: Act, says: set[str]) -> None:
    [id_] = await put(store, rows)
    before = await item(store, rows, id_)
    first = await mark(store, rows, act, id=id_)
    assert first is not None
    assert first.item is not None
    assert await engagement(store, before.delivery_id) == says
    events = len(await store.events(before.notification_id))
    rows.clock.later(1000)
    again = await mark(store, rows, act, id=id_)
    assert again is not None
    assert again.item is not None
    assert (again.item.seen_at, again.item.read_at) == (first.item.seen_at, first.item.read_at)
    assert again.item.archived_at == first.item.archived_at
    assert len(await store.events(before.notification_id)) == events


async def test_unread_puts_an_item_back_and_takes_nothing_back_that_was_told(store: SqlStore, rows: Rows) -> None:
    [id_] = await put(store, rows)
    await mark(store, rows, Act.READ, id=id_)
    found = await mark(store, rows, Act.UNREAD, id=id_)
    assert found is not None
    assert found.item is not None
    assert (found.unread, found.item.read_at) == (1, None)
    assert found.item.seen_at is not None
    assert await engagement(store, found.item.delivery_id) == {"seen", "read"}


async def test_what_is_archived_is_out_of_the_list_and_the_count_and_can_come_back(store: SqlStore, rows: Rows) -> None:
    first, second = await put(store, rows, 2)
    done = await mark(store, rows, Act.ARCHIVE, id=first)
    assert done is not None
    assert done.unread == 1
    assert [one.id for one in (await page(store, rows)).items] == [second]
    assert [one.id for one in (await page(store, rows, archived=True)).items] == [first]
    back = await mark(store, rows, Act.UNARCHIVE, id=first)
    assert back is not None
    assert back.unread == 2


async def test_all_up_to_one_leaves_what_came_after_it_alone(store: SqlStore, rows: Rows) -> None:
    made = await put(store, rows, 3)
    done = await mark(store, rows, Act.READ, up_to=made[1])
    assert done is not None
    assert (done.changed, done.unread) == (2, 1)
    assert [one.id for one in (await page(store, rows, unread=True)).items] == [made[2]]


async def test_more_than_a_slice_is_marked_at_once(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, ADA)
    many = inbox.SLICE + 5
    await store.accept_many(
        [rows.acceptance(rows.delivery(channel="inbox", address=ADA, user_id=ADA)) for _ in range(many)]
    )
    claims = await rows.claim(store, many)
    await asyncio.gather(
        *[store.settle(rows.settlement(one, Status.DELIVERED, inbox=rows.item(one))) for one in claims]
    )
    done = await mark(store, rows, Act.READ)
    assert done is not None
    assert (done.changed, done.unread) == (many, 0)
    again = await mark(store, rows, Act.READ)
    assert again is not None
    assert again.changed == 0


async def test_another_persons_and_another_projects_items_are_not_there(store: SqlStore, rows: Rows) -> None:
    [id_] = await put(store, rows, project="shop")
    await rows.know(store, "bob")
    assert await mark(store, rows, Act.READ, user="bob", id=id_) is None
    assert await mark(store, rows, Act.READ, id=id_, project="other") is None
    assert (await page(store, rows, project="other")) == InboxPage(items=(), unread=0)
    assert (await page(store, rows, project="shop")).unread == 1
    done = await mark(store, rows, Act.READ, project="other")
    assert done is not None
    assert done.changed == 0


async def test_a_newer_item_takes_the_place_of_the_one_with_its_key(store: SqlStore, rows: Rows) -> None:
    [plain] = await put(store, rows)
    await put(store, rows, collapse_key="order-7")
    [newer] = await put(store, rows, collapse_key="order-7")
    [elsewhere] = await put(store, rows, collapse_key="order-7", project="other")
    found = await page(store, rows)
    assert [one.id for one in found.items] == [elsewhere, newer, plain]
    assert found.unread == 3


async def test_what_has_expired_is_gone_and_deleted_later(store: SqlStore, rows: Rows, clock: Clock) -> None:
    [id_] = await put(store, rows, expires_at=clock.now + 1000)
    assert (await page(store, rows)).unread == 1
    clock.later(1000)
    assert await page(store, rows) == InboxPage(items=(), unread=0)
    await store.upkeep(rows.rules(), clock.now)
    assert await mark(store, rows, Act.READ, id=id_) is not None
    clock.later(2 * DAY)
    await store.upkeep(rows.rules(), clock.now)
    assert await mark(store, rows, Act.READ, id=id_) is None


async def test_old_items_are_deleted_whatever_became_of_them(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await put(store, rows, 2)
    clock.later(DAY)
    [kept] = await put(store, rows)
    await store.upkeep(rows.rules(inbox_before=clock.now - DAY // 2), clock.now)
    assert [one.id for one in (await page(store, rows)).items] == [kept]


async def test_who_watches_is_told_every_change_once(store: SqlStore, rows: Rows) -> None:
    made = await put(store, rows, 2)
    versions = await store.inbox_versions([ADA, "nobody"])
    assert versions == {ADA: 2}
    watch = InboxWatch(user_id=ADA, project=None, since=2)
    quiet = await store.inbox_news(watch, rows.clock.now)
    assert (quiet.items, quiet.unread, quiet.whole) == ((), 2, True)
    await mark(store, rows, Act.READ, id=made[0])
    [third] = await put(store, rows)
    told = await store.inbox_news(watch, rows.clock.now)
    assert [one.id for one in told.items] == [made[0], third]
    assert (told.version, told.unread) == (4, 2)
    assert (await store.inbox_news(InboxWatch(user_id=ADA, project=None, since=4), rows.clock.now)).items == ()


async def test_who_was_away_too_long_is_told_to_look_again(store: SqlStore, rows: Rows) -> None:
    await put(store, rows)
    ahead = await store.inbox_news(InboxWatch(user_id=ADA, project=None, since=99), rows.clock.now)
    assert (ahead.whole, ahead.version, ahead.items) == (False, 1, ())
    await put(store, rows, inbox._NEWS_MOST)
    behind = await store.inbox_news(InboxWatch(user_id=ADA, project=None, since=0), rows.clock.now)
    assert (behind.whole, behind.items) == (False, ())


async def test_who_watches_is_told_of_what_was_replaced(store: SqlStore, rows: Rows) -> None:
    [older] = await put(store, rows, collapse_key="k")
    [newer] = await put(store, rows, collapse_key="k")
    told = await store.inbox_news(InboxWatch(user_id=ADA, project=None, since=1), rows.clock.now)
    assert {one.id: one.expires_at is not None for one in told.items} == {older: True, newer: False}
    assert told.version == 3


async def test_two_processes_give_no_two_items_one_number(store: SqlStore, open_store: OpenStore, rows: Rows) -> None:
    await rows.know(store, ADA)
    other = await open_store()
    for _ in range(20):
        await store.accept(rows.acceptance(rows.delivery(channel="inbox", address=ADA, user_id=ADA)))
    claims = await rows.claim(store, 20)
    settlements = [rows.settlement(one, Status.DELIVERED, inbox=rows.item(one)) for one in claims]
    kept = await asyncio.gather(
        *[(store if place % 2 else other).settle(one) for place, one in enumerate(settlements)],
        *[
            (other if place % 2 else store).mark_inbox(
                InboxMark(user_id=ADA, project=None, act=Act.SEEN), rows.clock.now
            )
            for place in range(4)
        ],
    )
    assert all(kept)
    found = await page(store, rows)
    assert sorted(one.number for one in found.items) == sorted({one.number for one in found.items})
    assert len(found.items) == 20
    versions = [one.version for one in found.items]
    assert len(set(versions)) == 20


async def test_reading_calls_off_the_channel_that_waits_behind(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, ADA)
    waits = rows.clock.now + 60_000
    first = rows.delivery(
        channel="inbox", address=ADA, user_id=ADA, turn=Turn(step=0, strategy=Strategy.ESCALATE, budget_ms=DAY)
    )
    second = rows.delivery(
        user_id=ADA,
        status=Status.HELD,
        reason="fallback",
        due_at=waits,
        turn=Turn(step=1, strategy=Strategy.ESCALATE, budget_ms=DAY),
    )
    acceptance = rows.acceptance(first, second)
    await store.accept(acceptance)
    [claimed] = await rows.claim(store)
    # `sent` says nothing of a person, so that the second still waits; what follows is the mark's doing alone.
    put_in = rows.item(claimed)
    assert await store.settle(rows.settlement(claimed, Status.SENT, inbox=put_in))
    [_, waiting] = await store.deliveries(acceptance.notification.id)
    assert waiting.status is Status.HELD
    await mark(store, rows, Act.SEEN, id=put_in.id)
    [_, called_off] = await store.deliveries(acceptance.notification.id)
    assert (called_off.status, called_off.reason) == (Status.SKIPPED, "not_needed")


async def test_erasing_a_person_empties_their_inbox(store: SqlStore, rows: Rows) -> None:
    await put(store, rows, 2)
    await put(store, rows, user="bob")
    erased = await store.erase_user(ADA, rows.clock.now)
    assert erased is not None
    assert (erased.removed["inbox_items"], erased.removed["inboxes"]) == (2, 1)
    assert await store.inbox_versions([ADA, "bob"]) == {"bob": 1}
