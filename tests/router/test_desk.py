"""What many ask for in one moment is worked on together, and each has its own fate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import msgspec
import pytest

from gateway.model.requests import SendRequest
from gateway.router.desk import Desk
from gateway.storage.contract import StoreUnavailable
from tests.router.house import CALLER, Scripted, dispatching, house, soon

_WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Clerk:
    """Answers ten times each number, an exception for one below zero, and remembers what came together."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.whose: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.fault: Exception | None = None

    async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.seen.append(list(numbers))
        self.whose.append(_WHO.get())
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return [ValueError(number) if number < 0 else 10 * number for number in numbers]


async def test_callers_of_one_moment_share_a_batch_and_the_next_does_not_wait_for_it():
    clerk = Clerk()
    clerk.go.clear()
    desk: Desk[int, int] = Desk(clerk)
    first = [asyncio.create_task(desk.ask(number)) for number in (1, 2, 3)]
    await soon(lambda: len(clerk.seen) == 1)
    second = asyncio.create_task(desk.ask(4))
    await soon(lambda: len(clerk.seen) == 2)
    clerk.go.set()
    assert await asyncio.gather(*first, second) == [10, 20, 30, 40]
    assert clerk.seen == [[1, 2, 3], [4]]


async def test_each_has_its_own_fate():
    clerk = Clerk()
    desk: Desk[int, int] = Desk(clerk)
    good, bad, other = await asyncio.gather(*map(desk.ask, (1, -2, 3)), return_exceptions=True)
    assert (good, other) == (10, 30)
    assert isinstance(bad, ValueError)
    assert clerk.seen == [[1, -2, 3]]


@pytest.mark.parametrize("fault", [StoreUnavailable("gone"), RuntimeError("a bug")])
async def test_what_befalls_all_is_told_to_all_and_tried_no_second_time(fault: Exception):
    clerk = Clerk()
    clerk.fault = fault
    desk: Desk[int, int] = Desk(clerk)
    told = await asyncio.gather(*map(desk.ask, (1, 2)), return_exceptions=True)
    assert [type(one) for one in told] == [type(fault)] * 2
    assert [str(one) for one in told] == [str(fault)] * 2
    assert (told[0] is told[1]) is isinstance(fault, RuntimeError)
    assert clerk.seen == [[1, 2]]


async def test_who_is_cancelled_leaves_the_others_their_answers():
    clerk = Clerk()
    clerk.go.clear()
    desk: Desk[int, int] = Desk(clerk)
    asking = [asyncio.create_task(desk.ask(number)) for number in (1, 2)]
    await soon(lambda: len(clerk.seen) == 1)
    asking[0].cancel()
    clerk.go.set()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    assert await asking[1] == 20


async def test_a_batch_carries_nobodys_context():
    clerk = Clerk()
    desk: Desk[int, int] = Desk(clerk)
    _WHO.set("the first")
    await asyncio.gather(*map(desk.ask, (1, 2)))
    assert clerk.whose == ["nobody"]


def request_to(address: str) -> tuple[SendRequest, bytes]:
    raw = msgspec.json.encode({"to": {"email": address}, "content": {"title": "Hello"}})
    return msgspec.json.decode(raw, type=SendRequest), raw


@pytest.mark.parametrize("step", ["_resolver.resolve", "_drafting._draft", "_drafting._answer"])
async def test_a_bug_that_one_request_meets_spares_those_beside_it(tmp_path, monkeypatch, step):
    one = Scripted()
    async with house(tmp_path, one) as place, dispatching(place):
        part, name = step.split(".")
        owner = getattr(place.accepting, part)
        real = getattr(owner, name)

        def poisoned(*given):
            if "bob@example.com" in repr(given):
                raise RuntimeError("a bug")
            return real(*given)

        monkeypatch.setattr(owner, name, poisoned)
        asked = [request_to(f"{who}@example.com") for who in ("ada", "bob", "eve")]
        told = await asyncio.gather(
            *[place.accepting.send(CALLER, request, idempotency_key=None, body=raw) for request, raw in asked],
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in told] == ["Answered", "RuntimeError", "Answered"]
        await soon(lambda: len(place.settled) == 2)
        assert sum(place.dispatcher.in_hand().values()) == 0


async def test_what_goes_on_from_a_request_is_logged_under_it(tmp_path):
    """Its delivery begins in the same batch as those of others, and still in its own context."""
    seen: dict[str, str] = {}

    class Listening(Scripted):
        async def send(self, message):
            seen[message.to] = _WHO.get()
            return await super().send(message)

    async def ask(who: str) -> None:
        _WHO.set(who)
        request, raw = request_to(f"{who}@example.com")
        await place.accepting.send(CALLER, request, idempotency_key=None, body=raw)

    async with house(tmp_path, Listening()) as place, dispatching(place):
        lanes = place.dispatcher._lanes.values()
        # From when nothing waits what is accepted is born leased, and begins here.
        await soon(lambda: not any(lane.backlog or lane.in_hand or lane.asked for lane in lanes))
        await asyncio.gather(ask("ada"), ask("bob"), ask("eve"))
        await soon(lambda: len(seen) == 3)
    assert seen == {f"{who}@example.com": who for who in ("ada", "bob", "eve")}
