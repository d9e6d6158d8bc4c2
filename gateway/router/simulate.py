"""The simulated provider: whatever the environment, nothing leaves, and every ending can be seen.

It stands where an adapter stands and answers as one; what a real provider would report later comes back through the
real callback path, `Store.apply_status`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from channels.contract import Accepted, EventType, Message, Outcome, Reason, Rejected, Unknown
from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.simulator import Simulated, outcome_of
from gateway.storage.contract import StatusChange, Store

PROVIDER: Final = "simulator"

LATE_MS: Final = 30_000
"""How long `late@simulator.invalid` takes to be reported."""

_EVENTS: Final = {
    Simulated.DELIVERED: (EventType.DELIVERED,),
    Simulated.BOUNCED: (EventType.BOUNCED,),
    Simulated.COMPLAINED: (EventType.DELIVERED, EventType.COMPLAINED),
    Simulated.LATE: (EventType.DELIVERED,),
}


class Simulator:
    """Answers for `…@simulator.invalid`. Sends nothing to anyone."""

    def __init__(self, store: Store, clock: Callable[[], int], id_source: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._ids = id_source

    async def send(self, message: Message) -> Outcome:
        """Answer as the address's name says, and schedule what a provider would report."""
        simulated = outcome_of(message.kind, message.to)
        match simulated:
            case None | Simulated.FAILED:
                return Rejected(Reason.INVALID_ADDRESS, detail="simulated: refused for good")
            case Simulated.UNKNOWN:
                return Unknown(detail="simulated: the answer was lost")
            case _:
                await self._report(message, simulated)
                return Accepted(provider_id=f"sim-{message.id}")

    async def _report(self, message: Message, simulated: Simulated) -> None:
        now = self._clock()
        due_at = now + (LATE_MS if simulated is Simulated.LATE else 0)
        await self._store.apply_status(
            [
                StatusChange(
                    id=self._ids.new(now),
                    provider=PROVIDER,
                    provider_id=f"sim-{message.id}",
                    delivery_id=ids.read(ids.DELIVERY, message.id),
                    type=kind,
                    reason=None,
                    detail="simulated",
                    at=due_at,
                    due_at=due_at,
                )
                for kind in _EVENTS[simulated]
            ],
            now,
        )
