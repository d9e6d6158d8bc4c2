"""Consent asked again, just before a delivery goes: a choice made five seconds before the wire counts.

Owns which questions a delivery raises, in one look-up that gathers. What the answers mean is decided by the same pure
code as when it was planned (`middleware.consent`, `model.preferences`, `model.quiet`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.middleware.consent import decide
from gateway.middleware.contract import Dropped, Held
from gateway.model.addresses import list_key
from gateway.model.preferences import Cell, Source, resolve
from gateway.model.states import Priority
from gateway.router.compose import Addressee
from gateway.router.rules import CategoryRule, Rules
from gateway.storage.contract import Claimed, Consent, ConsentAsked, Store

FRESH_MS: Final = 1000
"""A consent check younger than this is not repeated: it was made when the request was accepted."""

_UNASKED: Final = Consent()
_AS_PLANNED: Final = Cell(allowed=True, source=Source.DEFAULT)
_WHEREABOUTS: Final = msgspec.json.Decoder(Addressee).decode


class Consenting:
    """Asks for consent to one claimed delivery; many at once share a look-up."""

    def __init__(self, *, store: Store, rules: Rules, clock: Callable[[], int]) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock

    async def refusal(
        self, claim: Claimed, category: CategoryRule, *, priority: Priority, simulated: bool, checked_at: int
    ) -> Dropped | Held | None:
        """Say why this may not go, or not yet; `None` where it may. `checked_at` is when it was last asked."""
        known, cell, quiet = _UNASKED, _AS_PLANNED, None
        if self._clock() - checked_at > FRESH_MS:
            known = await self._known(claim, category, simulated=simulated)
            cell = resolve(known.choices, category.terms, claim.channel, opted_out=known.opted_out)
            quiet = self._quiet(claim, category, priority, known)
        return decide(
            suppression=known.suppression,
            cell=cell,
            quiet=quiet,
            deadline_at=claim.deadline_at,
            now=self._clock(),
        )

    async def _known(self, claim: Claimed, category: CategoryRule, *, simulated: bool) -> Consent:
        """Look up what may have changed; a simulator's address is on no list, but its person has choices."""
        if simulated and claim.user_id is None:
            return _UNASKED
        asked = ConsentAsked(
            channel=claim.channel,
            key=None if simulated else list_key(claim.channel, claim.address),
            category=category.name if category.settings.unsubscribe else None,
            user_id=claim.user_id,
        )
        return await self._store.consent(asked)

    def _quiet(self, claim: Claimed, category: CategoryRule, priority: Priority, known: Consent) -> Held | None:
        """Say until when quiet hours hold this: in the zone known when it was accepted, else the stored one."""
        hours = self._rules.quiet.hours_for(
            known.choices, channel=claim.channel, priority=priority, heeds=category.settings.quiet_hours
        )
        if hours is None:
            return None
        return self._rules.quiet.until(hours, _timezone(claim.recipient) or known.timezone, self._clock())


def _timezone(recipient: bytes) -> str | None:
    try:
        return _WHEREABOUTS(recipient).timezone
    except msgspec.DecodeError:
        return None  # such a row fails when its message is made, which says so
