"""All that is held about one person: telling it, and erasing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.storage.contract.inbox import InboxItem
from gateway.storage.contract.people import UserRow
from gateway.storage.contract.preferences import PreferencesRow
from gateway.storage.contract.rows import (
    CapturedRow,
    DeliveryView,
    EventView,
    OptOutRow,
    Page,
    Row,
    SuppressionRow,
)
from gateway.storage.contract.topics import SubscriberRow
from gateway.storage.contract.webhooks import EchoRow


class PersonPage(Row, frozen=True, kw_only=True):
    """A part of what is held about a person: deliveries newest first, and what hangs on these.

    Deliveries to the person, and those to an address of theirs that named no user. `more` says that older ones follow.
    """

    user: UserRow
    preferences: PreferencesRow
    deliveries: tuple[DeliveryView, ...]
    more: bool
    events: tuple[EventView, ...]
    captured: tuple[CapturedRow, ...]
    suppressions: tuple[SuppressionRow, ...]
    opt_outs: tuple[OptOutRow, ...]
    inbox: tuple[InboxItem, ...]
    subscriptions: tuple[SubscriberRow, ...]
    echoes: tuple[EchoRow, ...]
    """Stored events to endpoints: about these deliveries and their notifications, and those that name an address."""


class Erased(Row, frozen=True, kw_only=True):
    """What an erasure did: rows removed or blanked, by table; deliveries that waited and were called back.

    `scrubbed` is false where another process still reads an older state of the file, so that traces stay in its log
    until that is done.
    """

    removed: Mapping[str, int]
    cancelled: int
    scrubbed: bool


class PersonalStore(Protocol):
    """The verbs about everything of one person."""

    async def about_user(self, project: str | None, id_: str, page: Page) -> PersonPage | None:
        """Tell what is held about a person, deliveries (of one project, or of all) page by page.

        `None`: there is no such user.
        """
        ...

    async def erase_user(self, id_: str, now: int) -> Erased | None:
        """Erase a person from every table. `None`: there is no such user.

        Waiting deliveries end `cancelled`; one that is being sent, or may have been, ends `unknown`. Suppressions stay
        as keyed hashes. Events about them that are stored for endpoints stay, without their words.
        Works in slices, so that others come between; the profile goes last, so that one that was interrupted is
        finished by asking again.
        """
        ...
