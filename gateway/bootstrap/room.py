"""Whether there is room for more deliveries."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.storage.contract import Store, StoreUnavailable

_FIGURES_S: Final = 1.0


class Room:
    """Whether there is room for more deliveries: the store's count, a second old at most."""

    def __init__(self, store: Store, most: int, log: Any) -> None:
        self._store = store
        self._most = most
        self._log = log
        self._waiting = 0

    def __call__(self) -> bool:
        """Say whether one more may wait."""
        return self._waiting < self._most

    async def watch(self) -> None:
        """Keep counting until cancelled."""
        while True:
            try:
                self._waiting = await self._store.waiting()
            except StoreUnavailable as error:
                self._log.warning("count_failed", error=str(error))
            await asyncio.sleep(_FIGURES_S)
