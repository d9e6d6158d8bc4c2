"""A desk: what many tasks ask for in the same moment is worked on as one batch.

Going through each step with all requests before the next step begins takes a fraction of the time that each request
alone takes, one after the other: the code of a step and what it needs stay at hand. There is no timer; a lone request
waits for one turn of the event loop. Owns the waiting; what is done with a batch is `run`'s affair. Unlike
`gateway.storage.gather` it lets batches overlap, and never tries one again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from gateway.storage.contract import StoreUnavailable

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Desk(Generic[Request, Answer]):
    """Makes batches. `run` answers each request of one, in order, or says what made it fail."""

    def __init__(self, run: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | Exception]]]) -> None:
        self._run = run
        self._waiting: list[tuple[Request, asyncio.Future[Answer]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, request: Request) -> Answer:
        """Wait for the answer to one request. A caller that is cancelled leaves its request on the desk."""
        if self._loop is None or not self._waiting:
            # Which loop runs is asked once a batch: it is a call of the system.
            self._loop = asyncio.get_running_loop()
            # It begins after everything that is ready now has run; and it carries nobody's context.
            task = self._loop.create_task(self._serve(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((request, future))
        return await future

    async def _serve(self) -> None:
        batch, self._waiting = self._waiting, []
        try:
            answers = await self._run([request for request, _ in batch])
        except StoreUnavailable as gone:
            # One exception raised in many tasks would share, and grow, one traceback.
            answers = [StoreUnavailable(str(gone)) for _ in batch]
        except Exception as fault:  # noqa: BLE001 - it belongs to those who wait
            answers = [fault for _ in batch]
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
