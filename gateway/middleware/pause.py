"""What an operator's pause means for a delivery.

Owns the answer to a delivery whose channel has no provider in use. Refuses to know who paused what, and how processes
hear of it. Pure.
"""

from __future__ import annotations

from typing import Final

from gateway.middleware.contract import Held
from gateway.model.states import Why

HOLD_MS: Final = 3_600_000
"""A paused delivery is looked at again after an hour at the latest. It is set free by the resumption itself; this is
for what a resumption cannot see, such as a channel that was configured anew meanwhile."""


def held(now: int, deadline_at: int) -> Held:
    """Hold a delivery until its channel is resumed; its deadline still holds, and no attempt is counted."""
    until = min(now + HOLD_MS, max(now + 1, deadline_at))
    return Held(until=until, reason=Why.PAUSED, detail="every provider of its channel is paused")
