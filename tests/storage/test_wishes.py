"""Wishes: STOP and START by sender, subscriptions by category; on both databases."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.states import Engagement, Status, Why
from gateway.storage.contract import OptOutRow, Scope, SuppressionRow, Wish
from gateway.storage.contract.wishes import HEARD_MOST, later
from gateway.storage.store import SIMULATOR, SqlStore
from tests.storage.rows import Clock, Rows
from tests.storage.test_status import sent_one, shown

PHONE, OURS, OTHER = "+15550100001", "+15550100009", "+15550100008"


def word(stopped: bool = True, at: int = 1000, **changes: Any) -> Wish:
    values: dict[str, Any] = {
        "channel": "sms",
        "address": PHONE,
        "scope": Scope.SENDER,
        "name": OURS,
        "stopped": stopped,
        "source": "twilio",
        "at": at,
    }
    return Wish(**(values | changes))


async def test_a_stop_concerns_one_sender_until_start(store: SqlStore) -> None:
    asked = [("sms", PHONE, OURS), ("sms", PHONE, OTHER), ("sms", "+15550100002", OURS), ("email", PHONE, OURS)]
    assert await store.hear([word()]) == 1
    assert await store.stopped(asked) == {asked[0]}
    assert await store.suppressed("sms", PHONE) is None
    assert await store.hear([word(stopped=False, at=2000)]) == 1
    assert await store.stopped(asked) == set()
    assert (await store.stopped([]), await store.hear([])) == ((), 0)


async def test_the_same_word_again_changes_nothing(store: SqlStore) -> None:
    stop, start = word(heard=("SM1",)), word(stopped=False, at=2000, heard=("SM2",))
    assert [await store.hear([one]) for one in (stop, stop, start, start)] == [1, 0, 1, 0]
    # Its provider sends no time: a repeat looks new, and only its id tells.
    assert await store.hear([word(at=9000, heard=("SM1",))]) == 0
    assert await store.stopped([("sms", PHONE, OURS)]) == set()


async def test_start_lifts_no_suppression_of_another_kind(store: SqlStore, rows: Rows) -> None:
    row = rows.suppression(PHONE, channel="sms", reason=Why.COMPLAINED)
    await store.suppress(row)
    await store.hear([word(), word(stopped=False, at=2000)])
    assert await store.suppressed("sms", PHONE) == row


async def test_stopped_senders_are_listed_among_the_suppressions_and_taken_off_with_them(
    store: SqlStore, rows: Rows
) -> None:
    whole = rows.suppression(PHONE, channel="sms", created_at=1000)
    await store.suppress(whole)
    await store.hear([word(detail="STOP"), word(name=OTHER), word(address="+15550100002", at=3000)])
    listed: list[SuppressionRow] = []
    after = None
    while page := await store.list_suppressions(channel=None, address=None, limit=1, after=after):
        listed += page
        after = (page[-1].created_at, page[-1].channel, page[-1].address, page[-1].sender or "")
    assert [(row.address, row.sender) for row in listed] == [
        ("+15550100002", OURS),
        (PHONE, OURS),
        (PHONE, OTHER),
        (PHONE, None),
    ]
    assert (listed[1].reason, listed[1].source, listed[1].detail) == (Why.OPTED_OUT, "twilio", "STOP")
    assert len(await store.list_suppressions(channel="sms", address=PHONE, limit=9, after=None)) == 3
    assert await store.list_suppressions(channel="email", address=None, limit=9, after=None) == []
    assert await store.unsuppress("sms", PHONE) is True
    assert await store.unsuppress("sms", PHONE) is False
    assert await store.stopped([("sms", PHONE, OURS), ("sms", PHONE, OTHER)]) == set()
    assert await store.hear([word(name=OTHER)]) == 1  # a new word is heard again


async def test_a_settlement_may_stop_a_sender_whatever_became_of_the_delivery(store: SqlStore, rows: Rows) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    stop = rows.suppression("ada@example.com", sender="news", reason=Why.OPTED_OUT)
    assert await store.settle(rows.sent(claimed, stops=(stop,)))
    assert await store.stopped([("email", "ada@example.com", "news")]) == {("email", "ada@example.com", "news")}
    assert await store.suppressed("email", "ada@example.com") is None


async def test_a_refusal_for_stop_that_is_reported_later_stops_that_sender(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await sent_one(store, rows, "x")
    refused = rows.change("failed", provider_id="x", reason=Why.OPTED_OUT, sender="news")
    assert await store.apply_status([refused], clock.now) == 1
    assert len(await store.stopped([("email", "ada@example.com", "news")])) == 1
    assert await store.suppressed("email", "ada@example.com") is None


async def test_unsubscribing_at_the_provider_is_an_opt_out_of_the_deliverys_category(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    claimed = await sent_one(store, rows, "x")
    place = ("email", "ada@example.com", "orders")
    first = rows.change("unsubscribed", provider_id="x", at=2000)
    assert await store.apply_status([first], clock.now) == 1
    assert await store.opted_out([place, (*place[:2], "marketing")]) == {place}
    assert (await shown(store, claimed)).engagement == (Engagement.UNSUBSCRIBED,)
    assert await store.apply_status([rows.change("resubscribed", provider_id="x", at=3000)], clock.now) == 1
    assert await store.opted_out([place]) == set()
    assert await store.apply_status([first], clock.now) == 0  # an old word that comes again
    assert await store.opted_out([place]) == set()
    assert await store.suppressed("email", "ada@example.com") is None


async def test_resubscribing_at_the_provider_leaves_what_was_said_elsewhere(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await sent_one(store, rows, "x")
    place = ("email", "ada@example.com", "orders")
    by_link = OptOutRow(channel=place[0], address=place[1], category=place[2], source="link", created_at=1)
    await store.opt_out(by_link)
    words = [rows.change(type_, provider_id="x", at=at) for type_, at in (("unsubscribed", 2), ("resubscribed", 3))]
    await store.apply_status(words, clock.now)
    assert await store.opted_out([place]) == {place}


async def test_a_simulated_person_says_nothing_about_a_real_one(store: SqlStore, rows: Rows, clock: Clock) -> None:
    claimed = await sent_one(store, rows, "x")
    await store.apply_status(
        [rows.change("unsubscribed", provider=SIMULATOR, provider_id=None, delivery_id=claimed.id)], clock.now
    )
    assert await store.opted_out([("email", "ada@example.com", "orders")]) == set()


async def test_nothing_real_is_said_of_a_simulated_delivery(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await store.settle(rows.sent(claimed, "x", provider=SIMULATOR))
    bounce = rows.change("bounced", delivery_id=claimed.id, reason=Why.ADDRESS_DEAD)
    assert await store.apply_status([bounce, rows.change("unsubscribed", delivery_id=claimed.id)], clock.now) == 2
    assert await store.suppressed("email", "ada@example.com") is None
    assert await store.opted_out([("email", "ada@example.com", "orders")]) == set()


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("by", ["delivery_id", "provider_id"])
async def test_a_report_about_a_copy_changes_nothing(
    store: SqlStore, rows: Rows, clock: Clock, by: str, early: bool
) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    if not early:
        await store.settle(rows.sent(claimed, "x"))
    found: dict[str, Any] = {"delivery_id": claimed.id, "provider_id": None}
    if by == "provider_id":
        found = {"provider_id": "x"}
    copy = rows.change("bounced", reason=Why.ADDRESS_DEAD, address="boss@example.com", **found)
    assert await store.apply_status([copy], clock.now) == 0
    if early:
        await store.settle(rows.sent(claimed, "x"))
    assert (await shown(store, claimed)).status is Status.SENT
    for address in ("ada@example.com", "boss@example.com"):
        assert await store.suppressed("email", address) is None


async def test_a_copys_early_bounce_does_not_take_the_place_of_the_recipients(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    for address in ("boss@example.com", "ada@example.com"):
        bounce = rows.change("bounced", provider_id=None, delivery_id=claimed.id, address=address)
        assert await store.apply_status([bounce], clock.now) == 0
    await store.settle(rows.sent(claimed, "x"))
    assert (await shown(store, claimed)).status is Status.BOUNCED


async def test_an_address_in_capitals_is_suppressed_as_it_is_looked_up(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(rows.acceptance(rows.delivery(address="Ada@example.com")))
    claimed = await rows.claim_one(store)
    await store.settle(rows.sent(claimed, "x"))
    change = rows.change("bounced", provider_id="x", reason=Why.ADDRESS_DEAD, address="ada@example.com")
    assert await store.apply_status([change], clock.now) == 1
    assert await store.suppressed("email", "ada@example.com") is not None


async def test_a_hard_bounce_suppresses_after_a_servers_delivered_too(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    claimed = await sent_one(store, rows, "x")
    for type_, reason in (("delivered", None), ("bounced", Why.ADDRESS_DEAD)):
        assert await store.apply_status([rows.change(type_, provider_id="x", reason=reason)], clock.now) == 1
    assert (await shown(store, claimed)).status is Status.DELIVERED
    assert await store.suppressed("email", "ada@example.com") is not None


def test_of_two_words_of_one_moment_no_more_counts():
    stop, start = word(), word(stopped=False)
    for first, second in itertools.permutations((stop, start)):
        assert (later(first, second) or first).stopped


def test_no_more_ids_are_remembered_than_a_few():
    wish: Wish | None = None
    for number in range(3 * HEARD_MOST):
        wish = later(wish, word(stopped=number % 2 == 0, at=number, heard=(f"SM{number}",)))
    assert wish is not None
    assert wish.heard == tuple(f"SM{number}" for number in range(2 * HEARD_MOST, 3 * HEARD_MOST))


WORDS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=6)


@given(WORDS, st.randoms())
def test_words_in_any_order_and_repeated_come_to_the_same(said: list[tuple[bool, int]], random: Any):
    words = [word(stopped=stopped, at=at) for stopped, at in said]
    jumbled = [*words, *words]
    random.shuffle(jumbled)
    ends = []
    for order in (words, jumbled):
        wish: Wish | None = None
        for one in order:
            wish = later(wish, one) or wish
        assert wish is not None
        ends.append((wish.stopped, wish.at))
    assert ends[0] == ends[1] == max((stopped_at for stopped_at in said), key=lambda one: (one[1], one[0]))
