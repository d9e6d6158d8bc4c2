"""The store's verbs about people's inboxes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from gateway.storage import inbox
from gateway.storage.contract import InboxFilter, InboxMark, InboxMarked, InboxNews, InboxPage, InboxWatch
from gateway.storage.database import Database, Verb
from gateway.storage.ledger import Books

_NEWS: Final[Verb[tuple[InboxWatch, int], InboxNews]] = Verb("inbox_news", inbox.news)


class InboxVerbs:
    """Satisfies `contract.InboxStore`."""

    _db: Database
    _books: Books

    def _tell(self, lanes: Iterable[str]) -> None: ...

    async def inbox(self, where: InboxFilter, now: int) -> InboxPage | None:
        """Show a page of a person's inbox."""
        return await self._db.read(lambda conn: inbox.page(conn, where, now))

    async def mark_inbox(self, mark: InboxMark, now: int) -> InboxMarked | None:
        """Mark items, a slice to a transaction."""
        changed = 0
        while True:
            due: set[str] = set()
            done = await self._db.write(
                lambda conn: inbox.mark(conn, mark, now, books=self._books, due=due)  # noqa: B023 - awaited within the turn
            )
            self._tell(due)
            if done is None or mark.id is not None:
                return done
            changed += done.changed
            if done.changed < inbox.SLICE:
                return InboxMarked(item=None, changed=changed, unread=done.unread)

    async def inbox_versions(self, users: Collection[str]) -> Mapping[str, int]:
        """Tell how far several inboxes have come."""
        return await self._db.read(lambda conn: inbox.versions(conn, users))

    async def inbox_news(self, watch: InboxWatch, now: int) -> InboxNews:
        """Tell what changed in an inbox."""
        return await self._db.gather_read(_NEWS, (watch, now))
