"""The gateway's time: Unix milliseconds, and where they come from.

On SQLite this machine's clock is the database's clock. On PostgreSQL many machines share leases, so the database's
clock counts: it is asked now and then, and carried on by the monotonic clock in between, which no jump of the wall
clock moves.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable


def wall_ms() -> int:
    """Tell this machine's time."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Tell a time that only goes forward; its zero means nothing."""
    return time.monotonic_ns() // 1_000_000


class Clock:
    """Callable: Unix ms. Follows the wall clock until `follow` ties it to a database."""

    def __init__(self, wall: Callable[[], int] = wall_ms, steady: Callable[[], int] = monotonic_ms) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead_ms: int | None = None

    def __call__(self) -> int:
        """Tell the time."""
        return self._wall() if self._ahead_ms is None else self._steady() + self._ahead_ms

    async def follow(self, ask: Callable[[], Awaitable[int]]) -> None:
        """Ask the database for its time, and go on from the middle of the round trip."""
        before = self._steady()
        theirs = await ask()
        after = self._steady()
        self._ahead_ms = theirs - (before + after) // 2
