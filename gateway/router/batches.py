"""Deliveries to one provider that go together: one call carries all that are ready at the same moment.

Owns the waiting, the size of calls and who gets which outcome. There is no timer: whoever comes while a call is being
built, or while as many calls are under way as the provider has connections, joins the next one. A message is made ready
(its lease, its staging decision) in the same step in which the call is built, so nothing stands between that decision
and the wire. Refuses to know what a delivery is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from channels.contract import Message, Outcome, Unknown
from gateway.storage.contract import StoreUnavailable

MOST: Final = 100
"""Messages in one call, whatever the provider allows: each is held in memory with its files until the call ends."""

Ready = Callable[[], Message | None]


class SendsMany(Protocol):
    """An adapter whose provider has a batch call."""

    async def send(self, message: Message) -> Outcome:
        """Send one."""
        ...

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send several with one call."""
        ...


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message of a call.

    `echo`: an earlier message of the same call came to the same, so the provider's breaker has heard it.
    """

    outcome: Outcome
    started: int
    took_ms: int
    echo: bool


class _Waiter(NamedTuple):
    ready: Ready
    sent: asyncio.Future[Sent | None]


async def no_turn() -> None:
    """Wait for nothing: calls are not paced."""


class Batches:
    """One provider's calls. One event loop. `turn` waits for the provider's rate, where it counts calls."""

    def __init__(
        self,
        adapter: SendsMany,
        *,
        provider: str,
        most: int,
        parallel: int,
        clock: Callable[[], int],
        log: Any,
        turn: Callable[[], Awaitable[None]] = no_turn,
    ) -> None:
        self._adapter = adapter
        self._provider = provider
        self._most = min(most, MOST)
        self._parallel = parallel
        self._clock = clock
        self._log = log
        self._turn = turn
        self._waiting: deque[_Waiter] = deque()
        self._building = asyncio.Lock()
        self._workers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def most(self) -> int:
        """How many messages one call may carry."""
        return self._most

    async def join(self, ready: Ready) -> Sent | None:
        """Join the next call; answers `None` if `ready` did, when it was asked.

        `ready` is called once, directly before the wire; what it raises is raised here. Cancelled before that, nothing
        was sent; cancelled later, the call goes on for the others.
        """
        waiter = _Waiter(ready, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        if self._workers < self._parallel:
            # The task begins after everything that is ready now has run: who comes in the same moment is in the call.
            self._workers += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiter.sent

    async def aclose(self) -> None:
        """Break off what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in self._waiting:
            waiter.sent.cancel()

    async def _work(self) -> None:
        try:
            await self._call_until_none_waits()
        finally:
            # In the same step as the last look at who waits: whoever comes later starts a task of its own.
            self._workers -= 1

    async def _call_until_none_waits(self) -> None:
        while self._waiting:
            # One call is built at a time: two would each wait for a turn, and the first take all who wait.
            async with self._building:
                if not self._waiting:
                    return
                try:
                    await self._turn()
                except Exception as error:  # noqa: BLE001 - whatever it is, nobody was sent anything, and all must hear
                    self._refuse(error)
                    return
                call = self._take()
            if call:
                await self._call(call)

    def _take(self) -> list[tuple[Message, _Waiter]]:
        """Build a call of those who wait: each decides now whether it goes."""
        call: list[tuple[Message, _Waiter]] = []
        while self._waiting and len(call) < self._most:
            waiter = self._waiting.popleft()
            if waiter.sent.done():
                continue  # cancelled while it waited
            try:
                message = waiter.ready()
            except Exception as error:  # noqa: BLE001 - one delivery's fault is its own
                waiter.sent.set_exception(error)
                continue
            if message is None:
                waiter.sent.set_result(None)
            else:
                call.append((message, waiter))
        return call

    async def _call(self, call: Sequence[tuple[Message, _Waiter]]) -> None:
        messages = [message for message, _ in call]
        started = self._clock()
        outcomes: Sequence[Outcome] = ()
        try:
            if len(messages) == 1:
                outcomes = [await self._adapter.send(messages[0])]
            else:
                outcomes = await self._adapter.send_many(messages)
            if len(outcomes) != len(messages):
                raise ValueError(f"{len(outcomes)} outcomes for {len(messages)} messages")  # noqa: TRY301 - as its other faults
        except Exception as error:  # noqa: BLE001 - an adapter may come from elsewhere: whatever it raises is its bug
            self._log.exception("adapter_raised", provider=self._provider, messages=len(messages))
            outcomes = [Unknown(detail=f"the adapter failed: {type(error).__name__}") for _ in messages]
        finally:
            if not outcomes:  # broken off: whoever still waits hears it as a cancellation of its own
                for _, waiter in call:
                    waiter.sent.cancel()
        took_ms = max(0, self._clock() - started)
        heard: set[tuple[type, object]] = set()
        for (_, waiter), outcome in zip(call, outcomes, strict=True):
            kind = (type(outcome), getattr(outcome, "reason", None))
            if not waiter.sent.done():
                echo = kind in heard
                waiter.sent.set_result(Sent(outcome=outcome, started=started, took_ms=took_ms, echo=echo))
                heard.add(kind)

    def _refuse(self, error: Exception) -> None:
        """Tell all who wait that no turn came. Of the usual exception each gets its own: a shared traceback grows."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.sent.done():
                again = StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error
                waiter.sent.set_exception(again)
