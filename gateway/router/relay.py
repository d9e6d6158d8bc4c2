"""From noted events to deliveries: a loop beside the dispatcher, in every process that works.

Owns when the outbox is looked at. What is noted is taken once, whichever process takes it; one that dies before it has
looked leaves the notes for the next. Refuses to know what an event is (`events`) and who hears of it (the store).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gateway.model import ids
from gateway.model.events import EVENT_CATEGORY
from gateway.model.states import Priority, lane_of
from gateway.router.dispatch import Dispatcher
from gateway.router.events import delivery_of
from gateway.storage.contract import Store, StoreUnavailable

FAILING_MS: Final = 5 * 86_400_000
"""An endpoint that failed for five days without one success is switched off: as long as one event is tried. The
Standard Webhooks specification asks for it ("failing … for an extended period of time", "Disabling endpoints")."""

_NOTES: Final = 200
"""Events in one transaction: enough to share a commit, few enough to hold nobody up."""

_LOOKED_THROUGH: Final = 200
"""Notifications that one step of a replay looks through."""

_GATHER_S: Final = 0.02
"""How long the relay waits once the bell is rung: what happens meanwhile shares the transaction. Under load it is rung
by every settlement, and must not make a commit for each."""

_LANES: Final = tuple(lane_of(EVENT_CATEGORY, priority) for priority in (Priority.NORMAL, Priority.BULK))


class Bell:
    """Rung by whoever may have made an event; the relay wakes by it. While nobody listens it makes no sound."""

    def __init__(self) -> None:
        self.listening = True
        self.rung = asyncio.Event()

    def ring(self) -> None:
        """Hear that events may have been noted. Another process's are found at the next poll."""
        if self.listening:
            self.rung.set()

    def listen(self) -> None:
        """Hear that there is an endpoint, or one that changed."""
        self.listening = True
        self.rung.set()


class Relay:
    """Runs until cancelled."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        bell: Bell,
        clock: Callable[[], int],
        poll_s: float,
        log: Any,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._poll_s = poll_s
        self._log = log
        self._bell = bell

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            self._bell.rung.clear()
            more = False
            try:
                more = await self.round()
            except Exception as error:  # noqa: BLE001 - a relay that is gone tells nobody anything ever again
                known = isinstance(error, StoreUnavailable)
                self._log.warning("relay_failed", error=str(error), exc_info=None if known else error)
            if not more:
                await self._rest()

    async def round(self) -> bool:
        """Do what there is to do, once; answers whether there is more of it."""
        state = await self._store.outbox_state(FAILING_MS)
        self._bell.listening = state.listening
        if state.failing:
            await self._switch_off()
        now = self._clock()
        if state.noted:
            taken = await self._store.relay_events(partial(delivery_of, now=now), _NOTES, now)
            for lane in _LANES:
                self._dispatcher.waiting(lane, now)
            if taken >= _NOTES:
                return True
        if state.replaying:
            return await self._store.replay_slice(_LOOKED_THROUGH) > 0
        return False

    async def _switch_off(self) -> None:
        for one in await self._store.switch_off_failing(FAILING_MS, self._clock()):
            self._log.warning(
                "webhook_switched_off",
                webhook_id=ids.show(ids.WEBHOOK, one.id),
                project=one.project,
                reason=one.disabled_reason,
                failures=one.failures,
            )

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._bell.rung.wait()
                await asyncio.sleep(_GATHER_S)
        except TimeoutError:
            return
