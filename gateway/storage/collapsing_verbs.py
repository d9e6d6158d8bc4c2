"""The store's verb about what a newer message replaces."""

from __future__ import annotations

from typing import Final

from gateway.storage import collapsing
from gateway.storage.contract import Latest
from gateway.storage.database import Database, Verb

_LATEST: Final[Verb[bytes, Latest | None]] = Verb("latest", collapsing.latest)


class CollapseVerbs:
    """Satisfies `contract.CollapseStore`."""

    _db: Database

    async def latest(self, place: bytes) -> Latest | None:
        """Tell the newest delivery of a place."""
        return await self._db.gather_read(_LATEST, place)
