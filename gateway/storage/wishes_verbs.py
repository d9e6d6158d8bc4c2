"""The store's verbs about wishes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from gateway.storage import wishes
from gateway.storage.contract.wishes import Stop, Wish
from gateway.storage.database import Database, Verb
from gateway.storage.ledger import Books

_STOPPED: Final[Verb[Collection[Stop], set[Stop]]] = Verb("stopped", wishes.stopped)


class WishVerbs:
    """Satisfies `contract.WishStore` for a store that has a database."""

    _db: Database
    _books: Books

    async def hear(self, words: Sequence[Wish]) -> int:
        """Take words in."""
        if not words:
            return 0
        return len(await self._db.write(lambda conn: wishes.hear(conn, words, self._books.ids)))

    async def stopped(self, asked: Collection[Stop]) -> Collection[Stop]:
        """Tell which senders an address stopped."""
        return await self._db.gather_read(_STOPPED, asked) if asked else ()
