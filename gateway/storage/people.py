"""People: profiles and their addresses, many at once.

Owns the tables `users` and `addresses`. Whoever changes a person's addresses locks the person's row first, so that two
changes at once follow one another. Refuses to know what an address looks like: it comes normalised, with its key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, exists, select, tuple_

from gateway.model.addresses import list_key
from gateway.model.preferences import NO_CHOICES, Choices
from gateway.model.states import Why
from gateway.storage import choices
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run, uuid_of
from gateway.storage.contract import (
    ADDRESSES_MOST,
    AddressPut,
    AddressRow,
    SuppressionRow,
    TooManyAddresses,
    UserFilter,
    UserKept,
    UserPut,
    UserRow,
)
from gateway.storage.ledger import Books
from gateway.storage.schema import ADDRESSES, USERS

_PROFILE: Final = columns(
    user_id=Kind.TEXT,
    name=Kind.TEXT,
    locale=Kind.TEXT,
    timezone=Kind.TEXT,
    attributes=Kind.BYTES,
    created_at=Kind.INT,
    updated_at=Kind.INT,
)

_INSERT_USERS: Final = insert_into("users", _PROFILE, "ON CONFLICT (user_id) DO NOTHING RETURNING user_id")

_UPDATE_USERS: Final = Batch(
    """
    UPDATE users
    SET name = v.name, locale = v.locale, timezone = v.timezone, attributes = v.attributes, updated_at = v.updated_at
    FROM v
    WHERE users.user_id = v.user_id
    RETURNING users.user_id, users.created_at
    """,
    _PROFILE,
)

_FIND_USERS: Final = Batch(
    f"""
    SELECT u.user_id, u.name, u.locale, u.timezone, u.attributes, u.created_at, u.updated_at, {choices.QUIET_NAMES}
    FROM v JOIN users AS u ON u.user_id = v.user_id
    """,  # noqa: S608 - a constant
    columns(user_id=Kind.TEXT),
)

_LOCK_USER: Final = Query("SELECT u.user_id FROM users AS u WHERE u.user_id = $1 {lock u}")

_ADDRESS_NAMES: Final = (
    "a.user_id, a.id, a.channel, a.address, a.key, a.label, a.profile, a.created_at, a.retired_at, a.retired_reason"
)

_FIND_ADDRESSES: Final = Batch(
    f"SELECT {_ADDRESS_NAMES} FROM v JOIN addresses AS a ON a.user_id = v.user_id ORDER BY a.user_id, a.id",  # noqa: S608 - a constant
    columns(user_id=Kind.TEXT),
)

_FIND_LIVE_ADDRESSES: Final = Batch(
    f"""
    SELECT {_ADDRESS_NAMES} FROM v JOIN addresses AS a ON a.user_id = v.user_id
    WHERE a.retired_at IS NULL ORDER BY a.user_id, a.id
    """,  # noqa: S608 - a constant
    columns(user_id=Kind.TEXT),
)

_INSERT_ADDRESSES: Final = insert_into(
    "addresses",
    columns(
        id=Kind.ID,
        user_id=Kind.TEXT,
        channel=Kind.TEXT,
        address=Kind.TEXT,
        key=Kind.TEXT,
        label=Kind.TEXT,
        profile=Kind.BOOL,
        created_at=Kind.INT,
    ),
)

_UPDATE_ADDRESSES: Final = Batch(
    """
    UPDATE addresses
    SET address = v.address, label = v.label, profile = v.profile,
        retired_at = v.retired_at, retired_reason = v.retired_reason
    FROM v WHERE addresses.id = v.id
    """,
    columns(
        id=Kind.ID,
        address=Kind.TEXT,
        label=Kind.TEXT,
        profile=Kind.BOOL,
        retired_at=Kind.INT,
        retired_reason=Kind.TEXT,
    ),
)

_DELETE_ADDRESSES: Final = Batch("DELETE FROM addresses WHERE id IN (SELECT id FROM v)", columns(id=Kind.ID))

_DELETE_ADDRESS: Final = Query(
    """
    DELETE FROM addresses WHERE id = $1 AND user_id = $2
    RETURNING user_id, id, channel, address, key, label, profile, created_at, retired_at, retired_reason
    """,
)

_RETIRE: Final = Batch(
    """
    UPDATE addresses SET retired_at = v.at, retired_reason = v.reason
    FROM v
    WHERE addresses.user_id = v.user_id AND addresses.channel = v.channel AND addresses.key = v.key
        AND addresses.retired_at IS NULL
    """,
    columns(user_id=Kind.TEXT, channel=Kind.TEXT, key=Kind.TEXT, at=Kind.INT, reason=Kind.TEXT),
)


def put(conn: Connection, asked: Sequence[UserPut], *, books: Books) -> list[UserKept]:
    """Keep profiles whole. Of one that comes twice in a batch the later counts, and both get its answer."""
    last = {user.id: user for user in asked}
    # Sorted, so that two transactions that meet in several people wait for each other in one direction only.
    users = [last[id_] for id_ in sorted(last)]
    created = {row[0] for row in run(conn, _INSERT_USERS, [_profile_values(user) for user in users])}
    known = [_profile_values(user) for user in users if user.id not in created]
    since = {row[0]: row[1] for row in run(conn, _UPDATE_USERS, known)}
    before = _addresses(run(conn, _FIND_ADDRESSES, [(id_,) for id_ in since]))
    changes = [_changed(user, before.get(user.id, ()), books) for user in users]
    run(conn, _DELETE_ADDRESSES, [(id_,) for change in changes for id_ in change.gone])
    run(conn, _INSERT_ADDRESSES, [_new_values(change.user_id, row) for change in changes for row in change.new])
    run(conn, _UPDATE_ADDRESSES, [_kept_values(row) for change in changes for row in change.altered])
    kept = {
        user.id: UserKept(user=_kept(user, since.get(user.id, user.now), change.after), created=user.id in created)
        for user, change in zip(users, changes, strict=True)
    }
    return [kept[user.id] for user in asked]


def of(conn: Connection, asked: Sequence[Collection[str]]) -> list[dict[str, UserRow]]:
    """Find several callers' people, with their live addresses and choices, in three statements at most."""
    wanted = [(id_,) for id_ in sorted({id_ for ids in asked for id_ in ids})]
    found = _users(conn, wanted, _FIND_LIVE_ADDRESSES)
    return [{id_: found[id_] for id_ in ids if id_ in found} for ids in asked]


