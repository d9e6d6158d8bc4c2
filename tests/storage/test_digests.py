"""Digests in the store, on both databases: whoever comes first carries all, and nobody is sent twice or forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import ids
from gateway.model.states import Status, Why
from gateway.storage.contract import Acceptance, Claimed, Gathered, Gathering, Joining
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, LANE, Clock, Rows

WINDOW = 600_000
CARRIED = (Status.SKIPPED, Why.DIGEST)


def joining(rows: Rows, name: str = "ada") -> dict[str, Any]:
    due_at = rows.clock.now + WINDOW
    return {
        "status": Status.HELD,
        "reason": Why.DIGEST,
        "due_at": due_at,
        "join": Joining(name=name, due_at=due_at),
    }


async def event(store: SqlStore, rows: Rows, name: str = "ada", **more: Any) -> Acceptance:
    made = rows.acceptance(rows.delivery(**joining(rows, name)), **more)
    await store.accept(made)
    return made


def of(made: Acceptance) -> UUID:
    return made.deliveries[0].id


async def fate(store: SqlStore, id_: UUID) -> tuple[Status, Why | None]:
    found = await store.delivery(None, id_)
    assert found is not None
    return found.status, found.reason


async def gather(store: SqlStore, claimed: Claimed, most: int = 100) -> Gathered | None:
    assert claimed.digest_id is not None
    asked = Gathering(digest_id=claimed.digest_id, delivery_id=claimed.id, token=claimed.token, most=most)
    return await store.gather(asked)


def settlement(rows: Rows, claimed: Claimed, status: Status = Status.SENT, **more: Any) -> Any:
    final = status not in {Status.HELD, Status.QUEUED}
    return rows.settlement(claimed, status, final=final, digest_id=claimed.digest_id, **more)


async def test_the_first_opens_it_and_says_when(store: SqlStore, rows: Rows):
    first = await event(store, rows)
    opened = rows.clock.now
    rows.clock.later(1000)
    second, other = await event(store, rows), await event(store, rows, "bob")
    due = [(await store.delivery(None, of(one))).due_at for one in (first, second, other)]  # type: ignore[union-attr] # all are there
    assert due == [opened + WINDOW, opened + WINDOW, opened + 1000 + WINDOW]
    assert [await store.digest_due(name) for name in ("ada", "bob", "eve")] == [opened + WINDOW, due[2], None]


async def test_one_carries_the_others_and_they_end_with_it(store: SqlStore, rows: Rows):
    made = [await event(store, rows, reference=f"r-{number}") for number in range(4)]
    rows.clock.later(WINDOW)
    claims = await rows.claim(store)
    assert [claim.id for claim in claims] == [of(one) for one in made]
    found = [await gather(store, claim) for claim in reversed(claims)]
    carrier = claims[-1]
    assert found[1:] == [None, None, None]
    assert found[0] is not None
    assert (found[0].count, [item.reference for item in found[0].items]) == (4, ["r-0", "r-1", "r-2", "r-3"])
    assert await rows.claim(store) == []
    assert [await store.settle(settlement(rows, claim)) for claim in claims] == [False, False, False, True]
    assert [await fate(store, of(one)) for one in made] == [CARRIED] * 3 + [(Status.SENT, None)]
    view = await store.delivery(None, of(made[0]))
    assert view is not None
    assert view.detail == f"in the digest of {ids.show(ids.DELIVERY, carrier.id)}"
    assert [one.type for one in await store.events(made[0].notification.id)][-2:] == [
        "delivery.skipped", "notification.completed",
    ]  # fmt: skip
    assert await store.waiting() == 0
    counted = Counter({(one.status, one.reason): one.count for one in await store.stats(None, 0, rows.clock.now + DAY)})
    assert counted["skipped", "digest"] == 3


async def test_only_the_newest_are_shown_and_all_are_counted(store: SqlStore, rows: Rows):
    made = [await event(store, rows, reference=f"r-{number}") for number in range(5)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    found = await gather(store, claim, most=2)
    assert found is not None
    assert (found.count, [item.reference for item in found.items]) == (5, ["r-3", "r-4"])
    assert await store.settle(settlement(rows, claim))
    assert Counter([await fate(store, of(one)) for one in made])[CARRIED] == 4


async def test_what_waits_for_a_retry_of_the_carrier_can_be_called_back_and_what_is_sent_cannot(
    store: SqlStore, rows: Rows
):
    made = [await event(store, rows) for _ in range(3)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    assert [one.changed for one in await store.cancel(made[1].notification.id, rows.clock.now)] == [False]
    later = rows.clock.now + 5000
    assert await store.settle(settlement(rows, claim, Status.HELD, reason=Why.RETRY, due_at=later))
    assert [one.changed for one in await store.cancel(made[1].notification.id, rows.clock.now)] == [True]
    rows.clock.later(5000)
    [again] = await rows.claim(store)
    found = await gather(store, again)
    assert again.id == claim.id
    assert found is not None
    assert [item.delivery_id for item in found.items] == [of(made[0]), of(made[2])]


async def test_what_may_have_gone_out_stays_with_the_message_that_it_was_in(store: SqlStore, rows: Rows):
    made = [await event(store, rows) for _ in range(3)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    later = rows.clock.now + 5000
    unsure = settlement(rows, claim, Status.HELD, reason=Why.RETRY, due_at=later, unsure=True)
    assert await store.settle(unsure)
    assert [one.changed for one in await store.cancel(made[1].notification.id, rows.clock.now)] == [False]
    rows.clock.later(5000)
    [again] = await rows.claim(store)
    assert await store.settle(settlement(rows, again, Status.UNKNOWN, reason=Why.TIMED_OUT))
    assert [await fate(store, of(one)) for one in made] == [(Status.UNKNOWN, Why.TIMED_OUT), CARRIED, CARRIED]


@pytest.mark.parametrize("how", ["cancelled", "expired", "left"])
async def test_where_the_carrier_ends_by_itself_another_carries_on(store: SqlStore, rows: Rows, how: str):
    made = [await event(store, rows) for _ in range(3)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    if how == "expired":
        assert await store.settle(settlement(rows, claim, Status.EXPIRED, reason=Why.EXPIRED))
    else:
        assert await store.settle(settlement(rows, claim, Status.HELD, reason=Why.RETRY, due_at=rows.clock.now + 5000))
        if how == "cancelled":
            await store.cancel(made[0].notification.id, rows.clock.now)
        else:
            rows.clock.later(5000)
            [again] = await rows.claim(store)
            assert await store.settle(settlement(rows, again, Status.SKIPPED, reason=Why.COLLAPSED))
    claims = await rows.claim(store)
    assert {one.id for one in claims} == {of(made[1]), of(made[2])}
    found = [await gather(store, one) for one in claims]
    assert [one is not None for one in found] == [True, False]
    assert await store.settle(settlement(rows, claims[0]))
    assert [await fate(store, of(one)) for one in made[1:]] == [(Status.SENT, None), CARRIED]


async def test_a_refusal_is_everybodys(store: SqlStore, rows: Rows):
    made = [await event(store, rows) for _ in range(3)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    assert await store.settle(settlement(rows, claim, Status.FAILED, reason=Why.ADDRESS_DEAD, detail="550"))
    assert [await fate(store, of(one)) for one in made] == [(Status.FAILED, Why.ADDRESS_DEAD)] * 3


async def test_what_comes_after_the_digest_was_sent_opens_another(store: SqlStore, rows: Rows):
    await event(store, rows)
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store)
    await gather(store, claim)
    during = await event(store, rows)
    assert await store.settle(settlement(rows, claim))
    assert await store.digest_due("ada") == rows.clock.now + WINDOW
    rows.clock.later(WINDOW)
    [second] = await rows.claim(store)
    found = await gather(store, second)
    assert found is not None
    assert (second.id, found.count) == (of(during), 1)


async def test_what_comes_between_two_attempts_is_not_taken_along(store: SqlStore, rows: Rows):
    await event(store, rows)
    await event(store, rows)
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    later = rows.clock.now + 5000
    assert await store.settle(settlement(rows, claim, Status.HELD, reason=Why.RETRY, due_at=later))
    await event(store, rows)
    rows.clock.later(5000)
    [again] = await rows.claim(store)
    found = await gather(store, again)
    assert found is not None
    assert found.count == 2


async def test_a_digest_that_everybody_left_does_not_hurry_the_next_one(store: SqlStore, rows: Rows):
    gone = await event(store, rows)
    await store.cancel(gone.notification.id, rows.clock.now)
    rows.clock.later(WINDOW + 1)
    next_one = await event(store, rows)
    view = await store.delivery(None, of(next_one))
    assert view is not None
    assert view.due_at == rows.clock.now + WINDOW


async def test_upkeep_forgets_empty_digests_and_finds_a_carrier_for_orphans(store: SqlStore, rows: Rows):
    gone = await event(store, rows, "bob")
    await store.cancel(gone.notification.id, rows.clock.now)
    made = [await event(store, rows) for _ in range(2)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    # An older version, which knows of no digests, settles the carrier.
    assert await store.settle(rows.settlement(claim, Status.SENT, final=True))
    assert await rows.claim(store) == []
    rows.clock.later(WINDOW + 1)
    await store.upkeep(rows.rules(), rows.clock.now)
    assert await store.digest_due("bob") is None
    [orphan] = await rows.claim(store)
    assert orphan.id == of(made[1])


async def test_a_lost_worker_leaves_its_digest_to_whoever_claims_the_carrier_again(store: SqlStore, rows: Rows):
    made = [await event(store, rows) for _ in range(3)]
    rows.clock.later(WINDOW)
    [claim] = await rows.claim(store, count=1)
    await gather(store, claim)
    rows.clock.later(120_000)
    [again] = await rows.claim(store, worker="another")
    assert (again.id, again.lost) == (claim.id, 1)
    found = await gather(store, again)
    assert found is not None
    assert found.count == 3
    assert not await store.settle(settlement(rows, claim))
    assert await store.settle(settlement(rows, again))
    assert [await fate(store, of(one)) for one in made] == [(Status.SENT, None), CARRIED, CARRIED]


async def test_parallel_claims_of_two_processes_carry_it_once(open_store: OpenStore, rows: Rows):
    stores = [await open_store(), await open_store()]
    made = [await event(stores[0], rows) for _ in range(40)]
    rows.clock.later(WINDOW)
    claims = await asyncio.gather(*(rows.claim(one, 20, f"w{number}") for number, one in enumerate(stores)))
    mine = [(store, claim) for store, own in zip(stores, claims, strict=True) for claim in own]
    found = await asyncio.gather(*(gather(store, claim) for store, claim in mine))
    [(store, carrier, digest)] = [(*pair, one) for pair, one in zip(mine, found, strict=True) if one is not None]
    assert digest.count == 40
    assert await store.settle(settlement(rows, carrier))
    assert Counter([await fate(store, of(one)) for one in made]) == {CARRIED: 39, (Status.SENT, None): 1}


STEPS = st.lists(
    st.sampled_from(["event", "event", "wait", "claim 0", "claim 1", "gather 0", "gather 1", "settle 0", "settle 1"])
    | st.sampled_from(["retry 0", "retry 1", "lose 0", "lose 1", "cancel", "expire", "upkeep"]),
    min_size=4,
    max_size=40,
)


@given(steps=STEPS, pick=st.randoms(use_true_random=False))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_interleaving_sends_an_event_twice_or_forgets_one(
    store: SqlStore, steps: list[str], pick: Any, request: pytest.FixtureRequest
):
    """Two workers in any order of steps; a message is what one of them carried when it settled `sent`."""
    clock = Clock()
    rows = Rows(clock)
    name = f"{pick.random()}"
    world = _World(store, rows, name, pick.choice)
    for step in steps:
        what, _, who = step.partition(" ")
        await getattr(world, what)(int(who or 0))
    await world.come_to_an_end()
    sent = Counter(id_ for message in world.messages for id_ in message)
    assert max(sent.values(), default=0) <= 1
    for made in world.made:
        status, reason = await fate(store, of(made))
        in_message = sent[of(made)] == 1
        assert in_message == ((status, reason) in {(Status.SENT, None), CARRIED}), (status, reason)
        assert in_message or status in {Status.CANCELLED, Status.EXPIRED}


class _World:
    """Two workers over one digest's name. What is lost was lost before the wire: it may be carried again."""

    def __init__(self, store: SqlStore, rows: Rows, name: str, choose: Callable[[list[Any]], Any]) -> None:
        self.store, self.rows, self.name, self.choose = store, rows, name, choose
        self.made: list[Acceptance] = []
        self.messages: list[list[UUID]] = []
        self.hands: list[dict[UUID, Claimed]] = [{}, {}]
        self.carried: list[dict[UUID, list[UUID]]] = [{}, {}]

    async def event(self, _: int) -> None:
        short = self.choose([True, False, False])
        deadline = self.rows.clock.now + (WINDOW + 1000 if short else 100 * DAY)
        row = self.rows.delivery(**joining(self.rows, self.name), deadline_at=deadline)
        made = self.rows.acceptance(row)
        await self.store.accept(made)
        self.made.append(made)

    async def wait(self, _: int) -> None:
        self.rows.clock.later(WINDOW)

    async def claim(self, who: int) -> None:
        for claim in await self.store.claim({LANE: 3}, self.rows.lease(f"w{who}", 10 * DAY), self.rows.clock.now):
            self.hands[who][claim.id] = claim

    async def gather(self, who: int) -> None:
        for claim in list(self.hands[who].values()):
            if claim.id in self.carried[who]:
                continue
            found = await gather(self.store, claim)
            if found is None:
                del self.hands[who][claim.id]
            else:
                self.carried[who][claim.id] = [item.delivery_id for item in found.items] or [claim.id]

    async def settle(self, who: int) -> None:
        for id_, items in list(self.carried[who].items()):
            if await self.store.settle(settlement(self.rows, self.hands[who][id_])):
                self.messages.append(items)
            self._put_down(who, id_)

    async def retry(self, who: int) -> None:
        for id_ in list(self.carried[who]):
            due_at = self.rows.clock.now + 1000
            claim = self.hands[who][id_]
            await self.store.settle(settlement(self.rows, claim, Status.HELD, reason=Why.RETRY, due_at=due_at))
            self._put_down(who, id_)

    async def lose(self, who: int) -> None:
        await self.store.release([(one.id, one.token) for one in self.hands[who].values()], self.rows.clock.now)
        self.hands[who].clear()
        self.carried[who].clear()

    async def cancel(self, _: int) -> None:
        if self.made:
            await self.store.cancel(self.choose(self.made).notification.id, self.rows.clock.now)

    async def expire(self, _: int) -> None:
        await self.store.upkeep(self.rows.rules(), self.rows.clock.now)

    async def upkeep(self, _: int) -> None:
        await self.expire(0)

    async def come_to_an_end(self) -> None:
        for who in (0, 1):
            await self.gather(who)
            await self.settle(who)
        for _ in range(12):
            self.rows.clock.later(WINDOW)
            await self.claim(0)
            await self.gather(0)
            await self.settle(0)

    def _put_down(self, who: int, id_: UUID) -> None:
        del self.carried[who][id_]
        del self.hands[who][id_]
