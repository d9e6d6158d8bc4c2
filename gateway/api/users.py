"""`/v1/users`: people and where they are reached. They are shared by all projects: one person, one say.

Owns the border. A key without the scope `read` gets stored addresses masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, Text, Time, given, listed, listing_name, unix_ms
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation, path_id
from gateway.api.problems import ProblemAnswer, problem_answer
from gateway.api.reading import decode_body
from gateway.errors import Code, Fault, Problem, invalid, not_found
from gateway.model import ids
from gateway.model.people import AddressRequest, UserItem, UserRequest
from gateway.model.requests import Request
from gateway.model.states import Scope
from gateway.observe.masking import mask_address
from gateway.router.answers import Answer, Listing, maybe_utc, utc
from gateway.storage.contract import (
    ADDRESSES_MOST,
    AddressRow,
    TooManyAddresses,
    UserFilter,
    UserKept,
    UserPut,
    UserRow,
)

_TAG: Final = "People"
_OK: Final = 200
_CREATED: Final = 201
_READERS: Final = (Scope.READ, Scope.MANAGE)

_EXAMPLE: Final = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "phone": "+15550100001",
    "locale": "en-GB",
    "timezone": "Europe/London",
    "addresses": [{"channel": "mobile_push", "address": "fcm-token-of-her-phone", "label": "Pixel 9"}],
    "attributes": {"plan": "pro"},
}


class UserQuery(ListQuery, frozen=True, kw_only=True):
    """Filters of the listing; every given one must match."""

    channel: Text | UnsetType = UNSET
    address: Annotated[str, Meta(min_length=1, max_length=4096, description="Needs `channel` unless it tells.")] | (
        UnsetType
    ) = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class AddressAnswer(Answer, frozen=True, kw_only=True):
    """Where a person is reached. `profile` marks the one shown as `email` or `phone`.

    A retired one was found dead (`retired_reason`) and is written to no more.
    """

    id: str
    channel: str
    address: str | dict[str, Any]
    label: str | None
    profile: bool
    created_at: str
    retired_at: str | None
    retired_reason: str | None


class UserAnswer(Answer, frozen=True, kw_only=True):
    """A person as stored."""

    id: str
    name: str | None
    email: str | None
    phone: str | None
    locale: str | None
    timezone: str | None
    addresses: list[AddressAnswer]
    attributes: dict[str, Any]
    created_at: str
    updated_at: str


class UsersRequest(Request, frozen=True, kw_only=True):
    """Up to 1,000 people at once."""

    users: list[UserItem]


class _RawUsers(Request, frozen=True, kw_only=True):
    """The same, with its items still to be read: each has its own fate."""

    users: list[msgspec.Raw]


class UserResult(Answer, frozen=True, kw_only=True):
    """What became of one item: 201 (new) or 200 with its id, or the status and the problem it would have got."""

    status: int
    id: str | UnsetType = UNSET
    error: ProblemAnswer | UnsetType = UNSET


class UsersAnswer(Answer, frozen=True, kw_only=True):
    """One result per item, in order."""

    results: list[UserResult]


class AddressList(Answer, frozen=True, kw_only=True):
    """All addresses of one person: there are never more than a page."""

    items: list[AddressAnswer]
    next_cursor: None = None


class AddressDeleted(Answer, frozen=True, kw_only=True):
    """What was forgotten."""

    id: str
    channel: str
    deleted: bool


_USER_ITEM: Final = msgspec.json.Decoder(UserItem)
_POSITION: Final = msgspec.json.Decoder(tuple[int, str])
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


async def put_user(context: ApiContext, call: Call[NoQuery, UserRequest]) -> Reply:
    """Keep a person whole, in place of what was stored before."""
    row = context.people.profile(call.path["user_id"], call.body, id_field="user_id")
    [kept] = await context.store.put_users([row])
    return json_reply(shown_user(kept.user, hide=_hides(call)), _CREATED if kept.created else _OK)


async def show_user(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one person."""
    return json_reply(shown_user(await find_user(context, call), hide=_hides(call)))


async def list_users(context: ApiContext, call: Call[UserQuery, None]) -> Reply:
    """List people, newest first."""
    query = call.query
    where = _filter(context, query)
    name = listing_name("users", where)
    after = None if isinstance(query.cursor, UnsetType) else _POSITION.decode(cursors.read(name, query.cursor))
    rows = await context.store.users(where, query.limit + 1, after)
    hide = _hides(call)
    return json_reply(listed(name, query, rows, lambda row: shown_user(row, hide=hide), _position))


