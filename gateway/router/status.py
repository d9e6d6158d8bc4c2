"""What providers report later: from a verified callback to changes of state.

Owns the way from an adapter's events to the store. The order of states, repeats and early arrivals are the store's
(`Store.apply_status`); signatures and formats are the adapter's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from channels.contract import Callback, CallbackRefused, EventType, StatusEvent
from gateway.errors import MALFORMED, UNAUTHORIZED, Problem, not_found
from gateway.model import ids
from gateway.model.addresses import AddressFault, list_key, normalise_email
from gateway.model.ids import IdSource
from gateway.model.states import Why
from gateway.router.providers import ProviderHandle, Providers
from gateway.storage.contract import Scope, StatusChange, Store, Wish


class Reports:
    """Takes callbacks in. Repeats and any order are harmless."""

    def __init__(
        self,
        *,
        store: Store,
        providers: Providers,
        clock: Callable[[], int],
        id_source: IdSource,
        log: Any,
    ) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._ids = id_source
        self._log = log

    async def take(self, provider: str, callback: Callback) -> int:
        """Verify, read and apply one callback; answers how many of its events changed something.

        Raises `Problem`: 404 for a provider that is not configured or reports nothing, 401 for a signature that is
        missing or wrong, 400 for what cannot be read. None of them changes anything.
        """
        handle = self._providers.named(provider)
        verify, parse, prepare, confirm = (
            None if handle is None else getattr(handle.adapter, name, None)
            for name in ("verify", "parse", "prepare", "confirm")
        )
        if handle is None or verify is None or parse is None:
            raise not_found("provider with callbacks", provider)
        try:
            if prepare is not None:
                await prepare(callback)  # fetches what verifying needs, such as a certificate
            verify(callback)
            events: list[StatusEvent] = list(parse(callback))
        except CallbackRefused as refused:
            self._log.warning("callback_refused", provider=provider, detail=str(refused))
            if refused.unreadable:
                raise Problem(MALFORMED, "This callback cannot be read.") from refused
            raise Problem(UNAUTHORIZED, "This callback's signature is missing or wrong.") from refused
        changed = await self._apply(provider, handle, events)
        if confirm is not None:
            await confirm(callback)
        return changed

    async def _apply(self, provider: str, handle: ProviderHandle, events: Sequence[StatusEvent]) -> int:
        now, channel = self._clock(), handle.adapter.kind
        words = [word for event in events if (word := _word(provider, channel, event)) is not None]
        changes = [change for event in events if (change := self._change(provider, channel, event, now)) is not None]
        changed = await self._store.apply_status(changes, now) if changes else 0
        return changed + (await self._store.hear(words) if words else 0)

    def _change(self, provider: str, channel: str, event: StatusEvent, now: int) -> StatusChange | None:
        """Write an event down for the store; `None` for what names no message, or one that was never ours."""
        ours = None if event.message_id is None else ids.read(ids.DELIVERY, event.message_id)
        if ours is None and (event.message_id is not None or event.provider_id is None):
            return None
        return StatusChange(
            id=self._ids.new(now),
            provider=provider,
            provider_id=event.provider_id,
            delivery_id=ours,
            type=event.type.value,
            reason=None if event.reason is None else Why(event.reason.value),
            detail=event.detail,
            at=int(event.at * 1000),
            due_at=now,
            address=None if event.address is None else _reported_key(channel, event.address),
            sender=event.sender,
        )


_WORDS: Final = frozenset({EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED})


def _word(provider: str, channel: str, event: StatusEvent) -> Wish | None:
    """Read what a person wrote to one of our senders (STOP, START); `None` for an event about a message."""
    about_message = event.message_id is not None or event.provider_id is not None
    if event.type not in _WORDS or about_message or event.sender is None or event.address is None:
        return None
    return Wish(
        channel=channel,
        address=_reported_key(channel, event.address),
        scope=Scope.SENDER,
        name=event.sender,
        stopped=event.type is EventType.UNSUBSCRIBED,
        source=provider,
        detail=event.detail,
        heard=() if event.event_id is None else (event.event_id,),
        at=int(event.at * 1000),
    )


def _reported_key(channel: str, address: str) -> str:
    """Give the form under which lists know an address that a provider wrote in its own way."""
    if channel != "email":
        return address
    try:
        return list_key(channel, normalise_email(address))
    except AddressFault:
        return list_key(channel, address)  # nobody's of ours, and found to be so
