"""Who works on what: lanes, slots, leases, stopping. Over a real store."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime

import msgspec
import pytest

from channels.contract import Accepted, Reason, Retry
from gateway.errors import Problem
from gateway.middleware.breaker import State
from gateway.middleware.rate_limit import Pace, provider_key
from gateway.model import ids
from gateway.model.requests import BatchItem, SendRequest
from gateway.model.states import Priority, Status
from gateway.router.dispatch import Callers
from gateway.storage.contract import Lease, Reservation, StoreUnavailable
from tests.router.house import CALLER, Between, Scripted, dispatching, house, soon
from tests.support.clock import MovableClock

HOLD = {"categories": {"default": {"on_unknown": "hold"}}}


def people(count: int) -> list[str]:
    return [f"user{number}@example.com" for number in range(count)]


async def idle(place) -> None:
    """Wait until the dispatcher has seen that nothing waits: from then on what is accepted is born leased."""
    await soon(lambda: not any(lane.backlog or lane.in_hand or lane.asked for lane in place.dispatcher._lanes.values()))


class Claims(Between):
    """Notes what was claimed."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.claimed: list[str] = []
        self.asked: Counter[str] = Counter()

    async def claim(self, *asked):
        self.asked.update(asked[0].keys())
        claims = await self.store.claim(*asked)
        self.claimed += [ids.show(ids.DELIVERY, claim.id) for claim in claims]
        return claims


async def test_what_is_accepted_while_a_slot_is_free_goes_straight_on_and_the_rest_waits_in_the_table(tmp_path):
    one = Scripted(concurrency=2)  # eight slots
    async with house(tmp_path, one, wrap=Claims, poll_ms=60_000) as place, dispatching(place):
        await idle(place)
        one.open.clear()
        sent = await place.send_many(people(10))
        born = [id_ for id_ in sent if (await place.view(id_)).status is Status.SENDING]
        assert born == sent[:8]
        assert place.dispatcher.in_hand()["email:normal"] == 8
        one.open.set()
        await soon(lambda: len(place.settled) == 10)
        assert sorted(place.store.claimed) == sorted(sent[8:])
        assert set(one.counts().values()) == {1}
        assert place.dispatcher.in_hand()["email:normal"] == 0


async def test_lanes_in_which_nothing_waits_are_asked_once_and_again_when_the_poll_is_due(tmp_path):
    one = Scripted(concurrency=2)
    async with house(tmp_path, one, wrap=Claims, poll_ms=60_000) as place:
        await place.send_many(people(100))
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 100)
            assert place.store.asked["email:normal"] > 10
            assert {lane: count for lane, count in place.store.asked.items() if lane != "email:normal"} == {
                lane: 1 for lane in place.dispatcher.in_hand() if lane != "email:normal"
            }
            place.dispatcher._poll_at = 0.0  # while it is busy: no rest has to end for it
            await place.send_many(people(40))
            await soon(lambda: len(place.settled) == 140)
            assert place.store.asked["email:bulk"] == 2


async def test_while_many_callers_wait_few_are_worked_on_beside_those_on_the_wire(tmp_path):
    one = Scripted(concurrency=8)  # 32 slots
    async with house(tmp_path, one, poll_ms=60_000) as place:
        await place.send_many(people(100))
        one.open.clear()
        place.dispatcher._callers.waiting = 50
        async with dispatching(place):

            def in_hand() -> int:
                place.dispatcher.heard("email:normal")  # as with each request that is accepted meanwhile
                return place.dispatcher.in_hand()["email:normal"]

            await soon(lambda: in_hand() == 16)
            for _ in range(20):
                await asyncio.sleep(0)
                assert (in_hand(), one.now_in) == (16, 8), "eight on the wire, and a quarter of the slots"
            place.dispatcher._callers.waiting = 0
            await soon(lambda: in_hand() == 32)
            one.open.set()
            await soon(lambda: len(place.settled) == 100)


async def test_callers_are_many_for_a_moment_longer_than_they_wait(monkeypatch):
    now = 100.0
    monkeypatch.setattr("gateway.router.dispatch.time.monotonic", lambda: now)
    callers = Callers()
    for _ in range(7):
        callers.come()
    assert not callers.are_many
    callers.come()
    assert callers.are_many
    for _ in range(8):
        callers.go()
    assert (callers.waiting, callers.are_many) == (0, True)
    now += 0.06
    assert not callers.are_many


