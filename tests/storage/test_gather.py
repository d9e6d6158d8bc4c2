from __future__ import annotations

import asyncio

import pytest

from gateway.storage.contract import StoreUnavailable
from gateway.storage.gather import MOST_BYTES, Gather


class Batches:
    """Answers ten times each number, and remembers what came together. The first batch waits for `go`."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.gone = False

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.seen.append(numbers)
        self.begun.set()
        await self.go.wait()
        if self.gone:
            raise StoreUnavailable("gone")
        if any(number < 0 for number in numbers):
            raise ValueError(numbers)
        return [10 * number for number in numbers]


async def test_whoever_comes_while_a_batch_runs_joins_the_next() -> None:
    batches = Batches()
    gather: Gather[int, int] = Gather(batches)
    first = asyncio.create_task(gather.ask(1))
    await batches.begun.wait()
    rest = [asyncio.create_task(gather.ask(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    batches.go.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert batches.seen == [[1], [2, 3, 4]]


async def test_callers_of_one_moment_share_the_first_batch() -> None:
    batches = Batches()
    batches.go.set()
    gather: Gather[int, int] = Gather(batches)
    await asyncio.gather(*[gather.ask(number) for number in range(5)])
    assert batches.seen == [[0, 1, 2, 3, 4]]


async def test_only_the_culprits_fail() -> None:
    batches = Batches()
    batches.go.set()
    gather: Gather[int, int] = Gather(batches)
    results = await asyncio.gather(*[gather.ask(n) for n in (1, 2, -3, 4, 5, -6, 7)], return_exceptions=True)
    assert [result if isinstance(result, int) else str(result) for result in results] == [
        10,
        20,
        "[-3]",
        40,
        50,
        "[-6]",
        70,
    ]


async def test_a_store_that_is_gone_fails_all_and_is_asked_once() -> None:
    batches = Batches()
    batches.gone = True
    batches.go.set()
    gather: Gather[int, int] = Gather(batches)
    results = await asyncio.gather(*[gather.ask(n) for n in range(4)], return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 4
    assert len(batches.seen) == 1
    batches.gone = False
    assert await gather.ask(1) == 10


async def test_batches_are_bounded_in_number_and_in_weight() -> None:
    batches = Batches()
    batches.go.set()
    gather: Gather[int, int] = Gather(batches, most=3, weight=lambda n: MOST_BYTES if n == 9 else 1)
    await asyncio.gather(*[gather.ask(n) for n in (1, 2, 3, 4, 9, 5)])
    assert batches.seen == [[1, 2, 3], [4], [9], [5]]


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    batches = Batches()
    gather: Gather[int, int] = Gather(batches)
    tasks = [asyncio.create_task(gather.ask(n)) for n in (1, 2)]
    await batches.begun.wait()
    tasks[0].cancel()
    batches.go.set()
    assert await tasks[1] == 20
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await gather.drain()
    assert await gather.ask(3) == 30


async def test_a_request_that_comes_as_a_batch_ends_is_not_forgotten() -> None:
    batches = Batches()
    batches.go.set()
    gather: Gather[int, int] = Gather(batches)

    async def chain() -> list[int]:
        return [await gather.ask(n) for n in range(50)]

    expected = [10 * n for n in range(50)]
    async with asyncio.timeout(5):
        assert await asyncio.gather(*[chain() for _ in range(3)]) == [expected] * 3


async def test_draining_waits_for_what_was_asked() -> None:
    batches = Batches()
    gather: Gather[int, int] = Gather(batches)
    task = asyncio.create_task(gather.ask(1))
    await asyncio.sleep(0)
    batches.go.set()
    await gather.drain()
    assert task.done() or await task == 10


async def test_whoever_comes_while_a_batch_waits_to_begin_joins_it() -> None:
    batches = Batches()
    batches.go.set()
    turn = asyncio.Event()

    async def wait() -> None:
        await turn.wait()

    gather: Gather[int, int] = Gather(batches, before=wait)
    first = asyncio.create_task(gather.ask(1))
    await asyncio.sleep(0)
    second = asyncio.create_task(gather.ask(2))
    await asyncio.sleep(0)
    assert batches.seen == []
    turn.set()
    assert await asyncio.gather(first, second) == [10, 20]
    assert batches.seen == [[1, 2]]


@pytest.mark.parametrize("fault", [StoreUnavailable("locked"), RuntimeError("a bug")])
async def test_a_batch_that_cannot_begin_fails_and_the_next_is_tried(fault: Exception) -> None:
    batches = Batches()
    batches.go.set()
    faults = [fault]

    async def begin() -> None:
        if faults:
            raise faults.pop()

    gather: Gather[int, int] = Gather(batches, before=begin)
    told = await asyncio.gather(gather.ask(1), gather.ask(2), return_exceptions=True)
    assert [(type(one), str(one)) for one in told] == [(type(fault), str(fault))] * 2
    assert await gather.ask(3) == 30
    assert batches.seen == [[3]]


async def test_each_can_have_its_own_fate() -> None:
    batches = Batches()
    batches.go.set()
    gather: Gather[int, int] = Gather(batches)
    good, bad, other = await gather.ask_each([1, -2, 3])
    assert (good, other) == (10, 30)
    assert isinstance(bad, ValueError)
