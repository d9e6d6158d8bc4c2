"""Pages of listings: the parameters every listing shares, and one page out of rows.

Owns `limit`, `cursor`, `since`, `until` and the rule for `next_cursor`. Which rows there are is the store's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api import cursors
from gateway.api.reading import Query
from gateway.model.addresses import AddressFault, normalise_email, normalise_phone
from gateway.router.answers import Listing
from gateway.storage.contract import Page

R = TypeVar("R")
T = TypeVar("T")

Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Text = Annotated[str, Meta(min_length=1, max_length=320)]
_UUID_BYTES: Final = 16


class ListQuery(Query, frozen=True, kw_only=True):
    """What every listing takes."""

    limit: Annotated[int, Meta(ge=1, le=200, description="Entries per page.")] = 50
    cursor: Annotated[str, Meta(min_length=1, max_length=2000, description="`next_cursor` of the page before.")] | (
        UnsetType
    ) = UNSET


def given(value: T | UnsetType) -> T | None:
    """Read an optional parameter."""
    return None if isinstance(value, UnsetType) else value


def address_form(written: str | None) -> str | None:
    """Give the form in which addresses are stored; what cannot be one is looked for as it is, and not found."""
    if written is None:
        return None
    try:
        if "@" in written:
            return normalise_email(written)
        return normalise_phone(written) if written.startswith("+") else written
    except AddressFault:
        return written


def unix_ms(value: datetime | UnsetType | None) -> int | None:
    """Turn a time into Unix milliseconds; times before 1970 are its beginning."""
    if value is None or isinstance(value, UnsetType):
        return None
    return max(0, int(value.timestamp() * 1000))


def listing_name(name: str, where: Any) -> str:
    """Name a listing with its filters: a cursor belongs to both."""
    return f"{name}:{msgspec.json.encode(where).decode()}"


def page_of(listing: str, query: ListQuery) -> Page:
    """Make the store's page: one row more than asked for tells whether another page follows."""
    before = None if isinstance(query.cursor, UnsetType) else UUID(bytes=_position(listing, query.cursor))
    return Page(limit=query.limit + 1, before=before)


def _position(listing: str, cursor: str) -> bytes:
    position = cursors.read(listing, cursor)
    return position if len(position) == _UUID_BYTES else bytes(_UUID_BYTES)


def listed(
    listing: str,
    query: ListQuery,
    rows: Sequence[R],
    show: Callable[[R], T],
    position: Callable[[R], bytes],
    *,
    passed: UUID | None = None,
) -> Listing[T]:
    """Make one page out of the rows of `page_of`; `passed`: a short one, and there may be more beyond this id."""
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    last = position(shown[-1]) if more else None if passed is None else passed.bytes
    return Listing(
        items=[show(row) for row in shown],
        next_cursor=None if last is None else cursors.write(listing, last),
    )
