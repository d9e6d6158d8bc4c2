"""Topics: who subscribed, and sends to topics that become deliveries slice by slice, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model.states import NotificationStatus, Status, Why
from gateway.storage.contract import (
    Acceptance,
    AddressPut,
    Cancelled,
    Expanding,
    Expansion,
    Slice,
    Stored,
    Subscribed,
    UserPut,
)
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, Clock, Rows

TOPIC = "release-notes"
NAMES = count()
"""Topics that no example before has used."""


async def sent_to(store: SqlStore, rows: Rows, *topics: str, direct: Sequence[Any] = (), **more: Any) -> Acceptance:
    """Accept a send to topics, and to others beside."""
    first = len(direct)
    expansion = Expansion(
        topics=tuple((first + place, topic) for place, topic in enumerate(topics)),
        position=first + len(topics),
        rank=more.pop("rank", 1),
        due_at=more.pop("due_at", rows.clock.now),
    )
    made = msgspec.structs.replace(rows.acceptance(**more), deliveries=tuple(direct), expansion=expansion)
    assert isinstance(await store.accept(made), Stored)
    return made


async def claim(store: SqlStore, rows: Rows, worker: str = "worker-1") -> Expanding | None:
    return await store.claim_expansion(rows.lease(worker, 1000), rows.clock.now)


async def planned(store: SqlStore, rows: Rows, held: Expanding, size: int = 2, **changes: Any) -> Slice:
    """Plan the next slice of a claim, as the router does: each gets one e-mail."""
    found = await store.next_subscribers(held, size)
    first = held.expansion.position
    deliveries = [
        rows.delivery(user_id=user, address=f"{user}@example.com", position=first + place, **changes)
        for place, user in enumerate(found.users)
    ]
    place = held.place if found.more else held.place + 1
    return Slice(
        notification=held.notification,
        token=held.token,
        deliveries=tuple(deliveries),
        place=place,
        last_user=found.last_user if found.more else "",
        position=first + len(deliveries),
        finished=place >= len(held.expansion.topics),
        now=rows.clock.now,
    )


async def expand_all(store: SqlStore, rows: Rows, size: int = 2, **changes: Any) -> int:
    """Plan until nothing is left; answers in how many slices."""
    slices = 0
    while (held := await claim(store, rows)) is not None:
        assert await store.expand(await planned(store, rows, held, size, **changes))
        slices += 1
    return slices


async def reached(store: SqlStore, id_: UUID) -> list[str | None]:
    return [one.user_id for one in await store.deliveries(id_)]


async def standing(store: SqlStore, id_: UUID) -> tuple[NotificationStatus, bool, dict[str, int]]:
    found = await store.notification(None, id_)
    assert found is not None
    return found.status, found.expanding, dict(found.counts)


# Subscriptions.


async def test_stored_users_subscribe_once_and_leave_again(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await rows.know(store, "a", "b", "c")
    assert await store.subscribe(TOPIC, ["b", "a", "b"], 5) == Subscribed(added=frozenset({"a", "b"}))
    assert await store.subscribe(TOPIC, ["b", "c"], 6) == Subscribed(added=frozenset({"c"}))
    assert [(one.user_id, one.created_at) for one in await store.subscribers(TOPIC, 10)] == [
        ("a", 5),
        ("b", 5),
        ("c", 6),
    ]
    assert [one.user_id for one in await store.subscribers(TOPIC, 1, "a")] == ["b"]
    assert (await store.count_subscribers(TOPIC, 10), await store.count_subscribers(TOPIC, 2)) == (3, 2)
    assert await store.count_subscribers("another", 10) == 0
    found = await store.subscriber(TOPIC, "c")
    assert found is not None
    assert (found.topic, found.created_at) == (TOPIC, 6)
    assert await store.unsubscribe(TOPIC, "c") is True
    assert await store.unsubscribe(TOPIC, "c") is False
    assert await store.subscriber(TOPIC, "c") is None


async def test_where_one_is_not_stored_nobody_is_subscribed(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a")
    assert await store.subscribe(TOPIC, ["a", "nobody"], 5) == Subscribed(unknown=frozenset({"nobody"}))
    assert await store.subscribers(TOPIC, 10) == []
    assert await store.subscribe(TOPIC, [], 5) == Subscribed()


async def test_whoever_is_subscribed_while_being_erased_is_not_left_behind(open_store: OpenStore, rows: Rows) -> None:
    one, other = [await open_store() for _ in range(2)]
    for turn in range(20):
        user = f"u{turn}"
        await rows.know(one, user)
        await asyncio.gather(one.subscribe(TOPIC, [user], 5), other.erase_user(user, 6))
    assert await one.subscribers(TOPIC, 100) == []


# Expansions.


async def test_a_send_to_a_topic_is_open_until_everybody_is_planned_and_settled(store: SqlStore, rows: Rows) -> None:
    users = [f"u{n}" for n in range(5)]
    await rows.know(store, *users)
    await store.subscribe(TOPIC, users, 5)
    sent = (await sent_to(store, rows, TOPIC)).notification.id
    assert await standing(store, sent) == (NotificationStatus.PROCESSING, True, {})
    assert await store.expansion_due(rows.clock.now)

    held = await claim(store, rows)
    assert held is not None
    assert (held.notification.id, held.place, held.last_user, held.token) == (sent, 0, "", 1)
    assert await store.expand(await planned(store, rows, held))
    assert await standing(store, sent) == (NotificationStatus.PROCESSING, True, {"queued": 2})
    for claimed in await rows.claim(store):
        await store.settle(rows.settlement(claimed, Status.SENT, final=True))
    assert (await standing(store, sent))[0] is NotificationStatus.PROCESSING, "others are to come"

    assert await expand_all(store, rows) == 2
    assert not await store.expansion_due(rows.clock.now + DAY)
    assert await reached(store, sent) == users
    assert [one.position for one in await store.deliveries(sent)] == [1, 2, 3, 4, 5]
    assert await standing(store, sent) == (NotificationStatus.PROCESSING, False, {"sent": 2, "queued": 3})
    for claimed in await rows.claim(store):
        await store.settle(rows.settlement(claimed, Status.SENT, final=True))
    assert (await standing(store, sent))[0] is NotificationStatus.COMPLETED
    assert [one.type for one in await store.events(sent)].count("notification.completed") == 1


async def test_with_nobody_on_it_or_nothing_to_send_it_is_completed_once_that_is_known(
    store: SqlStore, rows: Rows
) -> None:
    empty = (await sent_to(store, rows, "nobody", "nobody-either")).notification.id
    assert await expand_all(store, rows) == 2
    assert await standing(store, empty) == (NotificationStatus.COMPLETED, False, {})
    assert [one.type for one in await store.events(empty)] == ["notification.completed"]

    await rows.know(store, "a", "b")
    await store.subscribe(TOPIC, ["a", "b"], 5)
    skipped = (await sent_to(store, rows, TOPIC)).notification.id
    assert await expand_all(store, rows, status=Status.SKIPPED, reason=Why.OPTED_OUT, final=True) == 2
    assert await standing(store, skipped) == (NotificationStatus.COMPLETED, False, {"skipped": 2})
    assert [one.type for one in await store.events(skipped)].count("notification.completed") == 1


async def test_what_was_given_directly_may_be_over_before_the_topic_is(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a")
    await store.subscribe(TOPIC, ["a"], 5)
    sent = (await sent_to(store, rows, TOPIC, direct=[rows.delivery()])).notification.id
    await store.settle(rows.settlement(await rows.claim_one(store), Status.SENT, final=True))
    assert (await standing(store, sent))[:2] == (NotificationStatus.PROCESSING, True)
    await expand_all(store, rows)
    await store.settle(rows.settlement(await rows.claim_one(store), Status.SENT, final=True))
    assert await standing(store, sent) == (NotificationStatus.COMPLETED, False, {"sent": 2})


async def test_the_same_person_in_two_topics_or_given_beside_is_found_once(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a", "b", "c", "d")
    await store.subscribe("one", ["a", "b", "c"], 5)
    await store.subscribe("two", ["b", "c", "d"], 5)
    direct = rows.delivery(user_id="c", address="c@example.com")
    sent = (await sent_to(store, rows, "one", "two", direct=[direct])).notification.id
    await expand_all(store, rows)
    assert Counter(await reached(store, sent)) == {"a": 1, "b": 1, "c": 1, "d": 1}


async def test_addresses_that_the_send_goes_to_already_are_told(store: SqlStore, rows: Rows) -> None:
    def at(user: str, address: str) -> UserPut:
        nothing: dict[str, Any] = {"name": None, "locale": None, "timezone": None, "attributes": b"{}"}
        place = AddressPut(channel="email", address=address, key=address.lower())
        return UserPut(id=user, addresses=(place,), now=5, **nothing)

    await store.put_users([at("a", "Office@example.com"), at("b", "office@example.com"), at("c", "c@example.com")])
    direct = [rows.delivery(position=0), rows.delivery(position=1, status=Status.SKIPPED, address=None)]
    mine = rows.delivery(position=5, user_id="a", address="Office@example.com")
    sent = (await sent_to(store, rows, TOPIC, direct=[*direct, mine])).notification.id
    assert await store.addresses_given(sent, 2) == [("email", "ada@example.com")]
    asked = [("email", "office@example.com"), ("email", "c@example.com"), ("sms", "office@example.com")]
    assert await store.addresses_planned(sent, asked) == {("email", "office@example.com")}
    assert await store.addresses_planned(rows.id(), asked) == set()


async def test_a_claim_that_ran_out_is_anothers_and_writes_nothing(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await rows.know(store, "a", "b", "c")
    await store.subscribe(TOPIC, ["a", "b", "c"], 5)
    sent = (await sent_to(store, rows, TOPIC)).notification.id
    slow = await claim(store, rows, "slow")
    assert slow is not None
    late = await planned(store, rows, slow)
    assert await claim(store, rows, "other") is None, "one at a time"
    clock.later(1000)
    held = await claim(store, rows, "other")
    assert held is not None
    assert held.token == 2
    assert await store.expand(late) is False
    assert await store.expand(await planned(store, rows, held)) is True
    assert await store.expand(late) is False, "nor once it is free again"
    assert await reached(store, sent) == ["a", "b"]
    await expand_all(store, rows)
    assert await reached(store, sent) == ["a", "b", "c"]


async def test_what_is_given_back_is_due_at_once(store: SqlStore, rows: Rows) -> None:
    sent = (await sent_to(store, rows, TOPIC)).notification.id
    held = await claim(store, rows)
    assert held is not None
    await store.release_expansion(sent, held.token + 1, rows.clock.now)
    assert await claim(store, rows) is None, "only who holds it gives it back"
    await store.release_expansion(sent, held.token, rows.clock.now)
    assert await claim(store, rows) is not None


async def test_the_most_urgent_come_first_and_the_others_take_turns(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await rows.know(store, "a", "b", "c")
    await store.subscribe(TOPIC, ["a", "b", "c"], 5)
    later = await sent_to(store, rows, TOPIC, due_at=clock.now + DAY, rank=0)
    bulk = [(await sent_to(store, rows, TOPIC, rank=2, due_at=clock.now - back)).notification.id for back in (2, 1)]
    urgent = (await sent_to(store, rows, TOPIC, rank=0)).notification.id
    order: list[UUID] = []
    while (held := await claim(store, rows)) is not None:
        order.append(held.notification.id)
        assert await store.expand(await planned(store, rows, held))
        clock.later(1)
    assert order == [urgent, urgent, *bulk, *bulk]
    assert await reached(store, later.notification.id) == []
    clock.later(DAY)
    assert await expand_all(store, rows) == 2


async def test_cancelling_stops_it_and_whoever_plans_just_then(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a", "b", "c")
    await store.subscribe(TOPIC, ["a", "b", "c"], 5)
    scheduled = (await sent_to(store, rows, TOPIC, due_at=rows.clock.now + DAY)).notification.id
    assert await store.cancel(scheduled, rows.clock.now) == []
    assert await standing(store, scheduled) == (NotificationStatus.CANCELLED, False, {})
    assert await store.cancel(scheduled, rows.clock.now) == []
    assert [one.type for one in await store.events(scheduled)] == ["notification.cancelled"]

    begun = (await sent_to(store, rows, TOPIC)).notification.id
    held = await claim(store, rows)
    assert held is not None
    assert await store.expand(await planned(store, rows, held, size=1))
    held = await claim(store, rows)
    assert held is not None
    part = await planned(store, rows, held, size=1)
    [done] = await store.cancel(begun, rows.clock.now)
    assert done == Cancelled(delivery_id=done.delivery_id, status=Status.CANCELLED, changed=True)
    assert await store.expand(part) is False
    assert await expand_all(store, rows) == 0
    assert await standing(store, begun) == (NotificationStatus.CANCELLED, False, {"cancelled": 1})


async def test_what_is_being_sent_when_it_is_cancelled_completes_it(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a", "b")
    await store.subscribe(TOPIC, ["a", "b"], 5)
    sent = (await sent_to(store, rows, TOPIC)).notification.id
    held = await claim(store, rows)
    assert held is not None
    assert await store.expand(await planned(store, rows, held, size=1))
    claimed = await rows.claim_one(store)
    await store.cancel(sent, rows.clock.now)
    assert (await standing(store, sent))[0] is NotificationStatus.PROCESSING
    await store.settle(rows.settlement(claimed, Status.SENT, final=True))
    assert await standing(store, sent) == (NotificationStatus.COMPLETED, False, {"sent": 1})


async def test_whoever_is_erased_meanwhile_gets_nothing_and_nobody_gets_it_twice(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a", "b", "c", "d")
    await store.subscribe(TOPIC, ["a", "b", "c", "d"], 5)
    sent = (await sent_to(store, rows, TOPIC)).notification.id
    held = await claim(store, rows)
    assert held is not None
    part = await planned(store, rows, held)
    assert await store.erase_user("a", rows.clock.now) is not None
    assert await store.expand(part)
    assert await reached(store, sent) == ["b"]
    # It stands at b, whose id must not stay there.
    assert await store.erase_user("b", rows.clock.now) is not None
    kept = await store.notification(None, sent)
    assert kept is not None
    assert kept.request is not None, "what is still to be sent to others must stay"
    held = await claim(store, rows)
    assert held is not None
    assert held.last_user == ""
    await store.release_expansion(sent, held.token, rows.clock.now)
    await expand_all(store, rows)
    assert Counter(await reached(store, sent)) == {None: 1, "c": 1, "d": 1}


async def test_a_newer_message_replaces_what_is_planned_and_what_is_still_to_be(store: SqlStore, rows: Rows) -> None:
    await rows.know(store, "a", "b", "c", "d")
    await store.subscribe(TOPIC, ["a", "b", "c", "d"], 5)
    older = (await sent_to(store, rows, TOPIC, collapse_key="news", rank=2)).notification.id
    held = await claim(store, rows)
    assert held is not None
    assert await store.expand(await planned(store, rows, held, size=1))
    newer = (await sent_to(store, rows, TOPIC, collapse_key="news")).notification.id
    held = await claim(store, rows)
    assert held is not None
    assert held.notification.id == newer, "the more urgent"
    assert await store.expand(await planned(store, rows, held, size=2))
    # Another for b alone is the newest of all; the topic's second slice comes to c and d.
    rest = rows.acceptance(rows.delivery(user_id="b", address="b@example.com"), collapse_key="news")
    await store.accept(rest)
    await expand_all(store, rows)

    async def found(id_: UUID) -> dict[str | None, tuple[Status, Why | None]]:
        return {one.user_id: (one.status, one.reason) for one in await store.deliveries(id_)}

    gone, waits = (Status.SKIPPED, Why.COLLAPSED), (Status.QUEUED, None)
    assert await found(older) == dict.fromkeys(["a", "b", "c", "d"], gone)
    assert await found(newer) == {"a": waits, "b": gone, "c": waits, "d": waits}
    assert await found(rest.notification.id) == {"b": waits}
    assert (await standing(store, older))[0] is NotificationStatus.COMPLETED
    assert await store.waiting() == 4


async def test_hourly_counts_and_old_rows_know_topics_too(store: SqlStore, rows: Rows, clock: Clock) -> None:
    await rows.know(store, "a", "b", "c")
    await store.subscribe(TOPIC, ["a", "b", "c"], 5)
    sent = (await sent_to(store, rows, TOPIC)).notification.id
    assert await store.upkeep(
        rows.rules(notifications_before=clock.now + DAY, contents_before=clock.now + DAY), clock.now
    )
    assert await standing(store, sent) == (NotificationStatus.PROCESSING, True, {}), "what is open is not old"
    await expand_all(store, rows)
    [row] = await store.stats(None, 0, clock.now + DAY)
    assert (row.status, row.count) == (Status.QUEUED, 3)


# Any interleaving.

USERS = [f"u{n}" for n in range(6)]
WORKERS = st.sampled_from(["w1", "w2", "w3"])
MEMBERS = st.sets(st.tuples(st.integers(0, 1), st.sampled_from(USERS)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), WORKERS),
        st.tuples(st.just("plan"), WORKERS, st.integers(1, 3)),
        st.tuples(st.just("write"), WORKERS),
        st.tuples(st.just("die"), WORKERS),
        st.tuples(st.just("lease ends")),
        st.tuples(st.just("join"), st.integers(0, 1), st.sampled_from(USERS)),
        st.tuples(st.just("leave"), st.integers(0, 1), st.sampled_from(USERS)),
    ),
    max_size=40,
)


class Walk:
    """A send to two topics, several workers who claim, plan, write, are late and die, and people who come and go."""

    def __init__(self, store: SqlStore, rows: Rows, topics: Sequence[str]) -> None:
        self.store = store
        self.rows = rows
        self.topics = topics
        self.held: dict[str, Expanding] = {}
        self.parts: dict[str, Slice] = {}
        self.ever: set[str] = set()
        self.left: set[str] = set()

    async def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("claim", worker):
                held = await claim(self.store, self.rows, worker)
                if held is not None:
                    self.held[worker] = held
            case ("plan", worker, size) if worker in self.held:
                self.parts[worker] = await planned(self.store, self.rows, self.held[worker], size)
            case ("write", worker) if worker in self.parts:
                await self.store.expand(self.parts[worker])
            case ("die", worker):
                self.held.pop(worker, None)
                self.parts.pop(worker, None)
            case ("lease ends",):
                self.rows.clock.later(1001)
            case ("join", int(number), user):
                await self.store.subscribe(self.topics[number], [user], 5)
                self.ever.add(user)
            case ("leave", int(number), user):
                await self.store.unsubscribe(self.topics[number], user)
                self.left.add(user)
            case _:
                pass


@given(MEMBERS, STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_happens_meanwhile_nobody_is_missed_and_nobody_is_there_twice(
    store: SqlStore, rows: Rows, members: set[tuple[int, str]], steps: list[tuple[Any, ...]]
) -> None:
    await rows.know(store, *USERS)
    topics = [f"topic-{next(NAMES)}" for _ in range(2)]
    walk = Walk(store, rows, topics)
    for number, user in sorted(members):
        await walk.do(("join", number, user))
    stayed = set(walk.ever)
    sent = (await sent_to(store, rows, *topics)).notification.id
    for step in steps:
        await walk.do(step)
    rows.clock.later(1001)
    await expand_all(store, rows)
    for part in walk.parts.values():
        assert await store.expand(part) is False, "too late"
    found = Counter(await reached(store, sent))
    assert set(found.values()) <= {1}
    assert stayed - walk.left <= set(found) <= walk.ever
    positions = [one.position for one in await store.deliveries(sent)]
    assert len(set(positions)) == len(positions), "each is a recipient of their own"
    for claimed in await rows.claim(store, 100):
        await store.settle(rows.settlement(claimed, Status.SENT, final=True))
    counts = {"sent": len(found)} if found else {}
    assert await standing(store, sent) == (NotificationStatus.COMPLETED, False, counts)


@pytest.mark.parametrize("workers", [2, 4])
async def test_several_processes_share_the_work(open_store: OpenStore, rows: Rows, workers: int) -> None:
    stores = [await open_store() for _ in range(2)]
    users = [f"u{n:03}" for n in range(120)]
    await rows.know(stores[0], *users)
    await stores[0].subscribe(TOPIC, users, 5)
    sent = [(await sent_to(stores[0], rows, TOPIC)).notification.id for _ in range(2)]

    async def work(number: int) -> int:
        store, done = stores[number % 2], 0
        while await store.expansion_due(rows.clock.now):
            held = await claim(store, rows, f"w{number}")
            if held is None:
                continue
            assert await store.expand(await planned(store, rows, held, size=7))
            done += 1
        return done

    done = await asyncio.gather(*[work(number) for number in range(workers)])
    assert sum(done) == 2 * 18
    for id_ in sent:
        assert await reached(stores[0], id_) == users
