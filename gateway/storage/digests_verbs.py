"""The store's verbs about digests."""

from __future__ import annotations

from functools import partial

from gateway.storage import digests
from gateway.storage.contract import Gathered, Gathering
from gateway.storage.database import Database, Verb
from gateway.storage.ledger import Books


class DigestVerbs:
    """Satisfies `contract.DigestStore`."""

    _db: Database
    _books: Books

    def _prepare_digests(self) -> None:
        self._gather: Verb[Gathering, Gathered | None] = Verb("gather", digests.gather)
        self._digest_due: Verb[str, int | None] = Verb("digest_due", partial(digests.due, books=self._books))

    async def gather(self, asked: Gathering) -> Gathered | None:
        """Make a delivery in hand carry its digest."""
        return await self._db.gather_write(self._gather, asked)

    async def digest_due(self, name: str) -> int | None:
        """Tell when an open digest will be sent."""
        return await self._db.gather_read(self._digest_due, name)
