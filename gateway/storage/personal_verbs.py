"""The store's verbs about everything of one person."""

from __future__ import annotations

from collections import Counter

from gateway.storage import erasing, people, telling
from gateway.storage.contract import Erased, Page, PersonPage
from gateway.storage.database import Database
from gateway.storage.ledger import Books


class PersonalVerbs:
    """The part of `SqlStore` that tells and erases all that is held about a person."""

    _db: Database
    _books: Books

    async def about_user(self, project: str | None, id_: str, page: Page) -> PersonPage | None:
        """Tell what is held about a person."""
        return await self._db.read(lambda conn: telling.about(conn, project, id_, page))

    async def erase_user(self, id_: str, now: int) -> Erased | None:
        """Erase a person from every table, a slice to a transaction."""
        user = await self._db.read(lambda conn: people.one(conn, id_))
        if user is None:
            return None
        removed: Counter[str] = Counter()
        cancelled = 0
        finished = False
        while not finished:
            done = await self._db.write(lambda conn: erasing.erase(conn, user, now, books=self._books))
            removed.update(done.removed)
            cancelled += done.cancelled
            finished = done.finished
        return Erased(removed=dict(removed), cancelled=cancelled, scrubbed=await self._db.scrub())
