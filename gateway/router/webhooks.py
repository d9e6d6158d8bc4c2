"""Endpoints as callers keep them: made, changed, rotated, replayed, deleted.

Owns what an endpoint may be (its address, its events, its secret) and what its secret becomes. Refuses to know HTTP;
errors are `Problem`s. A secret leaves this module twice: to the caller who made or exchanged it, and sealed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from gateway.errors import CONFLICT, Code, Fault, Problem, invalid, not_found
from gateway.model import ids
from gateway.model.events import PATTERNS, narrowed
from gateway.model.ids import IdSource
from gateway.router.vault import SigningSecret, Vault, rotated
from gateway.storage.contract import Store, WebhookRow

PER_PROJECT: Final = 50
"""Endpoints of one project: each hears of an event by a delivery of its own."""

_PREFIX: Final = "whsec_"
_KEY_OCTETS: Final = range(24, 65)
"""Standard Webhooks, "Signature scheme": "between 24 bytes (192 bits) and 64 bytes (512 bits)"."""
_MADE_OCTETS: Final = 32
_FORM_WORDS: Final = "Write whsec_ and the base64 of 24 to 64 random bytes."
_ROTATIONS: Final = 3
"""Tries to exchange a secret while others do the same."""


class Webhooks:
    """Keeps endpoints. `refuse` says why an address may not be called, or `None`; `random(count)` is unguessable."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        refuse: Callable[[str], str | None],
        clock: Callable[[], int],
        id_source: IdSource,
        random: Callable[[int], bytes],
        keeps_ms: int,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._vault = vault
        self._refuse = refuse
        self._clock = clock
        self._ids = id_source
        self._random = random
        self._keeps_ms = keeps_ms
        self._on_change = on_change

    async def create(
        self,
        project: str,
        *,
        url: str,
        events: Sequence[str],
        secret: str | None,
    ) -> tuple[WebhookRow, str]:
        """Make an endpoint; answers it and its secret. Raises the 422 with every fault."""
        refused = self._refuse(url)
        faults = [*_event_faults(events), *_secret_faults(secret)]
        if refused is not None:
            faults.insert(0, Fault("url", Code.NOT_ALLOWED, f"{refused[:1].upper()}{refused[1:]}."))
        if faults:
            raise invalid(faults)
        now = self._clock()
        text = secret or self._made()
        row = WebhookRow(
            id=self._ids.new(now),
            project=project,
            url=url,
            events=narrowed(events),
            secrets=self._vault.seal([SigningSecret(text=text)]),
            created_at=now,
        )
        if not await self._store.add_webhook(row, PER_PROJECT):
            raise invalid([Fault("url", Code.TOO_MANY, f"A project has at most {PER_PROJECT} webhooks.")])
        self._on_change()
        return row, text

    async def find(self, project: str | None, id_: UUID) -> WebhookRow:
        """Show one; raises the 404."""
        found = await self._store.webhook(project, id_)
        if found is None:
            raise _no_such(id_)
        return found

    async def change(
        self,
        project: str | None,
        id_: UUID,
        *,
        enabled: bool | None,
        events: Sequence[str] | None,
    ) -> WebhookRow:
        """Switch one on or off, or let it hear of other events."""
        faults = _event_faults(events or ())
        if faults:
            raise invalid(faults)
        await self.find(project, id_)
        wanted = None if events is None else narrowed(events)
        await self._store.change_webhook(id_, enabled=enabled, events=wanted, now=self._clock())
        self._on_change()
        return await self.find(project, id_)

    async def rotate(self, project: str | None, id_: UUID, secret: str | None) -> tuple[WebhookRow, str]:
        """Exchange the secret; the one before signs on for the overlap. Answers the endpoint and its new secret."""
        faults = _secret_faults(secret)
        if faults:
            raise invalid(faults)
        text = secret or self._made()
        for _ in range(_ROTATIONS):
            row = await self.find(project, id_)
            # What cannot be opened was sealed under another secret_key: nobody can sign with it any more.
            before = self._vault.open(row.secrets) or ()
            sealed = self._vault.seal(rotated(before, text, self._clock()))
            if await self._store.replace_secrets(id_, row.secrets, sealed):
                return row, text
        raise Problem(CONFLICT, f"The secret of {ids.show(ids.WEBHOOK, id_)} is being exchanged by others; look again.")

    async def replay(self, project: str | None, id_: UUID, since: int) -> tuple[int, int]:
        """Send again what happened since then, as far as it is kept; answers from when until when."""
        row = await self.find(project, id_)
        now = self._clock()
        if since > now:
            raise invalid([Fault("since", Code.OUT_OF_RANGE, "Must not be in the future.")])
        if not row.enabled:
            shown = ids.show(ids.WEBHOOK, id_)
            raise Problem(CONFLICT, f"{shown} is switched off; switch it on before anything is replayed.")
        begins = max(since, now - self._keeps_ms)
        if not await self._store.replay_events(id_, begins, now):
            raise _no_such(id_)
        self._on_change()
        return begins, now

    async def delete(self, project: str | None, id_: UUID) -> None:
        """Forget one; what waits to be sent to it is cancelled when its turn comes."""
        if not await self._store.delete_webhook(project, id_):
            raise _no_such(id_)

    def _made(self) -> str:
        return _PREFIX + base64.b64encode(self._random(_MADE_OCTETS)).decode("ascii")


def _event_faults(events: Sequence[str]) -> list[Fault]:
    return [
        Fault(f"events[{place}]", Code.INVALID, "There is no such event; see the documented names and patterns.")
        for place, one in enumerate(events)
        if one not in PATTERNS
    ]


def _secret_faults(secret: str | None) -> list[Fault]:
    """Judge a caller's own secret; no word of it is repeated."""
    if secret is None:
        return []
    try:
        octets = len(base64.b64decode(secret.removeprefix(_PREFIX), validate=True))
    except (binascii.Error, ValueError):
        octets = 0
    good = secret.startswith(_PREFIX) and octets in _KEY_OCTETS
    return [] if good else [Fault("secret", Code.INVALID, _FORM_WORDS)]


def _no_such(id_: UUID) -> Problem:
    return not_found("webhook", ids.show(ids.WEBHOOK, id_))