def one(conn: Connection, id_: str) -> UserRow | None:
    """Show one, retired addresses included."""
    return _users(conn, [(id_,)], _FIND_ADDRESSES).get(id_)


def listing(conn: Connection, where: UserFilter, limit: int, after: tuple[int, str] | None) -> list[UserRow]:
    """List newest first, strictly after the last row seen."""
    ids = [(row[0],) for row in conn.execute(listed(where, limit, after))]
    found = _users(conn, ids, _FIND_ADDRESSES)
    return [found[id_] for (id_,) in ids if id_ in found]


def listed(where: UserFilter, limit: int, after: tuple[int, str] | None) -> Select[Any]:
    """Write the query for the ids of a page."""
    u, a = USERS.c, ADDRESSES.c
    conditions: list[ColumnElement[bool]] = []
    if where.key is not None:
        mine = select(a.user_id).where(a.key == where.key, a.channel == where.channel)
        conditions.append(u.user_id.in_(mine))
    elif where.channel is not None:
        conditions.append(exists().where(a.user_id == u.user_id, a.channel == where.channel))
    if where.since is not None:
        conditions.append(u.created_at >= where.since)
    if where.until is not None:
        conditions.append(u.created_at < where.until)
    if after is not None:
        conditions.append(tuple_(u.created_at, u.user_id) < after)
    return select(u.user_id).where(*conditions).order_by(u.created_at.desc(), u.user_id.desc()).limit(limit)


def add_address(
    conn: Connection,
    user_id: str,
    address: AddressPut,
    now: int,
    *,
    books: Books,
) -> AddressRow | TooManyAddresses | None:
    """Keep one address more; one that is there gets the new label and lives again."""
    if not ask(conn, _LOCK_USER, user_id):
        return None
    rows = _addresses(run(conn, _FIND_ADDRESSES, [(user_id,)])).get(user_id, [])
    there = next((row for row in rows if (row.channel, row.key) == (address.channel, address.key)), None)
    if there is not None:
        again = msgspec.structs.replace(
            there, address=address.address, label=address.label, retired_at=None, retired_reason=None
        )
        run(conn, _UPDATE_ADDRESSES, [_kept_values(again)])
        return again
    if len(rows) >= ADDRESSES_MOST:
        return TooManyAddresses()
    new = _new_row(address, books, now)
    run(conn, _INSERT_ADDRESSES, [_new_values(user_id, new)])
    return new


