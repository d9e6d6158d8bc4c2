"""A provider's door: so many at once, the most urgent first.

Bulk may fill a provider's connections, but it never stands before what is critical: whoever waits is let in by
priority, and by arrival within a priority.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Self

_PRIORITIES: Final = ("critical", "normal", "bulk")


class Gate:
    """A counting semaphore with priorities. One event loop; cancellation of a waiter loses no place."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {name: deque() for name in _PRIORITIES}

    @property
    def places(self) -> int:
        """Count all places."""
        return self._places

    @property
    def in_use(self) -> int:
        """Count the places that are taken."""
        return self._places - self._free

    def place(self, priority: str) -> _Place:
        """Make the context manager that holds one place: `async with gate.place("normal")`."""
        return _Place(self, priority)

    async def enter(self, priority: str) -> None:
        """Wait for a place."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place was given in the same moment: pass it on
            raise

    def leave(self) -> None:
        """Give a place back: to the most urgent who waits, else to nobody."""
        for name in _PRIORITIES:
            line = self._waiting[name]
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1


class _Place:
    __slots__ = ("_gate", "_priority")

    def __init__(self, gate: Gate, priority: str) -> None:
        self._gate = gate
        self._priority = priority

    async def __aenter__(self) -> Self:
        await self._gate.enter(self._priority)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()
