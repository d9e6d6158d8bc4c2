"""Waking other processes, as the store promises it. Hints: whoever misses one finds the work by polling."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol


class WakingStore(Protocol):
    """How processes over one database tell each other that deliveries are due."""

    async def wake(self, lanes: Collection[str]) -> None:
        """Tell all processes over this database that something is due in these lanes. Nothing on SQLite."""
        ...

    async def listen(self, told: Callable[[str], None]) -> None:
        """Call `told` with each lane that any process, this one too, tells of, until cancelled.

        Raises `StoreUnavailable` when the connection it listens on is lost. On SQLite, which has no such thing, it
        returns at once.
        """
        ...
