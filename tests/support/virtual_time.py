"""An event loop whose time passes only while everybody waits: an hour of timers takes as long as its callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Deadlock(AssertionError):
    """Everybody waits and nothing will ever happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which they were asked for, on one thread, with no input and no output."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self  # what the base class asks for events: there are none
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass until the next timer."""
        if timeout is None:
            raise Deadlock("everybody waits and nothing will ever happen")
        self._now_s += max(0.0, timeout)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run_virtually(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, and every task it left behind to theirs."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(main)
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