def _filter(context: ApiContext, query: UserQuery) -> UserFilter:
    channel, address = given(query.channel), given(query.address)
    if address is not None and channel is None:
        channel = "email" if "@" in address else "sms" if address.startswith("+") else None
        if channel is None:
            raise invalid([Fault("channel", Code.REQUIRED, "Name the channel of the address.")])
    return UserFilter(
        channel=channel,
        key=None if address is None or channel is None else context.people.key(channel, address),
        since=unix_ms(query.since),
        until=unix_ms(query.until),
    )


async def put_users(context: ApiContext, call: Call[NoQuery, _RawUsers]) -> Reply:
    """Keep many people; one bad item does not sink the others."""
    items = call.body.users
    most = context.settings.limits.batch
    if not items:
        raise invalid([Fault("users", Code.TOO_SHORT, "Must not be empty.")])
    if len(items) > most:
        raise invalid([Fault("users", Code.TOO_MANY, f"Must have at most {most} entries, not {len(items)}.")])
    read = [_item(context, bytes(raw)) for raw in items]
    kept = iter(await context.store.put_users([one for one in read if not isinstance(one, Problem)]))
    results = [_refused(one, call.request_id) if isinstance(one, Problem) else _accepted(next(kept)) for one in read]
    return json_reply(UsersAnswer(results=results))


def _item(context: ApiContext, raw: bytes) -> UserPut | Problem:
    try:
        item = decode_body(raw, _USER_ITEM, UserItem)
        return context.people.profile(item.id, item, id_field="id")
    except Problem as problem:
        return problem


def _accepted(kept: UserKept) -> UserResult:
    return UserResult(status=_CREATED if kept.created else _OK, id=kept.user.id)


def _refused(problem: Problem, request_id: str) -> UserResult:
    return UserResult(status=problem.type.status, error=problem_answer(problem, request_id))


