"""What lies in people's inboxes, and what they do with it. Putting an item in is part of `settle`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from gateway.model.inbox import Act
from gateway.storage.contract.rows import InboxRow, Row


class InboxItem(InboxRow, frozen=True, kw_only=True):
    """An item as it lies there. `number` is higher than that of every item that came before it.

    `version` is that of its last change. One whose `expires_at` is past is gone.
    """

    number: int
    version: int
    seen_at: int | None
    read_at: int | None
    archived_at: int | None


class InboxFilter(Row, frozen=True, kw_only=True):
    """Which items of whose inbox; `project=None` is every project. `before` is a number: older ones only."""

    user_id: str
    project: str | None
    archived: bool = False
    unread: bool = False
    limit: int
    before: int | None = None


class InboxPage(Row, frozen=True, kw_only=True):
    """A page, newest first, and how many items are neither read nor archived in all."""

    items: tuple[InboxItem, ...]
    unread: int


class InboxMark(Row, frozen=True, kw_only=True):
    """What a person does: with one item (`id`), or with all up to one and with it (`up_to`), or with all."""

    user_id: str
    project: str | None
    act: Act
    id: UUID | None = None
    up_to: UUID | None = None


class InboxMarked(Row, frozen=True, kw_only=True):
    """What became of it: the one item as it is now, how many changed, and how many are unread in all."""

    item: InboxItem | None
    changed: int
    unread: int


class InboxWatch(Row, frozen=True, kw_only=True):
    """Whose inbox is watched, and which version of it is known already; `None`: nothing, and nothing is asked for."""

    user_id: str
    project: str | None
    since: int | None


class InboxNews(Row, frozen=True, kw_only=True):
    """What changed since. `whole` is false where it is too much to tell one by one: then the list is asked again."""

    version: int
    items: tuple[InboxItem, ...]
    unread: int
    whole: bool


class InboxStore(Protocol):
    """The verbs of the inbox."""

    async def inbox(self, where: InboxFilter, now: int) -> InboxPage | None:
        """Show a page of a person's inbox, without what has expired by `now`. `None`: there is no such user."""
        ...

    async def mark_inbox(self, mark: InboxMark, now: int) -> InboxMarked | None:
        """Mark items; repeatable. `None`: there is no such item in this inbox.

        What it says of the deliveries is applied in the same transaction as a provider's report would be, so that the
        next channel of a chain is called off.
        """
        ...

    async def inbox_versions(self, users: Collection[str]) -> Mapping[str, int]:
        """Tell how far the inboxes of several people have come, in one statement; an empty one may be left out."""
        ...

    async def inbox_news(self, watch: InboxWatch, now: int) -> InboxNews:
        """Tell what changed in an inbox (gathers; reads)."""
        ...
