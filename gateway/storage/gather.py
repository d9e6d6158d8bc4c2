"""Gathering: whoever comes while a batch is running joins the next one.

Owns the waiting, the size of batches and who gets which answer. Knows no database: `run` is given a list of requests
and answers in the same order. There is no timer: a lone request starts at once, and the longer a batch takes the more
the next one carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from gateway.storage.contract import StoreUnavailable

Request = TypeVar("Request")
Answer = TypeVar("Answer")

MOST: Final = 512
"""Requests in one batch: beyond this a batch only gets slower, not cheaper."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Weight of one batch, so that a few notifications with attachments do not become one huge transaction."""


def _weightless(_: object) -> int:
    return 0


class Gather(Generic[Request, Answer]):
    """Makes batches of what many tasks ask for at once. `before` is waited for before each is made.

    A batch that fails because the store is unavailable fails for all of its requests. Any other failure is somebody's
    fault: the batch is halved until only the culprits fail, each with its own exception. `run` must therefore leave
    nothing behind when it raises.
    """

    def __init__(
        self,
        run: Callable[[list[Request]], Awaitable[list[Answer]]],
        *,
        most: int = MOST,
        parallel: int = 1,
        weight: Callable[[Request], int] | None = None,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._run = run
        self._before = before
        self._most = most
        self._parallel = parallel
        self._weight = weight or _weightless
        self._waiting: deque[tuple[Request, asyncio.Future[Answer]]] = deque()
        self._workers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, request: Request) -> Answer:
        """Wait for the answer to one request. A caller that is cancelled leaves its request in the batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._begin()
        return await future

    async def ask_each(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        """Wait for the answers to several requests, in order, or what made each of them fail."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in requests]
        self._waiting.extend(zip(requests, futures, strict=True))
        self._begin()
        answers: list[Answer | Exception] = []
        for future in futures:
            try:
                answers.append(await future)
            except Exception as fault:  # noqa: BLE001 - an answer like any other
                answers.append(fault)
        return answers

    async def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Wait for the answers to several requests, in order; the first failure is raised once all are settled."""
        answers: list[Answer] = []
        for one in await self.ask_each(requests):
            if isinstance(one, Exception):
                raise one
            answers.append(one)
        return answers

    def _begin(self) -> None:
        if self._workers < self._parallel:
            # The task begins after everything that is ready now has run, so callers of one moment share a batch.
            self._workers += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until everything asked so far is answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        try:
            while self._waiting:
                try:
                    if self._before is not None:
                        await self._before()
                except Exception as fault:  # noqa: BLE001 - it belongs to those who wait
                    _fail(self._next(), fault)
                else:
                    await self._answer(self._next())
        finally:
            # In the same step as the last look at the queue: a request that comes later starts a worker of its own.
            self._workers -= 1

    def _next(self) -> list[tuple[Request, asyncio.Future[Answer]]]:
        batch = [self._waiting.popleft()]
        weight = self._weight(batch[0][0])
        while self._waiting and len(batch) < self._most:
            weight += self._weight(self._waiting[0][0])
            if weight > MOST_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _answer(self, batch: list[tuple[Request, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._run([request for request, _ in batch])
        except StoreUnavailable as gone:
            _fail(batch, gone)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it belongs to whoever caused it
            if len(batch) == 1:
                _fail(batch, fault)
                return
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def _fail(batch: Sequence[tuple[Any, asyncio.Future[Any]]], fault: Exception) -> None:
    for _, future in batch:
        if not future.done():
            # One exception raised in many tasks would share, and grow, one traceback.
            future.set_exception(StoreUnavailable(str(fault)) if isinstance(fault, StoreUnavailable) else fault)
