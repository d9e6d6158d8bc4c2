"""Calls that carry several messages: who joins, who hears what, and what never goes along."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from channels.contract import Accepted, Content, Limits, Message, Outcome, Reason, Rejected, Retry, Unknown
from gateway.middleware.breaker import State
from gateway.model.states import Status, Why
from gateway.observe.logging import get_logger
from gateway.router.batches import MOST, Batches
from gateway.router.deliver import Abandoned
from gateway.storage.contract import StoreUnavailable
from tests.router.house import Scripted, dispatching, house, soon


def message(number: int) -> Message:
    return Message(
        id=f"dlv_{number}", kind="email", to="a@example.com", content=Content(), idempotency_key=f"k{number}"
    )


class Together(Scripted):
    """Answers calls by script: a list is one call's outcomes, an outcome is everybody's."""

    def __init__(self, *script: Outcome | Sequence[Outcome] | Exception, batch: int = 50, concurrency: int = 1) -> None:
        super().__init__(concurrency=concurrency)
        self.limits = Limits(concurrency=concurrency, batch=batch)
        self.answers = script or (Accepted("ok"),)
        self.calls: list[list[str]] = []

    async def send(self, message: Message) -> Outcome:
        return (await self.send_many([message]))[0]

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        answer = self.answers[min(len(self.calls), len(self.answers) - 1)]
        self.calls.append([one.id for one in messages])
        self.seen += messages
        self.now_in += 1
        self.most_in = max(self.most_in, self.now_in)
        try:
            await self.open.wait()
        finally:
            self.now_in -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Sequence) else [answer] * len(messages)


def batches(adapter: Together, **more) -> Batches:
    known = {"provider": "p1", "most": adapter.limits.batch, "parallel": adapter.limits.concurrency}
    return Batches(adapter, **{**known, "clock": lambda: 7, "log": get_logger("test"), **more})


async def test_those_of_one_moment_share_a_call_and_each_hears_its_own_outcome():
    said = [Accepted("a"), Rejected(Reason.ADDRESS_DEAD), Accepted("c")]
    adapter = Together(said)
    gathering = batches(adapter)
    found = await asyncio.gather(*[gathering.join(lambda n=n: message(n)) for n in range(3)])
    assert [one.outcome for one in found] == said
    assert [one.echo for one in found] == [False, False, True]
    assert adapter.calls == [["dlv_0", "dlv_1", "dlv_2"]]


async def test_who_comes_while_a_call_is_under_way_joins_the_next():
    adapter = Together()
    gathering = batches(adapter)
    adapter.open.clear()
    first = asyncio.ensure_future(gathering.join(lambda: message(0)))
    await soon(lambda: adapter.now_in == 1)
    others = [asyncio.ensure_future(gathering.join(lambda n=n: message(n))) for n in range(1, 5)]
    await asyncio.sleep(0)
    assert adapter.calls == [["dlv_0"]]
    adapter.open.set()
    await asyncio.gather(first, *others)
    assert adapter.calls == [["dlv_0"], ["dlv_1", "dlv_2", "dlv_3", "dlv_4"]]
    assert adapter.most_in == 1


async def test_who_comes_in_the_moment_a_call_ends_is_not_forgotten():
    adapter = Together()
    gathering = batches(adapter)
    async with asyncio.timeout(5):
        for number in range(3):
            await gathering.join(lambda n=number: message(n))
    assert adapter.calls == [["dlv_0"], ["dlv_1"], ["dlv_2"]]


async def test_closing_lets_nobody_wait_for_ever():
    adapter = Together()
    gathering = batches(adapter)
    adapter.open.clear()
    first = asyncio.ensure_future(gathering.join(lambda: message(0)))
    await soon(lambda: adapter.now_in == 1)
    second = asyncio.ensure_future(gathering.join(lambda: message(1)))
    await asyncio.sleep(0)
    await gathering.aclose()
    async with asyncio.timeout(5):
        found = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 2


async def test_a_call_carries_no_more_than_the_provider_takes_and_we_hold():
    adapter = Together(batch=3)
    await asyncio.gather(*[batches(adapter).join(lambda: message(0))])
    gathering = batches(adapter)
    await asyncio.gather(*[gathering.join(lambda n=n: message(n)) for n in range(7)])
    assert [len(call) for call in adapter.calls] == [1, 3, 3, 1]
    assert batches(Together(batch=5000)).most == MOST


@pytest.mark.parametrize("fault", [RuntimeError("bug"), [Accepted("only one")]])
async def test_an_adapter_that_fails_may_have_sent_all_of_them(fault):
    gathering = batches(Together(fault))
    found = await asyncio.gather(*[gathering.join(lambda n=n: message(n)) for n in range(3)])
    assert {type(one.outcome) for one in found} == {Unknown}
    assert all("the adapter failed" in one.outcome.detail for one in found)


async def test_who_is_not_ready_stays_behind_and_what_it_raises_is_its_own():
    adapter = Together()
    gathering = batches(adapter)

    def gone() -> Message:
        raise Abandoned("too late")

    found = await asyncio.gather(
        gathering.join(lambda: message(0)),
        gathering.join(lambda: None),
        gathering.join(gone),
        gathering.join(lambda: message(3)),
        return_exceptions=True,
    )
    assert adapter.calls == [["dlv_0", "dlv_3"]]
    assert found[1] is None
    assert isinstance(found[2], Abandoned)


async def test_cancelled_before_its_call_it_was_never_asked_and_later_the_others_go_on():
    adapter = Together()
    gathering = batches(adapter)
    adapter.open.clear()
    asked: list[int] = []

    def ready(number: int) -> Message:
        asked.append(number)
        return message(number)

    under_way = [asyncio.ensure_future(gathering.join(lambda n=n: ready(n))) for n in range(2)]
    await soon(lambda: adapter.now_in == 1)
    waiting = [asyncio.ensure_future(gathering.join(lambda n=n: ready(n))) for n in range(2, 4)]
    await asyncio.sleep(0)
    under_way[0].cancel()
    waiting[0].cancel()
    adapter.open.set()
    assert (await under_way[1]).outcome == Accepted("ok")
    assert (await waiting[1]).outcome == Accepted("ok")
    assert asked == [0, 1, 3]


async def test_a_turn_is_waited_for_once_a_call_and_who_comes_meanwhile_goes_along():
    adapter = Together(concurrency=4)
    turns = 0
    may = asyncio.Event()

    async def turn() -> None:
        nonlocal turns
        turns += 1
        await may.wait()

    gathering = batches(adapter, turn=turn)
    waiting = [asyncio.ensure_future(gathering.join(lambda n=n: message(n))) for n in range(5)]
    await soon(lambda: turns == 1)
    waiting += [asyncio.ensure_future(gathering.join(lambda n=n: message(n))) for n in range(5, 8)]
    await asyncio.sleep(0)
    may.set()
    await asyncio.gather(*waiting)
    assert (turns, [len(call) for call in adapter.calls]) == (1, [8])


async def test_a_turn_that_does_not_come_is_everybodys_and_nothing_was_sent():
    adapter = Together()

    async def turn() -> None:
        raise StoreUnavailable("gone")

    gathering = batches(adapter, turn=turn)
    found = await asyncio.gather(*[gathering.join(lambda n=n: message(n)) for n in range(3)], return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnavailable] * 3
    assert len({id(one) for one in found}) == 3
    assert adapter.calls == []


# In the router.


def people(count: int) -> list[str]:
    return [f"user{number}@example.com" for number in range(count)]


async def test_deliveries_that_reach_the_wire_together_share_a_call_and_are_settled_each(tmp_path):
    adapter = Together([*[Accepted(f"id-{n}") for n in range(5)], Rejected(Reason.ADDRESS_DEAD)])
    async with house(tmp_path, adapter) as place:
        sent = await place.send_many(people(6))
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 6)
        assert len(adapter.calls) == 1
        views = [await place.view(id_) for id_ in adapter.calls[0]]
        assert sorted(adapter.calls[0]) == sorted(sent)
        assert [view.status for view in views] == [Status.SENT] * 5 + [Status.FAILED]
        assert [view.attempts[0].provider_id for view in views[:5]] == [f"id-{n}" for n in range(5)]
        assert await place.store.suppressed("email", views[5].address) is not None


async def test_a_lost_answer_leaves_every_message_of_the_call_unknown(tmp_path):
    async with house(tmp_path, Together(Unknown()), categories={"default": {"on_unknown": "hold"}}) as place:
        sent = await place.send_many(people(4))
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 4)
        assert {(await place.view(id_)).status for id_ in sent} == {Status.UNKNOWN}


async def test_a_call_that_fails_is_one_failure_of_the_provider(tmp_path):
    down = Retry(Reason.PROVIDER_DOWN)
    adapter = Together(down)
    async with house(tmp_path, adapter, channels={"email": {"breaker": {"failures": 2}}}) as place:
        await place.send_many(people(5))
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 5)
        assert place.providers.all()[0].breaker.state is State.CLOSED


async def test_staging_decides_when_the_call_is_built_and_what_it_keeps_never_joins(tmp_path):
    adapter = Together()
    staging = {"environment": "staging", "staging": {"allow": ["*@example.com"]}}
    async with house(tmp_path, adapter, **staging) as place:
        sent = await place.send_many([*people(2), "eve@example.org"])
        async with dispatching(place):
            await soon(lambda: len(place.settled) == 3)
        assert sorted(id_ for call in adapter.calls for id_ in call) == sorted(sent[:2])
        assert (await place.view(sent[2])).status is Status.CAPTURED


async def test_what_waits_for_the_next_call_while_its_provider_is_paused_does_not_go(tmp_path):
    adapter = Together()
    async with house(tmp_path, adapter) as place:
        adapter.open.clear()
        [first] = await place.send_many(people(1))
        async with dispatching(place):
            await soon(lambda: adapter.now_in == 1)
            second = await place.send("late@example.com")
            await soon(lambda: place.dispatcher.in_hand()["email:normal"] == 2)
            place.providers.all()[0].standing.paused_at = place.clock()
            adapter.open.set()
            await soon(lambda: len(place.settled) == 2)
        assert adapter.calls == [[first]]
        found = await place.view(second)
        assert (found.status, found.reason, found.attempts) == (Status.HELD, Why.PAUSED, ())


async def test_a_lane_keeps_enough_in_hand_to_fill_a_call(tmp_path):
    adapter = Together(batch=500)
    async with house(tmp_path, adapter) as place:
        adapter.open.clear()
        await place.send_many(people(250))
        async with dispatching(place):
            await soon(lambda: place.dispatcher.in_hand()["email:normal"] == 2 * MOST)
            adapter.open.set()
            await soon(lambda: len(place.settled) == 250)
        assert max(len(call) for call in adapter.calls) == MOST
        assert sum(adapter.counts().values()) == 250