def remove_address(conn: Connection, user_id: str, id_: UUID) -> AddressRow | None:
    """Forget one address; answers what it was."""
    rows = ask(conn, _DELETE_ADDRESS, id_, user_id)
    return _address(rows[0]) if rows else None


def retire(conn: Connection, suppressed: Iterable[tuple[str | None, SuppressionRow]]) -> None:
    """Write no more to what was found dead, where a user (the first of each pair) has it stored.

    Set-based, and part of the transaction that learns of it. A complaint or an opt-out says nothing about the address.
    """
    dead = {
        (user_id, row.channel, list_key(row.channel, row.address)): (row.created_at, row.reason)
        for user_id, row in suppressed
        if user_id is not None and row.reason is Why.ADDRESS_DEAD
    }
    run(conn, _RETIRE, [(*place, *dead[place]) for place in sorted(dead)])


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a new profile makes of a person's addresses."""

    user_id: str
    gone: list[UUID]
    new: list[AddressRow]
    altered: list[AddressRow]
    after: list[AddressRow]


def _changed(user: UserPut, before: Sequence[AddressRow], books: Books) -> _Change:
    """Compare the addresses that are wanted with those that are there. Touches nothing."""
    there = {(row.channel, row.key): row for row in before}
    wanted = {(one.channel, one.key) for one in user.addresses}
    new: list[AddressRow] = []
    altered: list[AddressRow] = []
    after: list[AddressRow] = []
    for one in user.addresses:
        old = there.get((one.channel, one.key))
        if old is None:
            row = _new_row(one, books, user.now)
            new.append(row)
        else:
            row = msgspec.structs.replace(old, address=one.address, label=one.label, profile=one.profile)
            if row != old:
                altered.append(row)
        after.append(row)
    return _Change(
        user_id=user.id,
        gone=[row.id for place, row in there.items() if place not in wanted],
        new=new,
        altered=altered,
        after=sorted(after, key=lambda row: row.id),
    )


def _users(conn: Connection, wanted: Sequence[tuple[str]], with_addresses: Batch) -> dict[str, UserRow]:
    rows = run(conn, _FIND_USERS, wanted)
    addresses = _addresses(run(conn, with_addresses, [(row[0],) for row in rows]))
    chosen = choices.choices_in(conn, {row[0]: (row[7], row[8], row[9], row[10]) for row in rows})
    return {row[0]: _user(row, addresses.get(row[0], ()), chosen.get(row[0], NO_CHOICES)) for row in rows}


def _user(row: Sequence[Any], addresses: Sequence[AddressRow], chosen: Choices) -> UserRow:
    return UserRow(
        id=row[0],
        name=row[1],
        locale=row[2],
        timezone=row[3],
        attributes=bytes(row[4]),
        created_at=row[5],
        updated_at=row[6],
        addresses=tuple(addresses),
        choices=chosen,
    )


def _kept(user: UserPut, created_at: int, addresses: Sequence[AddressRow]) -> UserRow:
    return UserRow(
        id=user.id,
        name=user.name,
        locale=user.locale,
        timezone=user.timezone,
        attributes=user.attributes,
        created_at=created_at,
        updated_at=user.now,
        addresses=tuple(addresses),
    )


def _addresses(rows: Iterable[Sequence[Any]]) -> Mapping[str, list[AddressRow]]:
    found: defaultdict[str, list[AddressRow]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(_address(row))
    return found


def _address(row: Sequence[Any]) -> AddressRow:
    return AddressRow(
        id=uuid_of(row[1]),
        channel=row[2],
        address=row[3],
        key=row[4],
        label=row[5],
        profile=bool(row[6]),
        created_at=row[7],
        retired_at=row[8],
        retired_reason=row[9],
    )


def _new_row(one: AddressPut, books: Books, now: int) -> AddressRow:
    return AddressRow(
        id=books.ids.new(now),
        channel=one.channel,
        address=one.address,
        key=one.key,
        label=one.label,
        profile=one.profile,
        created_at=now,
    )


def _profile_values(user: UserPut) -> Values:
    return (user.id, user.name, user.locale, user.timezone, user.attributes, user.now, user.now)


def _new_values(user_id: str, row: AddressRow) -> Values:
    return (row.id, user_id, row.channel, row.address, row.key, row.label, row.profile, row.created_at)


def _kept_values(row: AddressRow) -> Values:
    return (row.id, row.address, row.label, row.profile, row.retired_at, row.retired_reason)