async def test_slots_are_never_exceeded_and_every_delivery_is_sent_once(tmp_path):
    one = Scripted(concurrency=3)  # twelve slots
    async with house(tmp_path, one) as place:
        most = 0

        def watch() -> None:
            nonlocal most
            most = max(most, *place.dispatcher.in_hand().values())

        one.watch = watch
        waiting = await place.send_many(people(60))
        async with dispatching(place):
            accepted = [await place.send(f"late{number}@example.com") for number in range(40)]
            await soon(lambda: len(place.settled) == 100)
        assert one.counts() == dict.fromkeys([*waiting, *accepted], 1)
        assert (most <= 12, one.most_in <= 3) == (True, True), (most, one.most_in)
        assert one.most_in == 3


async def test_a_backlog_of_bulk_does_not_delay_what_is_critical(tmp_path):
    one = Scripted(concurrency=4)
    async with house(tmp_path, one) as place:
        await place.send_many(people(500), priority="bulk")
        one.open.clear()
        async with dispatching(place):
            await soon(lambda: one.now_in == 4)
            urgent = await place.send("urgent@example.com", priority="critical")
            [handle] = place.providers.of("email")
            await soon(lambda: len(handle.gate._waiting["critical"]) == 1)
            one.open.set()
            await soon(lambda: len(one.seen) > 20)
            order = [message.id for message in one.seen]
            assert order.index(urgent) == 4, "right behind what was on the wire already"
            await soon(lambda: len(place.settled) == 501, within_s=20)


async def test_a_gentle_stop_finishes_what_is_in_flight(tmp_path):
    one = Scripted()
    async with house(tmp_path, one) as place:
        running = asyncio.create_task(place.dispatcher.run())
        await idle(place)
        one.open.clear()
        [id_] = await place.send_many(["ada@example.com"])
        await soon(lambda: one.now_in == 1)
        stopping = asyncio.create_task(place.dispatcher.stop(5))
        await soon(lambda: not place.dispatcher.healthy)
        assert not stopping.done()
        late = await place.send("late@example.com")
        one.open.set()
        await asyncio.wait_for(stopping, 2)
        await running
        assert (await place.view(id_)).status is Status.SENT
        assert (await place.view(late)).status is Status.QUEUED, "nothing new is taken on"
        assert sum(place.dispatcher.in_hand().values()) == 0


async def test_a_stop_that_runs_out_of_time_gives_back_what_has_not_reached_the_wire(tmp_path):
    one = Scripted(concurrency=1)  # four slots, one place at the door
    async with house(tmp_path, one) as place:
        running = asyncio.create_task(place.dispatcher.run())
        await idle(place)
        one.open.clear()
        await place.send_many(people(2))
        await soon(lambda: one.now_in == 1 and sum(place.dispatcher.in_hand().values()) == 2)
        await place.dispatcher.stop(0.05)
        await running
        on_wire = one.seen[0].id
        lease = Lease(worker="next", until=place.clock() + 60_000)
        [claim] = await place.store.claim({"email:normal": 5}, lease, place.clock())
        assert ids.show(ids.DELIVERY, claim.id) != on_wire
        assert claim.lost == 0, "it is certain that it was not sent"
        place.clock.advance(61)
        claims = await place.store.claim({"email:normal": 5}, lease, place.clock())
        assert {ids.show(ids.DELIVERY, one.id): one.lost for one in claims}[on_wire] == 1


async def test_what_a_claim_brings_after_the_stop_is_given_back(tmp_path):
    class Slow(Between):
        asked = asyncio.Event()
        go = asyncio.Event()

        async def claim(self, *args):
            claims = await self.store.claim(*args)
            self.asked.set()
            await self.go.wait()
            return claims

    one = Scripted()
    async with house(tmp_path, one, wrap=Slow) as place:
        await place.send_many(people(3))
        running = asyncio.create_task(place.dispatcher.run())
        await asyncio.wait_for(place.store.asked.wait(), 2)
        stopping = asyncio.create_task(place.dispatcher.stop(5))
        await asyncio.sleep(0)
        place.store.go.set()
        await asyncio.wait_for(stopping, 2)
        await running
        lease = Lease(worker="next", until=place.clock() + 60_000)
        claims = await place.store.store.claim({"email:normal": 5}, lease, place.clock())
        assert [claim.lost for claim in claims] == [0, 0, 0]
        assert one.seen == []


