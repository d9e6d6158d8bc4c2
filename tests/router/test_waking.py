"""How often processes wake each other, and what they do about a store that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from gateway.observe.logging import get_logger
from gateway.router.waking import Waker
from gateway.storage.contract import StoreUnavailable


class _Store:
    """Notes what it is told; `away` times it cannot be reached first."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.told: list[set[str]] = []
        self.listened = 0

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")

    async def wake(self, lanes: Collection[str]) -> None:
        self._reach()
        self.told.append(set(lanes))

    async def listen(self, told: Callable[[str], None]) -> None:
        self.listened += 1
        self._reach()
        told("email.normal")


class _Pauses:
    """Pauses that end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._go_on = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._go_on.acquire()

    def end(self) -> None:
        self._go_on.release()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the condition is anything, and nobody announces it
            await asyncio.sleep(0)


async def test_the_first_is_told_at_once_and_what_follows_gathered() -> None:
    pauses = _Pauses()
    store = _Store()
    stand_in: Any = store
    waker = Waker(store=stand_in, log=get_logger("test"), pause=pauses)
    telling = asyncio.create_task(waker.tell())
    waker.due("email.normal")
    await _until(lambda: len(pauses.asked) == 1)
    assert store.told == [{"email.normal"}]
    for lane in ("sms.bulk", "email.normal", "sms.bulk"):
        waker.due(lane)
    await asyncio.sleep(0)
    assert len(store.told) == 1, "not before the pause is over"
    pauses.end()
    await _until(lambda: len(pauses.asked) == 2)
    assert store.told == [{"email.normal"}, {"sms.bulk", "email.normal"}]
    telling.cancel()


async def test_a_store_that_is_away_ends_neither_telling_nor_hearing() -> None:
    pauses = _Pauses()
    store = _Store(away=2)
    stand_in: Any = store
    waker = Waker(store=stand_in, log=get_logger("test"), pause=pauses)
    telling = asyncio.create_task(waker.tell())
    waker.due("email.normal")
    await _until(lambda: len(pauses.asked) == 1)
    heard: list[str] = []
    hearing = asyncio.create_task(waker.hear(heard.append))
    await _until(lambda: len(pauses.asked) == 2)
    assert (store.told, heard) == ([], [])
    waker.due("sms.bulk")
    pauses.end()
    pauses.end()
    await _until(lambda: bool(store.told) and hearing.done())
    assert (store.told, heard, store.listened) == ([{"sms.bulk"}], ["email.normal"], 2)
    telling.cancel()
