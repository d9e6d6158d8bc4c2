"""What the store keeps about providers: an operator's word, and what each process found out about them.

A provider's name is the configuration's. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from gateway.model.states import Why
from gateway.storage.contract.rows import Reservation, Row


class ProviderSwitch(Row, frozen=True, kw_only=True):
    """What an operator last said about a provider. `paused_at` is `None` while it is in use."""

    provider: str
    paused_at: int | None = None
    paused_by: str | None = None
    resumed_at: int | None = None
    """When it was last resumed: every process takes up a breaker that opened before."""


class ProviderReport(Row, frozen=True, kw_only=True):
    """How one provider fares in one process that delivers."""

    worker: str
    provider: str
    breaker: str
    until: int | None = None
    detail: str | None = None
    in_use: int
    places: int
    last_outcome: str | None = None
    last_reason: str | None = None
    last_at: int | None = None
    seen_at: int


class PaceUse(Row, frozen=True, kw_only=True):
    """How much of a rate is used: `used` moments granted within the window, and when the `next_at` is free."""

    used: int
    next_at: int


class ProviderStore(Protocol):
    """The verbs about providers."""

    async def pause_provider(self, provider: str, by: str, now: int) -> ProviderSwitch:
        """Pause; one that is paused already keeps its first `paused_at` and `paused_by`. Repeatable."""
        ...

    async def resume_provider(self, provider: str, now: int) -> ProviderSwitch:
        """Take it into use again. Repeatable: each time raises `resumed_at`."""
        ...

    async def provider_switches(self) -> list[ProviderSwitch]:
        """Tell what was said about every provider; those nobody ever spoke of are left out."""
        ...

    async def report_providers(self, reports: Sequence[ProviderReport], forget_before: int) -> None:
        """Keep a process's latest word about each provider; forgets what was last seen before `forget_before`."""
        ...

    async def provider_reports(self, since: int) -> list[ProviderReport]:
        """List what processes reported since then, by provider and process."""
        ...

    async def pace_use(self, rates: Sequence[Reservation]) -> list[PaceUse]:
        """Tell how much of each rate is used, in order; reserves nothing."""
        ...

    async def release_held(self, lanes: Collection[str], reasons: Collection[Why], until: int, now: int) -> int:
        """Make what is held in these lanes for one of these reasons, and due by `until`, due now; answers how many.

        What is being delivered is left alone. Repeatable.
        """
        ...