async def test_leases_are_kept_while_a_stop_waits(tmp_path):
    one = Scripted()
    clock = MovableClock()
    async with house(tmp_path, one, clock=clock, lease_ms=300) as place:
        running = asyncio.create_task(place.dispatcher.run())
        await idle(place)
        one.open.clear()
        id_ = await place.send()
        await soon(lambda: one.now_in == 1)
        stopping = asyncio.create_task(place.dispatcher.stop(5))
        began = clock()
        while clock() < began + 700:
            lease = Lease(worker="other", until=clock() + 60_000)
            assert await place.store.claim({"email:normal": 5}, lease, clock()) == []
            await asyncio.sleep(0.02)
        one.open.set()
        await stopping
        await running
        assert (await place.view(id_)).status is Status.SENT


async def test_a_worker_that_lost_its_lease_cannot_overwrite_who_came_after_it(tmp_path):
    one = Scripted()
    async with house(tmp_path, one, poll_ms=60_000, **HOLD) as place, dispatching(place):
        await idle(place)
        one.open.clear()
        id_ = await place.send()
        await soon(lambda: one.now_in == 1)
        place.clock.advance(61)
        lease = Lease(worker="other", until=place.clock() + 60_000)
        [claim] = await place.store.claim({"email:normal": 5}, lease, place.clock())
        assert (claim.lost, claim.token) == (1, 2)
        one.open.set()
        await soon(lambda: sum(place.dispatcher.in_hand().values()) == 0)
        assert (await place.view(id_)).status is Status.SENDING, "still the other's"
        assert place.settled == []


async def test_a_process_that_claims_again_what_it_still_has_in_hand_keeps_its_books(tmp_path):
    one = Scripted()
    async with house(tmp_path, one, **HOLD) as place, dispatching(place):
        await idle(place)
        one.open.clear()
        id_ = await place.send()
        await soon(lambda: one.now_in == 1)
        place.clock.advance(61)  # frozen beyond its lease
        await soon(lambda: len(place.settled) == 1)
        assert (await place.view(id_)).status is Status.UNKNOWN
        one.open.set()
        await soon(lambda: sum(place.dispatcher.in_hand().values()) == 0)
        assert place.dispatcher._hands == {}
        assert len(one.seen) == 1
        assert (await place.view(id_)).status is Status.UNKNOWN


async def test_what_thaws_after_its_lease_sends_nothing(tmp_path):
    class Freezing(Between):
        frozen = asyncio.Event()
        thaw = asyncio.Event()

        async def consent(self, *asked):
            self.frozen.set()
            await self.thaw.wait()
            return await self.store.consent(*asked)

    one = Scripted()
    async with house(tmp_path, one, wrap=Freezing, poll_ms=60_000) as place:
        id_ = await place.send()
        async with dispatching(place):
            await asyncio.wait_for(place.store.frozen.wait(), 2)
            place.clock.advance(61)
            lease = Lease(worker="other", until=place.clock() + 60_000)
            [claim] = await place.store.claim({"email:normal": 5}, lease, place.clock())
            place.store.thaw.set()
            await soon(lambda: sum(place.dispatcher.in_hand().values()) == 0)
            assert one.seen == []
            assert await place.store.renew([(claim.id, claim.token)], lease.until) == {claim.id}, "still the other's"
            assert (await place.view(id_)).status is Status.SENDING


async def test_a_store_that_is_away_before_the_wire_loses_nothing_and_nobody_calls_it_lost(tmp_path):
    class Flaky(Between):
        left = 1

        async def consent(self, *asked):
            if self.left:
                self.left -= 1
                raise StoreUnavailable("locked")
            return await self.store.consent(*asked)

    one = Scripted()
    async with house(tmp_path, one, wrap=Flaky, **HOLD) as place:
        id_ = await place.send()
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 1)
        view = await place.view(id_)
        assert (view.status, [a.outcome for a in view.attempts]) == (Status.SENT, ["accepted"])
        assert len(one.seen) == 1


