"""Topics as the store keeps them: subscriptions, and sends to topics on their way to deliveries.

A topic's name and a user's id are the services' own. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from gateway.storage.contract.rows import DeliveryRow, Expansion, Lease, NotificationRow, Row


class SubscriberRow(Row, frozen=True, kw_only=True):
    """A user who gets what is sent to a topic."""

    topic: str
    user_id: str
    created_at: int


class Subscribed(Row, frozen=True, kw_only=True):
    """Who is new to the topic; or who is not stored at all, and then nothing was changed."""

    added: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()


class Expanding(Row, frozen=True, kw_only=True):
    """A send to topics in a worker's hands: its topic at `place` is planned up to `last_user`.

    `token` must accompany what is written of it. The notification's `request` is empty if it is not kept any more.
    """

    notification: NotificationRow
    expansion: Expansion
    place: int
    last_user: str
    token: int


class Subscribers(Row, frozen=True, kw_only=True):
    """The next of a topic, in the order of ids.

    `users` are those of them for whom the notification has no delivery yet; `last_user` is the last that was looked at,
    and `more` says that others may follow.
    """

    users: tuple[str, ...]
    last_user: str
    more: bool


class Slice(Row, frozen=True, kw_only=True):
    """Deliveries to some subscribers, and how far that brings their expansion. `finished`: nobody is left."""

    notification: NotificationRow
    token: int
    deliveries: tuple[DeliveryRow, ...]
    place: int
    last_user: str
    position: int
    finished: bool
    now: int


class TopicStore(Protocol):
    """The verbs about topics."""

    async def subscribe(self, topic: str, users: Collection[str], now: int) -> Subscribed:
        """Let stored users get what is sent to a topic: all of them, or nobody if one is unknown. Repeatable."""
        ...

    async def unsubscribe(self, topic: str, user_id: str) -> bool:
        """Take a user off a topic; `False` if they were not on it."""
        ...

    async def subscriber(self, topic: str, user_id: str) -> SubscriberRow | None:
        """Show one subscription."""
        ...

    async def subscribers(self, topic: str, limit: int, after: str = "") -> list[SubscriberRow]:
        """List a topic's subscribers in the order of their ids, strictly after one."""
        ...

    async def count_subscribers(self, topic: str, most: int) -> int:
        """Count a topic's subscribers, up to so many."""
        ...

    async def expansion_due(self, now: int) -> bool:
        """Tell whether `claim_expansion` would find one. Cheap: asked all the time."""
        ...

    async def claim_expansion(self, lease: Lease, now: int) -> Expanding | None:
        """Lease a due expansion, lowest rank first, then the one that waited longest; also one whose lease ran out.

        Never gives one to two callers. Raises its token.
        """
        ...

    async def release_expansion(self, notification_id: UUID, token: int, now: int) -> None:
        """Give a claim back unused: due at once. One that is somebody else's by now is left alone."""
        ...

    async def next_subscribers(self, held: Expanding, most: int) -> Subscribers:
        """Find the next subscribers of the topic that a claim has come to, at most so many."""
        ...

    async def addresses_given(self, notification_id: UUID, before: int) -> Sequence[tuple[str, str]]:
        """List the (channel, address) to which deliveries before this position go: those of the request itself."""
        ...

    async def addresses_planned(
        self, notification_id: UUID, keys: Collection[tuple[str, str]]
    ) -> Collection[tuple[str, str]]:
        """Tell which (channel, key) stored users have to whom this notification goes already."""
        ...

    async def expand(self, slice_: Slice) -> bool:
        """Write deliveries, their queue rows and how far the expansion has come, in one transaction.

        `False`: the claim was lost, or the notification cancelled, and nothing was written. Users erased meanwhile are
        left out. What a newer notification has replaced already (`collapse_key`) ends `collapsed`, and what it replaces
        itself does. The last slice completes the notification if nothing of it is open.
        """
        ...
