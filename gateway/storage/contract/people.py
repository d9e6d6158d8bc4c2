"""People as the store keeps them: profiles and their addresses.

A user id is the services' own, any printable text. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from gateway.model.preferences import NO_CHOICES, Choices
from gateway.storage.contract.rows import Row

ADDRESSES_MOST = 100
"""Addresses of one person: more devices than anybody has, and few enough that a send to a thousand stays bounded."""


class AddressRow(Row, frozen=True, kw_only=True):
    """Where a person is reached on a channel.

    `key` is the address as suppressions are looked up. `profile` marks the one shown as `email` or `phone`. A retired
    one (`retired_at`, why in `retired_reason`) was found dead and is written to no more.
    """

    id: UUID
    channel: str
    address: str
    key: str
    label: str | None = None
    profile: bool = False
    created_at: int
    retired_at: int | None = None
    retired_reason: str | None = None


class UserRow(Row, frozen=True, kw_only=True):
    """A person. `attributes` is JSON the store never looks into; `addresses` in the order they came."""

    id: str
    name: str | None
    locale: str | None
    timezone: str | None
    attributes: bytes
    created_at: int
    updated_at: int
    addresses: tuple[AddressRow, ...] = ()
    choices: Choices = NO_CHOICES


class AddressPut(Row, frozen=True, kw_only=True):
    """An address to keep."""

    channel: str
    address: str
    key: str
    label: str | None = None
    profile: bool = False


class UserPut(Row, frozen=True, kw_only=True):
    """A profile to keep in place of the one before; no two of its addresses share channel and key."""

    id: str
    name: str | None
    locale: str | None
    timezone: str | None
    attributes: bytes
    addresses: tuple[AddressPut, ...]
    now: int


class UserKept(Row, frozen=True, kw_only=True):
    """The profile as it stands now, and whether it is new."""

    user: UserRow
    created: bool


class TooManyAddresses(Row, frozen=True, kw_only=True):
    """The person has as many addresses as may be kept: nothing was stored."""


class UserFilter(Row, frozen=True, kw_only=True):
    """Which people; every given field must match. `key` is an address's form for matching."""

    channel: str | None = None
    key: str | None = None
    since: int | None = None
    until: int | None = None


class PeopleStore(Protocol):
    """The verbs about people."""

    async def put_users(self, users: Sequence[UserPut]) -> Sequence[UserKept]:
        """Keep profiles whole, in place of those before (gathers; writes); one answer each, in order.

        An address that stays keeps its id, and stays retired if it was. The same user twice: the later one counts.
        """
        ...

    async def users_of(self, ids: Collection[str]) -> Mapping[str, UserRow]:
        """Bring everything that a send to these people needs (gathers; reads); unknown ones are left out.

        Their choices too. Live addresses only.
        """
        ...

    async def user(self, id_: str) -> UserRow | None:
        """Show one, retired addresses included."""
        ...

    async def users(self, where: UserFilter, limit: int, after: tuple[int, str] | None) -> list[UserRow]:
        """List newest first; `after` is the (created_at, id) of the last row seen."""
        ...

    async def add_address(self, user_id: str, address: AddressPut, now: int) -> AddressRow | TooManyAddresses | None:
        """Keep an address; one that is there gets the new label and lives again. `None`: there is no such user."""
        ...

    async def remove_address(self, user_id: str, id_: UUID) -> AddressRow | None:
        """Forget an address; answers what it was. `None`: this user has none of that id."""
        ...
