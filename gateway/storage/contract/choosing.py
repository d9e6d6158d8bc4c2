"""What people turn on the preference page: a few choices of many, the rest left as it is.

Owns the rows and verbs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from msgspec import UNSET, UnsetType

from gateway.model.preferences import Choice
from gateway.model.quiet import QuietHours
from gateway.storage.contract.preferences import ChosenBy, PreferencesRow
from gateway.storage.contract.rows import Row


class PreferencesChange(Row, frozen=True, kw_only=True):
    """Some of a person's choices; `None` takes one back. `quiet_hours` stay where they are `UNSET`.

    `address`: (channel, key) of the address whose link was used, which may be none of their stored ones.
    """

    user_id: str
    cells: Mapping[Choice, bool | None]
    quiet_hours: QuietHours | UnsetType | None = UNSET
    address: tuple[str, str]
    source: ChosenBy
    now: int


class AddressChange(Row, frozen=True, kw_only=True):
    """Which categories an address leaves, and to which it comes back."""

    channel: str
    address: str
    leaves: Collection[str]
    comes_back: Collection[str]
    source: str
    now: int


class ChoosingStore(Protocol):
    """The verbs of the preference page."""

    async def change_preferences(self, change: PreferencesChange) -> PreferencesRow | None:
        """Change some choices in one transaction; answers all of them. `None`: there is no such user. Repeatable.

        A yes is the person's own latest word on a cell: it takes back what any address of theirs said there, by a link
        or at a provider.
        """
        ...

    async def change_address(self, change: AddressChange) -> None:
        """Note what an address says for itself. Repeatable."""
        ...
