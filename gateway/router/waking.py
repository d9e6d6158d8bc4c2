"""Processes that wake each other: what one accepts and cannot take on itself, another need not wait a poll for.

Owns how often it is told: a notice in PostgreSQL has a price for everybody's commits, so that there is one for
whatever has come due since the last. Refuses to know what is due. Polling stays the floor below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.storage.contract import Store, StoreUnavailable

_EVERY_S: Final = 0.05
"""The pause between two notices of one process."""
_AGAIN_S: Final = 1.0
"""The pause before a lost connection is made anew; polling finds meanwhile what is told."""


class Waker:
    """Tells other processes of lanes in which something is due, and hears of them."""

    def __init__(self, *, store: Store, log: Any, pause: Callable[[float], Any] = asyncio.sleep) -> None:
        self._store = store
        self._log = log
        self._pause = pause
        self._lanes: set[str] = set()
        self._some = asyncio.Event()

    def due(self, lane: str) -> None:
        """Note that something is due in a lane, which this process does not take on now."""
        self._lanes.add(lane)
        self._some.set()

    async def tell(self) -> None:
        """Tell until cancelled: the first at once, what follows gathered."""
        while True:
            await self._some.wait()
            self._some.clear()
            lanes, self._lanes = self._lanes, set()
            try:
                await self._store.wake(lanes)
            except StoreUnavailable as error:
                self._log.debug("wake_failed", error=str(error))
            await self._pause(_EVERY_S)

    async def hear(self, told: Callable[[str], None]) -> None:
        """Hand on what other processes tell, until cancelled."""
        while True:
            try:
                await self._store.listen(told)
            except StoreUnavailable as error:
                self._log.warning("not_listening", error=str(error))
            else:
                return
            await self._pause(_AGAIN_S)
