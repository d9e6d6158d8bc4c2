"""What stands where a newer message replaces an older one."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from gateway.storage.contract.rows import Row


class Latest(Row, frozen=True, kw_only=True):
    """The newest delivery of a place, and the provider and its id of the message that stands there, if it is known."""

    delivery_id: UUID
    shown_by: str | None
    shown_id: str | None


class CollapseStore(Protocol):
    """Who is the newest. Replacing what waits is part of `accept`."""

    async def latest(self, place: bytes) -> Latest | None:
        """Tell the newest delivery of a place (`gateway.model.collapsing`); gathers; reads."""
        ...