async def list_addresses(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """List where a person is reached, retired addresses included."""
    user = await find_user(context, call)
    return json_reply(AddressList(items=_shown_addresses(user.addresses, hide=_hides(call))))


async def add_address(context: ApiContext, call: Call[NoQuery, AddressRequest]) -> Reply:
    """Keep an address more; one that is there gets the new label, and lives again if it was retired."""
    user_id = call.path["user_id"]
    address = context.people.address(call.body)
    found = await context.store.add_address(user_id, address, context.clock()) if user_id.isprintable() else None
    match found:
        case None:
            raise not_found("user", user_id[:100])
        case TooManyAddresses():
            message = f"This person has {ADDRESSES_MOST} addresses already; delete one first."
            raise invalid([Fault("address", Code.TOO_MANY, message)])
        case AddressRow():
            return json_reply(_shown_addresses([found], hide=_hides(call))[0], _CREATED)


async def delete_address(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Forget an address."""
    id_ = path_id(call, "id", ids.ADDRESS, "address")
    user_id = call.path["user_id"]
    gone = await context.store.remove_address(user_id, id_) if user_id.isprintable() else None
    if gone is None:
        raise not_found("address", call.path["id"])
    return json_reply(AddressDeleted(id=ids.show(ids.ADDRESS, gone.id), channel=gone.channel, deleted=True))


async def find_user(context: ApiContext, call: Call[Any, Any]) -> UserRow:
    """Find the person whom the path names; raises the 404."""
    id_ = call.path["user_id"]
    found = await context.store.user(id_) if id_.isprintable() else None
    if found is None:
        raise not_found("user", id_[:100])
    return found


def _hides(call: Call[Any, Any]) -> bool:
    return not call.caller.may(Scope.READ)


def shown_user(user: UserRow, *, hide: bool) -> UserAnswer:
    """Show a person; `hide` masks their addresses."""
    profile = {one.channel: one.address for one in user.addresses if one.profile}
    email, phone = profile.get("email"), profile.get("sms")
    return UserAnswer(
        id=user.id,
        name=user.name,
        email=mask_address(email) if hide and email is not None else email,
        phone=mask_address(phone) if hide and phone is not None else phone,
        locale=user.locale,
        timezone=user.timezone,
        addresses=_shown_addresses(user.addresses, hide=hide),
        attributes=_OBJECT.decode(user.attributes),
        created_at=utc(user.created_at),
        updated_at=utc(user.updated_at),
    )


def _shown_addresses(rows: Sequence[AddressRow], *, hide: bool) -> list[AddressAnswer]:
    return [
        AddressAnswer(
            id=ids.show(ids.ADDRESS, row.id),
            channel=row.channel,
            address=_shown_address(row, hide=hide),
            label=row.label,
            profile=row.profile,
            created_at=utc(row.created_at),
            retired_at=maybe_utc(row.retired_at),
            retired_reason=row.retired_reason,
        )
        for row in rows
    ]


def _shown_address(row: AddressRow, *, hide: bool) -> str | dict[str, Any]:
    """Show an address as it was written: a browser's subscription as the object it is."""
    if row.channel != "web_push":
        return mask_address(row.address) if hide else row.address
    subscription = _OBJECT.decode(row.address)
    return {"endpoint": mask_address(str(subscription.get("endpoint", "")))} if hide else subscription


def _position(row: UserRow) -> bytes:
    return msgspec.json.encode((row.created_at, row.id))


OPERATIONS: Final = (
    Operation(
        id="putUser",
        method="PUT",
        path="/v1/users/{user_id}",
        tag=_TAG,
        summary="Store a person",
        description=(
            "Replaces the whole: what is not in the body is not kept, addresses included. An address that stays keeps "
            "its id. People are shared by all projects."
        ),
        act=put_user,
        scopes=(Scope.MANAGE,),
        body=BodyRule(type=UserRequest, examples={"whole": _EXAMPLE, "small": {"email": "ada@example.com"}}),
        answer=AnswerRule(type=UserAnswer, created=True, description="The person as stored."),
    ),
    Operation(
        id="getUser",
        method="GET",
        path="/v1/users/{user_id}",
        tag=_TAG,
        summary="Show a person",
        act=show_user,
        scopes=_READERS,
        answer=AnswerRule(type=UserAnswer, description="The person as stored."),
    ),
    Operation(
        id="listUsers",
        method="GET",
        path="/v1/users",
        tag=_TAG,
        summary="List people, newest first",
        act=list_users,
        scopes=_READERS,
        query=UserQuery,
        answer=AnswerRule(type=Listing[UserAnswer], description="A page."),
    ),
    Operation(
        id="putUsers",
        method="POST",
        path="/v1/users/batch",
        tag=_TAG,
        summary="Store up to 1,000 people",
        description="Each as `PUT` does, with its own result, in order: one bad item does not sink the others.",
        act=put_users,
        scopes=(Scope.MANAGE,),
        body=BodyRule(
            type=_RawUsers,
            shown=UsersRequest,
            examples={"two": {"users": [{"id": "42", **_EXAMPLE}, {"id": "43", "email": "bob@example.com"}]}},
        ),
        answer=AnswerRule(type=UsersAnswer, description="One result per item."),
    ),
    Operation(
        id="listAddresses",
        method="GET",
        path="/v1/users/{user_id}/addresses",
        tag=_TAG,
        summary="List where a person is reached",
        act=list_addresses,
        scopes=_READERS,
        answer=AnswerRule(type=AddressList, description="All of them."),
    ),
    Operation(
        id="addAddress",
        method="POST",
        path="/v1/users/{user_id}/addresses",
        tag=_TAG,
        summary="Add an address: a device, a browser's subscription",
        description="One that is there already keeps its id, gets the new label, and lives again if it was retired.",
        act=add_address,
        scopes=(Scope.MANAGE,),
        body=BodyRule(
            type=AddressRequest,
            examples={
                "device": {"channel": "mobile_push", "address": "fcm-token-of-her-phone", "label": "Pixel 9"},
                "browser": {
                    "channel": "web_push",
                    "address": {
                        "endpoint": "https://fcm.googleapis.com/fcm/send/…",
                        "keys": {"p256dh": "…", "auth": "…"},
                    },
                },
            },
        ),
        answer=AnswerRule(type=AddressAnswer, status=_CREATED, description="The address as stored."),
    ),
    Operation(
        id="deleteAddress",
        method="DELETE",
        path="/v1/users/{user_id}/addresses/{id}",
        tag=_TAG,
        summary="Forget an address",
        act=delete_address,
        scopes=(Scope.MANAGE,),
        answer=AnswerRule(type=AddressDeleted, description="It is forgotten."),
    ),
)