async def test_a_store_that_is_away_after_the_wire_is_asked_until_it_takes_the_answer(tmp_path):
    class Flaky(Between):
        left = 1

        async def settle(self, settlement):
            if self.left:
                self.left -= 1
                raise StoreUnavailable("disk full")
            return await self.store.settle(settlement)

    one = Scripted()
    async with house(tmp_path, one, wrap=Flaky) as place, dispatching(place):
        await idle(place)
        id_ = await place.send()
        await soon(lambda: len(place.settled) == 1)
        assert (await place.view(id_)).status is Status.SENT
        assert len(one.seen) == 1


async def test_a_claim_that_fails_in_any_way_does_not_end_the_work(tmp_path):
    class Broken(Between):
        left = 1

        async def claim(self, *asked):
            if self.left:
                self.left -= 1
                raise ValueError("a row that nobody can read")
            return await self.store.claim(*asked)

    one = Scripted()
    async with house(tmp_path, one, wrap=Broken) as place:
        await place.send()
        async with dispatching(place):
            await soon(lambda: place.store.left == 0)
            place.clock.advance(2)
            await soon(lambda: len(place.settled) == 1)
            assert place.dispatcher.healthy
        assert not place.dispatcher.healthy


async def test_a_poison_message_does_not_stop_the_others(tmp_path):
    poison = RuntimeError("poison")
    one = Scripted(poison, poison, poison, Accepted())
    async with house(tmp_path, one, **HOLD) as place:
        await place.send_many(people(20))
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 20)
        assert Counter(settlement.status for settlement in place.settled) == {Status.UNKNOWN: 3, Status.SENT: 17}
        assert sum(place.dispatcher.in_hand().values()) == 0


class Away(Between):
    """A store that cannot be asked for work while `away`."""

    away = True
    asked = 0

    async def claim(self, *asked):
        self.asked += 1
        if self.away:
            raise StoreUnavailable("locked")
        return await self.store.claim(*asked)


async def test_a_clock_that_is_set_back_does_not_keep_a_lane_closed_that_the_store_failed(tmp_path):
    clock = MovableClock()
    async with house(tmp_path, Scripted(), clock=clock, wrap=Away) as place, dispatching(place):
        await soon(lambda: place.store.asked > 0)
        clock.advance(-3600)
        place.store.away = False
        await place.send()
        await soon(lambda: len(place.settled) == 1)


async def test_a_clock_that_is_set_back_does_not_keep_a_lane_closed_whose_provider_failed(tmp_path):
    clock = MovableClock()
    down = Scripted(*[Retry(Reason.PROVIDER_DOWN)] * 5, Accepted())
    breaker = {"channels": {"email": {"breaker": {"failures": 5, "first_s": 0.5, "most_s": 0.5}}}}
    async with house(tmp_path, down, clock=clock, **breaker) as place, dispatching(place):
        await place.send_many(people(5))
        await soon(lambda: len(place.settled) == 5)
        [handle] = place.providers.of("email")
        assert handle.breaker.state is State.OPEN
        clock.advance(-3600)
        late = await place.send("late@example.com")
        await soon(lambda: late in down.counts())


async def test_what_two_workers_were_lost_with_is_taken_on_one_at_a_time_and_holds_up_nobody_else(tmp_path):
    clock = MovableClock()
    one = Scripted(concurrency=8)
    async with house(tmp_path, one, clock=clock) as place:
        suspects = await place.send_many([f"suspect{number}@example.com" for number in range(5)])
        for _ in range(2):  # two workers take them all, and are never heard of again
            lease = Lease(worker="dead", until=clock() + 1000)
            assert len(await place.store.claim({"email:normal": 5}, lease, clock())) == 5
            clock.advance(2)
        others = await place.send_many(people(20))
        one.open.clear()
        async with dispatching(place):
            await soon(lambda: one.now_in == 8)
            for _ in range(3):  # the others are looked at again and again
                await asyncio.sleep(0.11)
            assert place.dispatcher.in_hand()["email:normal"] == 1 + 20
            one.open.set()
            await soon(lambda: len(place.settled) == 25)
        assert one.counts() == dict.fromkeys([*suspects, *others], 1)
        views = [await place.view(id_) for id_ in suspects]
        assert [[one.outcome for one in view.attempts] for view in views] == [["unknown", "unknown", "accepted"]] * 5


