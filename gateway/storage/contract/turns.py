"""Channels in turn, as the store promises them.

What waits behind a delivery is let go or called off in the same transaction as the settlement, provider event or expiry
that decides it; no verb does it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class TurnStore(Protocol):
    """Whom the store tells that something came due."""

    def on_turn(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with the lane of each delivery whose turn came by a verb of this process, after its commit.

        A hint, so that nobody has to wait for a poll; another process finds it by polling. One listener.
        """
        ...
