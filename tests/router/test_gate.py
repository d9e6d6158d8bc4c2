"""The door of a provider: so many at once, the most urgent first, and no place is ever lost."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.router.gate import Gate


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_no_more_than_its_places_are_inside():
    gate, inside, most = Gate(3), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        async with gate.place("normal"):
            inside += 1
            most = max(most, inside)
            await turns(2)
            inside -= 1

    await asyncio.gather(*[visit() for _ in range(20)])
    assert (most, inside) == (3, 0)


async def test_the_most_urgent_goes_first_and_within_a_priority_the_first_to_come():
    gate, order = Gate(1), []
    await gate.enter("bulk")

    async def visit(name: str, priority: str) -> None:
        async with gate.place(priority):
            order.append(name)

    waiting = []
    for name, priority in [("b1", "bulk"), ("n1", "normal"), ("b2", "bulk"), ("c1", "critical"), ("n2", "normal")]:
        waiting.append(asyncio.create_task(visit(name, priority)))
        await turns(1)
    gate.leave()
    await asyncio.gather(*waiting)
    assert order == ["c1", "n1", "n2", "b1", "b2"]


async def test_who_gives_up_waiting_loses_nobody_a_place():
    gate = Gate(1)
    await gate.enter("normal")
    impatient = asyncio.create_task(gate.enter("critical"))
    patient = asyncio.create_task(gate.enter("bulk"))
    await turns()
    impatient.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await impatient
    gate.leave()
    await asyncio.wait_for(patient, 1)


async def test_who_is_cancelled_in_the_moment_of_being_let_in_passes_the_place_on():
    gate = Gate(1)
    await gate.enter("normal")
    unlucky = asyncio.create_task(gate.enter("normal"))
    next_one = asyncio.create_task(gate.enter("normal"))
    await turns()
    gate.leave()  # gives the place to `unlucky`, who has not run since
    unlucky.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await unlucky
    await asyncio.wait_for(next_one, 1)
    gate.leave()
    await asyncio.wait_for(gate.enter("normal"), 1)


@given(
    st.lists(st.tuples(st.sampled_from(["critical", "normal", "bulk"]), st.booleans()), max_size=25), st.integers(1, 4)
)
def test_after_any_coming_going_and_giving_up_all_places_are_free_again(visitors, places):
    async def scenario() -> None:
        gate = Gate(places)
        inside = 0

        async def visit(priority: str) -> None:
            nonlocal inside
            async with gate.place(priority):
                inside += 1
                try:
                    assert inside <= places
                    await turns(1)
                finally:
                    inside -= 1

        tasks = []
        for priority, gives_up in visitors:
            task = asyncio.create_task(visit(priority))
            tasks.append(task)
            await asyncio.sleep(0)
            if gives_up and inside and len(tasks) > places:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)
        for _ in range(places):
            await asyncio.wait_for(gate.enter("bulk"), 1)

    asyncio.run(scenario())
