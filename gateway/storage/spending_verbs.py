"""The store's verbs about money."""

from __future__ import annotations

from typing import Final

from gateway.storage import spending
from gateway.storage.contract import Spend
from gateway.storage.database import Database, Verb

_SPEND: Final[Verb[Spend, int | None]] = Verb("spend", spending.spend)


class SpendingVerbs:
    """Mixed into `SqlStore`."""

    _db: Database

    async def spend(self, asked: Spend) -> int | None:
        """Set an amount aside."""
        return await self._db.gather_write(_SPEND, asked)

    async def spent(self, channel: str, day: int) -> int:
        """Tell what is spent of a day."""
        return await self._db.read(lambda conn: spending.spent(conn, channel, day))
