"""The store's verbs about people, each handed to the room that owns its statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from uuid import UUID

from gateway.storage import people
from gateway.storage.contract import (
    AddressPut,
    AddressRow,
    TooManyAddresses,
    UserFilter,
    UserKept,
    UserPut,
    UserRow,
)
from gateway.storage.database import Database, Verb
from gateway.storage.ledger import Books


class PeopleVerbs:
    """The part of `SqlStore` that knows people."""

    _db: Database
    _books: Books

    def _prepare_people(self) -> None:
        """Make the verbs that gather; called once the books are there."""
        self._put_users: Verb[UserPut, UserKept] = Verb(
            "put_users",
            partial(people.put, books=self._books),
            weight=lambda user: len(user.attributes) + 512 * (1 + len(user.addresses)),
        )
        self._users_of: Verb[Collection[str], dict[str, UserRow]] = Verb("users_of", people.of)

    async def put_users(self, users: Sequence[UserPut]) -> Sequence[UserKept]:
        """Keep profiles whole."""
        return await self._db.gather_writes(self._put_users, users) if users else []

    async def users_of(self, ids: Collection[str]) -> Mapping[str, UserRow]:
        """Bring everything that a send to these people needs."""
        return await self._db.gather_read(self._users_of, ids) if ids else {}

    async def user(self, id_: str) -> UserRow | None:
        """Show one."""
        return await self._db.read(lambda conn: people.one(conn, id_))

    async def users(self, where: UserFilter, limit: int, after: tuple[int, str] | None) -> list[UserRow]:
        """List newest first."""
        return await self._db.read(lambda conn: people.listing(conn, where, limit, after))

    async def add_address(self, user_id: str, address: AddressPut, now: int) -> AddressRow | TooManyAddresses | None:
        """Keep one address more."""
        books = self._books
        return await self._db.write(lambda conn: people.add_address(conn, user_id, address, now, books=books))

    async def remove_address(self, user_id: str, id_: UUID) -> AddressRow | None:
        """Forget one address."""
        return await self._db.write(lambda conn: people.remove_address(conn, user_id, id_))
