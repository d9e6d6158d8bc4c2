"""What people chose, as the store keeps it, and the one look-up before a delivery goes.

Owns the rows and verbs. Which word decides is `gateway.model.preferences`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from gateway.model.preferences import NO_CHOICES, Choice, Choices
from gateway.model.quiet import QuietHours
from gateway.storage.contract.people import UserRow
from gateway.storage.contract.rows import OptOut, OptOutRow, Row, SuppressionRow

UNSUBSCRIBE_LINK = "unsubscribe link"
"""The source of an opt-out by the link in a message."""


class ChosenBy(StrEnum):
    """How a choice was made: by a service, on the preference page, by the link in a message, at a provider."""

    API = "api"
    PAGE = "page"
    LINK = "link"
    PROVIDER = "provider"


class PreferenceRow(Row, frozen=True, kw_only=True):
    """One choice: yes or no to a category (empty: all), on a channel (empty: all), by whom and when it was made so."""

    category: str
    channel: str
    allowed: bool
    source: ChosenBy
    updated_at: int

    @property
    def choice(self) -> Choice:
        """What it is about."""
        return (self.category, self.channel)


class PreferencesPut(Row, frozen=True, kw_only=True):
    """All that a person chooses, in place of what they chose before."""

    user_id: str
    cells: Mapping[Choice, bool]
    quiet_hours: QuietHours | None
    source: ChosenBy
    now: int


class PreferencesRow(Row, frozen=True, kw_only=True):
    """All that a person chose, and which of their addresses left which category."""

    user: UserRow
    cells: tuple[PreferenceRow, ...]
    quiet_source: ChosenBy | None
    quiet_at: int | None
    opt_outs: frozenset[OptOut]


class ConsentAsked(Row, frozen=True, kw_only=True):
    """Whom a delivery would reach. `key` is the address as lists are looked up; `None` for one that is on no list.

    `category` is `None` where it cannot be left by an address, `user_id` where the recipient is not stored.
    """

    channel: str
    key: str | None
    category: str | None
    user_id: str | None


class Consent(Row, frozen=True, kw_only=True):
    """What is known of them now. `timezone` is the stored one."""

    suppression: SuppressionRow | None = None
    opted_out: bool = False
    choices: Choices = NO_CHOICES
    timezone: str | None = None


class PreferenceStore(Protocol):
    """The verbs about choices."""

    async def consent(self, asked: ConsentAsked) -> Consent:
        """Look everything up that may have changed since a delivery was planned (gathers; reads)."""
        ...

    async def preferences(self, user_id: str) -> PreferencesRow | None:
        """Show what a person chose. `None`: there is no such user."""
        ...

    async def put_preferences(self, put: PreferencesPut) -> PreferencesRow | None:
        """Keep choices whole, in place of those before; one that stays as it was keeps its source and time.

        A yes that names a category and was not there before is the person's latest word: it takes back what their
        stored addresses said of that category by the link in a message. `None`: there is no such user.
        """
        ...

    async def leave(self, row: OptOutRow, user_id: str | None) -> None:
        """Note what the link in a message says: the address leaves the category, and its person does on this channel.

        Repeatable. A user who is there no more is passed over.
        """
        ...

    async def come_back(self, key: OptOut, user_id: str | None, now: int) -> None:
        """Take that back: the address may be written to again, and its person says yes to the category on this channel.

        Repeatable.
        """
        ...
