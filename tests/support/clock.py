"""A clock that tests move: it runs on with real time, or stands still, and jumps when told to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.clock import Clock, wall_ms

NOW = 1_800_000_000_000
"""Where a standing clock begins, Unix ms."""


class MovableClock(Clock):
    """The gateway's clock with an offset. It ticks, so that leases and pauses mean what they say; `advance` jumps."""

    def __init__(self) -> None:
        super().__init__()
        self._offset_ms = 0

    def __call__(self) -> int:
        return wall_ms() + self._offset_ms

    def advance(self, seconds: float) -> None:
        """Jump ahead, or back."""
        self._offset_ms += round(seconds * 1000)

    async def follow(self, ask: Callable[[], Awaitable[int]]) -> None:
        """Follow nobody: tests say what time it is."""


class StandingClock:
    """A clock that only moves when told to."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Jump ahead, or back."""
        self.now += round(seconds * 1000)
