"""The store's verbs about topics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from gateway.storage import expanding, topics
from gateway.storage.contract import Expanding, Lease, Slice, Subscribed, SubscriberRow, Subscribers
from gateway.storage.database import Database
from gateway.storage.ledger import Books

_NOBODY: Final = Subscribed()


class TopicVerbs:
    """Satisfies `contract.TopicStore` for a store that has a database and books."""

    _db: Database
    _books: Books

    async def subscribe(self, topic: str, users: Collection[str], now: int) -> Subscribed:
        """Subscribe stored users."""
        return await self._db.write(lambda conn: topics.subscribe(conn, topic, users, now)) if users else _NOBODY

    async def unsubscribe(self, topic: str, user_id: str) -> bool:
        """Take a user off a topic."""
        return await self._db.write(lambda conn: topics.unsubscribe(conn, topic, user_id))

    async def subscriber(self, topic: str, user_id: str) -> SubscriberRow | None:
        """Show one subscription."""
        return await self._db.read(lambda conn: topics.one(conn, topic, user_id))

    async def subscribers(self, topic: str, limit: int, after: str = "") -> list[SubscriberRow]:
        """List a topic's subscribers."""
        return await self._db.read(lambda conn: topics.listing(conn, topic, limit, after))

    async def count_subscribers(self, topic: str, most: int) -> int:
        """Count a topic's subscribers, up to so many."""
        return await self._db.read(lambda conn: topics.count(conn, topic, most))

    async def expansion_due(self, now: int) -> bool:
        """Tell whether there is one to claim."""
        return await self._db.read(lambda conn: topics.due(conn, now))

    async def claim_expansion(self, lease: Lease, now: int) -> Expanding | None:
        """Lease a due expansion."""
        return await self._db.write(lambda conn: topics.claim(conn, lease, now))

    async def release_expansion(self, notification_id: UUID, token: int, now: int) -> None:
        """Give a claim back unused."""
        await self._db.write(lambda conn: topics.release(conn, notification_id, token, now))

    async def next_subscribers(self, held: Expanding, most: int) -> Subscribers:
        """Find the next subscribers."""
        return await self._db.read(lambda conn: topics.following(conn, held, most))

    async def addresses_given(self, notification_id: UUID, before: int) -> Sequence[tuple[str, str]]:
        """List where the request itself sends."""
        return await self._db.read(lambda conn: topics.given(conn, notification_id, before))

    async def addresses_planned(
        self, notification_id: UUID, keys: Collection[tuple[str, str]]
    ) -> Collection[tuple[str, str]]:
        """Tell which of these the notification goes to already."""
        return await self._db.read(lambda conn: topics.planned_addresses(conn, notification_id, keys)) if keys else ()

    async def expand(self, slice_: Slice) -> bool:
        """Write a slice."""
        return await self._db.write(partial(expanding.expand, part=slice_, books=self._books))
