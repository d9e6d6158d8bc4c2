"""The store's verbs about providers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from gateway.model.states import Why
from gateway.storage import pacing, providers
from gateway.storage.contract import PaceUse, ProviderReport, ProviderSwitch, Reservation
from gateway.storage.database import Database


class ProviderVerbs:
    """Satisfies `contract.ProviderStore`."""

    _db: Database

    async def pause_provider(self, provider: str, by: str, now: int) -> ProviderSwitch:
        """Pause."""
        return await self._db.write(lambda conn: providers.pause(conn, provider, by, now))

    async def resume_provider(self, provider: str, now: int) -> ProviderSwitch:
        """Take into use again."""
        return await self._db.write(lambda conn: providers.resume(conn, provider, now))

    async def provider_switches(self) -> list[ProviderSwitch]:
        """List every switch."""
        return await self._db.read(providers.switches)

    async def report_providers(self, reports: Sequence[ProviderReport], forget_before: int) -> None:
        """Keep a process's latest word."""
        await self._db.write(lambda conn: providers.report(conn, reports, forget_before))

    async def provider_reports(self, since: int) -> list[ProviderReport]:
        """List what processes reported."""
        return await self._db.read(lambda conn: providers.reports(conn, since))

    async def pace_use(self, rates: Sequence[Reservation]) -> list[PaceUse]:
        """Tell how much of each rate is used."""
        return await self._db.read(lambda conn: pacing.use(conn, rates)) if rates else []

    async def release_held(self, lanes: Collection[str], reasons: Collection[Why], until: int, now: int) -> int:
        """Make held deliveries due, a slice at a time, so that others write in between."""
        slice_ = partial(providers.release, lanes=lanes, reasons=reasons, until=until, now=now)
        moved = count = await self._db.write(slice_)
        while count >= providers.SLICE:
            count = await self._db.write(slice_)
            moved += count
        return moved