class Full(Between):
    """A store that cannot write."""

    full = True

    async def accept_many(self, acceptances):
        if self.full:
            raise StoreUnavailable("disk full")
        return await self.store.accept_many(acceptances)


async def test_slots_are_given_back_when_nothing_was_stored(tmp_path):
    one = Scripted(concurrency=2)
    async with house(tmp_path, one, wrap=Full) as place, dispatching(place):
        await idle(place)
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await place.send_many(people(3))
            await soon(lambda: sum(place.dispatcher.in_hand().values()) == 0)
        place.store.full = False
        await idle(place)
        await place.send_many(people(3))
        await soon(lambda: len(place.settled) == 3)


async def test_slots_are_given_back_when_a_request_is_a_replay_a_fault_or_cut_off(tmp_path):
    one = Scripted(concurrency=2)
    async with house(tmp_path, one) as place, dispatching(place):
        await idle(place)
        raw = msgspec.json.encode({"to": {"email": "ada@example.com"}, "content": {"title": "Hello"}})
        request = msgspec.json.decode(raw, type=SendRequest)
        asks = [place.accepting.send(CALLER, request, idempotency_key="k", body=raw) for _ in range(8)]
        answers = await asyncio.gather(*asks)
        assert sum(not one.replayed for one in answers) == 1
        with pytest.raises(Problem):
            await place.accepting.send(CALLER, request, idempotency_key="k", body=raw + b" ")
        cut = asyncio.create_task(place.send("bob@example.com"))
        await asyncio.sleep(0)
        cut.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cut
        bad = msgspec.json.encode({"to": {"email": "no"}, "content": {"title": "Hello"}})
        items = [(msgspec.json.decode(one, type=BatchItem), one) for one in (raw, bad, raw)]
        results = await place.accepting.batch(CALLER, items)
        assert [isinstance(one, Problem) for one in results] == [False, True, False]
        await soon(lambda: sum(place.dispatcher.in_hand().values()) == 0 and len(place.settled) >= 3)


async def test_a_due_time_wakes_the_dispatcher_before_its_poll(tmp_path):
    clock = MovableClock()
    one = Scripted()
    async with house(tmp_path, one, clock=clock, poll_ms=60_000) as place, dispatching(place):
        await idle(place)
        soon_at = datetime.fromtimestamp(clock() / 1000 + 0.15, UTC).isoformat()
        await place.send(send_at=soon_at)
        assert one.seen == []
        await soon(lambda: len(place.settled) == 1, within_s=2)


async def test_lanes_are_those_of_the_channel_by_priority(tmp_path):
    async with house(tmp_path, Scripted()) as place:
        channels = ("email", "inbox", "_events")
        assert set(place.dispatcher.in_hand()) == {f"{name}:{one}" for name in channels for one in Priority}


async def test_a_slow_rate_takes_on_no_more_than_can_go_soon_and_a_stop_wastes_little_of_it(tmp_path):
    for_ever = asyncio.Event()

    async def pausing(_: float) -> None:
        await for_ever.wait()

    one = Scripted()
    pace = Pace(1, 60_000)
    async with house(tmp_path, one, pace=pace, pausing=pausing) as place:
        await place.send_many(people(40))
        running = asyncio.create_task(place.dispatcher.run())
        await soon(lambda: len(place.pauses) == 1)
        await place.send_many(["late@example.com", "later@example.com"])
        assert place.dispatcher.in_hand()["email:normal"] == 1
        await place.dispatcher.stop(0.05)
        await running
        ask = Reservation(key=provider_key("p1"), count=1, window_ms=60_000, now=place.clock())
        assert await place.store.peek(ask) <= place.clock() + 2 * 60_000
        assert len(one.seen) == 1
