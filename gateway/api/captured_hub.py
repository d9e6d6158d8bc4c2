"""Wakes whoever waits for a captured message, as soon as this process captures one.

Owns the signal. Refuses to know what was captured: whoever is woken asks the store. What another process captures
wakes nobody here, so a waiter also asks again after a short while by itself.
"""

from __future__ import annotations

import asyncio


class CapturedHub:
    """One per process; used from one event loop.

    Take the `signal` first, then ask the store, then `wait` for that signal: what is captured between the question and
    the waiting still wakes the waiter.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self.closed = False

    def close(self) -> None:
        """Wake everyone for good: the process stops, and must not wait for its waiters. May be called twice."""
        self.closed = True
        self.announce()

    def announce(self) -> None:
        """Wake everyone who waits: something was captured and is on disk. Never blocks."""
        self._next.set()
        self._next = asyncio.Event()

    def signal(self) -> asyncio.Event:
        """Give the event that the next `announce` sets."""
        return self._next

    async def wait(self, signal: asyncio.Event, timeout_s: float) -> None:
        """Return when `signal` is set, at the latest after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await signal.wait()
        except TimeoutError:
            return
