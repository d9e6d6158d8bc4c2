"""The store's verbs of the preference page."""

from __future__ import annotations

from gateway.storage import choosing
from gateway.storage.contract import AddressChange, PreferencesChange, PreferencesRow
from gateway.storage.database import Database


class ChoosingVerbs:
    """Satisfies `contract.ChoosingStore` for a store that has a database."""

    _db: Database

    async def change_preferences(self, change: PreferencesChange) -> PreferencesRow | None:
        """Change some choices in one transaction."""
        return await self._db.write(lambda conn: choosing.change(conn, change))

    async def change_address(self, change: AddressChange) -> None:
        """Note what an address says for itself."""
        await self._db.write(lambda conn: choosing.change_address(conn, change))
