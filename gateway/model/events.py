"""Events as services hear of them: their names, and the patterns by which an endpoint asks for them.

Owns the list of types that `API.md` promises. Refuses to know how an event reaches anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.model.states import Engagement, NotificationStatus, Status

EVENT_CATEGORY: Final = "_events"
"""The category of the notifications that carry events to endpoints, and the channel part of their lanes. No configured
name begins with an underscore, so no caller can ask for it."""

EVERYTHING: Final = "*"

SUPPRESSION_CREATED: Final = "suppression.created"

TYPES: Final = frozenset(
    {
        *(f"delivery.{status.value}" for status in Status if status is not Status.SENDING),
        *(f"delivery.{engagement.value}" for engagement in Engagement),
        f"notification.{NotificationStatus.COMPLETED.value}",
        f"notification.{NotificationStatus.CANCELLED.value}",
        SUPPRESSION_CREATED,
    },
)
"""Everything that can happen. `sending` is no event: it is a claim, which is written nowhere but in the queue."""

FAMILIES: Final = ("delivery.*", "notification.*", "suppression.*")

PATTERNS: Final = TYPES | {*FAMILIES, EVERYTHING}
"""What an endpoint may ask for."""


def narrowed(patterns: Iterable[str]) -> tuple[str, ...]:
    """Give the patterns in order, each once, without those that a wider one among them covers."""
    wanted = tuple(dict.fromkeys(patterns))
    if EVERYTHING in wanted:
        return (EVERYTHING,)
    return tuple(one for one in wanted if one in FAMILIES or f"{one.partition('.')[0]}.*" not in wanted)
