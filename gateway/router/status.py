"""What providers report later: from a verified callback to changes of state.

Owns the way from an adapter's events to the store. The order of states, repeats and early arrivals are the store's
(`Store.apply_status`); signatures and formats are the adapter's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.contract import Callback, CallbackRefused, StatusEvent
from gateway.errors import MALFORMED, UNAUTHORIZED, Problem, not_found
from gateway.model import ids
from gateway.model.addresses import match_key
from gateway.model.ids import IdSource
from gateway.model.states import Why
from gateway.router.providers import Providers
from gateway.storage.contract import StatusChange, Store


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
        verify = getattr(None if handle is None else handle.adapter, "verify", None)
        parse = getattr(None if handle is None else handle.adapter, "parse", None)
        if verify is None or parse is None:
            raise not_found("provider with callbacks", provider)
        prepare = getattr(handle and handle.adapter, "prepare", None)
        confirm = getattr(handle and handle.adapter, "confirm", None)
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
        if confirm is not None:
            await confirm(callback)  # answers a provider that asks whether these callbacks are wanted
        now = self._clock()
        ours = [event for event in events if await self._is_ours(event)]
        changes = [self._change(provider, event, now) for event in ours]
        return await self._store.apply_status(changes, now) if changes else 0

    async def _is_ours(self, event: StatusEvent) -> bool:
        """Say whether an event is about the delivery's own address: providers report on copies (Cc, Bcc) too."""
        if event.message_id is None:
            return event.provider_id is not None
        id_ = ids.read(ids.DELIVERY, event.message_id)
        if id_ is None or event.address is None:
            return id_ is not None
        delivery = await self._store.delivery(None, id_)
        if delivery is None or delivery.address is None:
            return delivery is not None
        return match_key(delivery.address) == match_key(event.address)

    def _change(self, provider: str, event: StatusEvent, now: int) -> StatusChange:
        return StatusChange(
            id=self._ids.new(now),
            provider=provider,
            provider_id=event.provider_id,
            delivery_id=None if event.message_id is None else ids.read(ids.DELIVERY, event.message_id),
            type=event.type.value,
            reason=None if event.reason is None else Why(event.reason.value),
            detail=event.detail,
            at=int(event.at * 1000),
            due_at=now,
        )
