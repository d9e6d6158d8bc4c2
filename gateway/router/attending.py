"""What an operator sees of providers, and says about them: health, pause and resume.

Owns how an operator's word reaches every process: it is stored, and each process looks once a second (`refresh`), so
that no delivery asks for it. A pause is heeded by the router (`standing.paused`); a resumption also takes up a breaker
that has opened, and sets free what was held meanwhile. Refuses to know HTTP and the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.middleware import rate_limit
from gateway.middleware.breaker import State
from gateway.middleware.pause import HOLD_MS
from gateway.model.states import Priority, Why, lane_of
from gateway.router.checking import one_line
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.standing import ProviderStatus, Together, status_of, together
from gateway.storage.contract import PaceUse, ProviderReport, ProviderSwitch, Reservation, Store

_REPORT_MS: Final = 10_000
"""How often a process says how its providers fare when nothing changed."""
_FRESH_MS: Final = 30_000
"""Reports older than three turns are of a process that is gone."""
_KEPT_MS: Final = 3_600_000
_RESUMED: Final = (Why.PAUSED, Why.PROVIDER_DOWN, Why.ACCOUNT_PROBLEM)
"""What a resumption sets free: held by the pause, or by the breaker that it takes up again."""
_LOOKS: Final = 2
"""How often what was held is looked for after a resumption: the second time finds what was just being held."""


class ProviderState(msgspec.Struct, frozen=True, kw_only=True):
    """One provider as an operator sees it. `position` is `None` where its channel does not name it."""

    handle: ProviderHandle
    channel: str
    position: int | None
    status: ProviderStatus
    found: Together
    pace: PaceUse | None

    @property
    def reports_back(self) -> bool:
        """Whether it can call us back."""
        return all(hasattr(self.handle.adapter, name) for name in ("verify", "parse"))


class Attending:
    """Looks after the providers of one process, over the store that all share."""

    def __init__(
        self,
        *,
        worker: str,
        store: Store,
        providers: Providers,
        reopen: Callable[[str], None],
        delivers: Callable[[], bool],
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        self._worker = worker
        self._store = store
        self._providers = providers
        self._reopen = reopen
        self._delivers = delivers
        self._clock = clock
        self._log = log
        self._looking = asyncio.Lock()  # an older answer of the store must not be taken in after a newer one
        self._to_free: dict[str, int] = {}  # channel: how many more looks
        self._looked = False
        self._said: tuple[ProviderReport, ...] = ()
        self._said_at = 0

    # --- what an operator says ---

    async def pause(self, name: str, by: str) -> None:
        """Pause a provider, for all processes. Repeatable."""
        await self._store.pause_provider(name, by, self._clock())
        self._log.warning("provider_paused", provider=name, by=by)
        await self.refresh()

    async def resume(self, name: str, by: str) -> None:
        """Take a provider into use again, whatever its breaker says. Repeatable."""
        await self._store.resume_provider(name, self._clock())
        self._log.warning("provider_resumed", provider=name, by=by)
        await self.refresh()

    # --- what an operator sees ---

    def knows(self, name: str) -> bool:
        """Say whether there is such a provider."""
        return self._providers.named(name) is not None

    async def states(self) -> list[ProviderState]:
        """Show every provider, by channel and in its failover order; those that no channel names come last."""
        await self.refresh()
        now = self._clock()
        handles = self._providers.all()
        rates = [_reservation(handle, now) for handle in handles if handle.pace is not None]
        used = {rate.key: use for rate, use in zip(rates, await self._store.pace_use(rates), strict=True)}
        reports = await self._reports(now)
        found = [self._state(handle, reports, used) for handle in handles]
        return sorted(found, key=lambda one: (one.position is None, one.channel, one.position or 0))

    async def state(self, name: str) -> ProviderState:
        """Show one of them."""
        return next(one for one in await self.states() if one.handle.name == name)

    async def statuses(self) -> list[tuple[ProviderHandle, ProviderStatus]]:
        """Say how each stands for this process's figures: its own view where it delivers, else what workers report."""
        if self._delivers():
            handles = self._providers.all()
            return [(one, status_of(one.breaker.state, paused=one.standing.paused)) for one in handles]
        return [(one.handle, one.status) for one in await self.states()]

    def _state(
        self,
        handle: ProviderHandle,
        reports: Mapping[str, Sequence[ProviderReport]],
        used: Mapping[str, PaceUse],
    ) -> ProviderState:
        channel, position = self._providers.place_of(handle.name) or (handle.adapter.kind, None)
        found = together(reports[handle.name])
        return ProviderState(
            handle=handle,
            channel=channel,
            position=position,
            status=status_of(found.breaker, paused=handle.standing.paused),
            found=found,
            pace=used.get(rate_limit.provider_key(handle.name)),
        )

    async def _reports(self, now: int) -> Mapping[str, Sequence[ProviderReport]]:
        """Collect what every process says; this one speaks for itself where it delivers, or where nobody does."""
        others: dict[str, list[ProviderReport]] = {}
        for report in await self._store.provider_reports(now - _FRESH_MS):
            if report.worker != self._worker:
                others.setdefault(report.provider, []).append(report)
        own = {handle.name: self._report(handle, now) for handle in self._providers.all()}
        if self._delivers():
            return {name: [*others.get(name, ()), report] for name, report in own.items()}
        return {name: others.get(name) or [report] for name, report in own.items()}

    # --- what goes on by itself ---

    async def refresh(self) -> None:
        """Take in what was said since the last look, and set free what a resumption concerns."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        said = {switch.provider: switch for switch in await self._store.provider_switches()}
        for handle in self._providers.all():
            if self._take_in(handle, said.get(handle.name) or ProviderSwitch(provider=handle.name)):
                place = self._providers.place_of(handle.name)
                if place is not None:
                    self._to_free[place[0]] = _LOOKS
        if self._looked:
            await self._set_free(_RESUMED)
        else:  # what was resumed while no process ran
            self._to_free = dict.fromkeys(self._providers.channels(), 1)
            await self._set_free((Why.PAUSED,))
            self._looked = True

    def _take_in(self, handle: ProviderHandle, said: ProviderSwitch) -> bool:
        """Change one provider's standing; answers whether it was resumed since the last look."""
        standing = handle.standing
        ended = standing.paused and said.paused_at is None
        resumed = self._looked and said.resumed_at is not None and said.resumed_at != standing.resumed_at
        standing.paused_at, standing.paused_by, standing.resumed_at = said.paused_at, said.paused_by, said.resumed_at
        if resumed and handle.breaker.state is not State.CLOSED:
            handle.breaker.resume()
        return ended or resumed

    async def _set_free(self, reasons: Sequence[Why]) -> None:
        for channel in list(self._to_free):
            handles = self._providers.of(channel)
            if any(not handle.standing.paused for handle in handles):
                now = self._clock()
                lanes = [lane_of(channel, priority) for priority in Priority]
                freed = await self._store.release_held(lanes, reasons, now + HOLD_MS, now)
                if freed:
                    self._log.info("deliveries_set_free", channel=channel, count=freed)
                self._reopen(channel)
            self._to_free[channel] -= 1
            if not self._to_free[channel]:
                del self._to_free[channel]

    async def report(self) -> None:
        """Say how the providers fare in this process, if it delivers and something changed, or now and then."""
        now = self._clock()
        if not self._delivers():
            return
        said = tuple(self._report(handle, now) for handle in self._providers.all())
        news = [_timeless(one) for one in said] != [_timeless(one) for one in self._said]
        if news or abs(now - self._said_at) >= _REPORT_MS:
            await self._store.report_providers(said, now - _KEPT_MS)
            self._said, self._said_at = said, now

    def _report(self, handle: ProviderHandle, now: int) -> ProviderReport:
        standing, breaker = handle.standing, handle.breaker
        shut = breaker.state in {State.OPEN, State.STOPPED}
        return ProviderReport(
            worker=self._worker,
            provider=handle.name,
            breaker=breaker.state.value,
            until=breaker.until,
            detail=None if not shut or breaker.detail is None else one_line(breaker.detail),
            in_use=handle.gate.in_use,
            places=handle.gate.places,
            last_outcome=standing.last_outcome,
            last_reason=standing.last_reason,
            last_at=standing.last_at,
            seen_at=now,
        )


def _reservation(handle: ProviderHandle, now: int) -> Reservation:
    pace = handle.pace
    if pace is None:
        raise AssertionError("asked for the rate of a provider that has none")
    key = rate_limit.provider_key(handle.name)
    return Reservation(key=key, count=pace.count, window_ms=pace.window_ms, now=now)


def _timeless(report: ProviderReport) -> ProviderReport:
    """Leave out what changes with every message: it is worth no write of its own."""
    return msgspec.structs.replace(report, seen_at=0, in_use=0, last_at=None)
