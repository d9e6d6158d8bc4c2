"""The store's verbs about choices."""

from __future__ import annotations

from functools import partial

from gateway.storage import choices, preferences
from gateway.storage.contract import Consent, ConsentAsked, OptOut, OptOutRow, PreferencesPut, PreferencesRow
from gateway.storage.database import Database, Verb
from gateway.storage.ledger import Books


class PreferenceVerbs:
    """Satisfies `contract.PreferenceStore` for a store that has a database and books."""

    _db: Database
    _books: Books

    def _prepare_preferences(self) -> None:
        """Make the verb that gathers; called once the books are there."""
        self._consent: Verb[ConsentAsked, Consent] = Verb("consent", partial(choices.consent, books=self._books))

    async def consent(self, asked: ConsentAsked) -> Consent:
        """Look everything up that may have changed since a delivery was planned."""
        return await self._db.gather_read(self._consent, asked)

    async def preferences(self, user_id: str) -> PreferencesRow | None:
        """Show what a person chose."""
        return await self._db.read(lambda conn: preferences.one(conn, user_id))

    async def put_preferences(self, put: PreferencesPut) -> PreferencesRow | None:
        """Keep choices whole."""
        return await self._db.write(lambda conn: preferences.put(conn, put))

    async def leave(self, row: OptOutRow, user_id: str | None) -> None:
        """Note what the link in a message says."""
        await self._db.write(lambda conn: preferences.leave(conn, row, user_id))

    async def come_back(self, key: OptOut, user_id: str | None, now: int) -> None:
        """Take that back."""
        await self._db.write(lambda conn: preferences.come_back(conn, key, user_id, now))
