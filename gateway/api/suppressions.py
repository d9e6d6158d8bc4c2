"""`/v1/suppressions`: addresses never written to. They are one list for all projects."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, Text, given, listed, listing_name
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation
from gateway.errors import Code, Fault, Problem, invalid, not_found
from gateway.model.addresses import AddressFault, match_key, normalise_email, normalise_phone
from gateway.model.requests import Key, Request, Url
from gateway.model.states import Scope, Why
from gateway.observe.masking import mask_address
from gateway.router.answers import Answer, Listing, utc
from gateway.storage.contract import SuppressionRow

_TAG: Final = "Suppressions"
_CREATED: Final = 201
_BY_HAND: Final = "api"
_CHANNELS: Final = frozenset({"email", "slack", "discord", "sms", "web_push", "mobile_push", "webhook"})
"""Known whether configured or not: an address may be put on the list before its channel is set up."""


class SuppressionQuery(ListQuery, frozen=True, kw_only=True):
    """Filters of the listing."""

    channel: Text | UnsetType = UNSET
    address: Annotated[str, Meta(min_length=1, max_length=2048)] | UnsetType = UNSET


class SuppressRequest(Request, frozen=True, kw_only=True):
    """An address to be written to no more."""

    channel: Key
    address: Url
    detail: Annotated[str, Meta(max_length=500)] | None = None


class SuppressionAnswer(Answer, frozen=True, kw_only=True):
    """An address never written to, why, and who said so (`api`, or a provider's name).

    With a `sender` (a number, a messaging service) it is not written to by that one: the person sent it STOP.
    """

    channel: str
    address: str
    sender: str | None
    reason: Why
    source: str
    detail: str | None
    created_at: str


class UnsuppressedAnswer(Answer, frozen=True, kw_only=True):
    """What was taken off the list."""

    channel: str
    address: str
    deleted: bool


_POSITION: Final = msgspec.json.Decoder(tuple[int, str, str, str])


async def list_suppressions(context: ApiContext, call: Call[SuppressionQuery, None]) -> Reply:
    """List newest first."""
    query = call.query
    channel, address = given(query.channel), given(query.address)
    if address is not None:
        address = _looked_up(channel or _guess(address), address)
    name = listing_name("suppressions/2", (channel, address))  # cursors of before there were senders: no more
    after = None
    if not isinstance(query.cursor, UnsetType):
        after = _POSITION.decode(cursors.read(name, query.cursor))
    rows = await context.store.list_suppressions(
        channel=channel,
        address=address,
        limit=query.limit + 1,
        after=after,
    )
    if not rows and after is None and channel is not None and address is not None:
        # Of an erased person the list has a hash alone: found by who knows the address, shown to nobody else.
        forgotten = await context.store.suppressed(channel, address)
        rows = [] if forgotten is None else [forgotten]
    return json_reply(listed(name, query, rows, shown_suppression, _position))


async def suppress(context: ApiContext, call: Call[NoQuery, SuppressRequest]) -> Reply:
    """Put an address on the list; one that is there already stays as it was."""
    body = call.body
    known = _CHANNELS | context.settings.channels.keys()
    if body.channel not in known:
        message = f"There is no such channel; there are {', '.join(sorted(known))}."
        raise invalid([Fault("channel", Code.UNKNOWN_CHANNEL, message)])
    address = _normalised(body.channel, body.address)
    row = SuppressionRow(
        channel=body.channel,
        address=address,
        reason=Why.SUPPRESSED,
        source=_BY_HAND,
        detail=body.detail,
        created_at=context.clock(),
    )
    if await context.store.suppress(row):
        return json_reply(shown_suppression(row), _CREATED)
    found = await context.store.suppressed(body.channel, address)
    return json_reply(shown_suppression(found or row), _CREATED)


async def unsuppress(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Take an address off the list, for every sender."""
    channel, written = call.path["channel"], call.path["address"]
    if "\0" in channel or "\0" in written or not written:
        raise not_found("suppression", "of that address")
    address = _looked_up(channel, written)
    if not await context.store.unsuppress(channel, address):
        raise not_found("suppression", f"{channel[:40]}/{mask_address(address[:80])}")
    return json_reply(UnsuppressedAnswer(channel=channel, address=address, deleted=True))


def _normalised(channel: str, address: str) -> str:
    """Give the form under which deliveries look an address up; raises the 422 for what is no address."""
    try:
        match channel:
            case "email":
                return match_key(normalise_email(address))
            case "sms":
                return normalise_phone(address)
            case _:
                return address
    except AddressFault as fault:
        raise invalid([Fault("address", fault.code, str(fault))]) from fault


def _looked_up(channel: str, address: str) -> str:
    """Give the form to look for; what is no address is looked for as it is, and not found."""
    try:
        return _normalised(channel, address)
    except Problem:
        return address


def _guess(address: str) -> str:
    return "email" if "@" in address else ""


def shown_suppression(row: SuppressionRow) -> SuppressionAnswer:
    """Show an address on the list."""
    return SuppressionAnswer(
        channel=row.channel,
        address=row.address,
        sender=row.sender,
        reason=row.reason,
        source=row.source,
        detail=row.detail,
        created_at=utc(row.created_at),
    )


def _position(row: SuppressionRow) -> bytes:
    return msgspec.json.encode((row.created_at, row.channel, row.address, row.sender or ""))


OPERATIONS: Final = (
    Operation(
        id="listSuppressions",
        method="GET",
        path="/v1/suppressions",
        tag=_TAG,
        summary="List the addresses never written to, newest first",
        act=list_suppressions,
        scopes=(Scope.READ,),
        query=SuppressionQuery,
        answer=AnswerRule(type=Listing[SuppressionAnswer], description="A page."),
    ),
    Operation(
        id="addSuppression",
        method="POST",
        path="/v1/suppressions",
        tag=_TAG,
        summary="Never write to an address again",
        description="An address that is on the list already stays as it was.",
        act=suppress,
        scopes=(Scope.MANAGE,),
        body=BodyRule(
            type=SuppressRequest,
            examples={"by hand": {"channel": "email", "address": "ada@example.com", "detail": "Asked by phone."}},
        ),
        answer=AnswerRule(type=SuppressionAnswer, status=_CREATED, description="It is on the list."),
    ),
    Operation(
        id="deleteSuppression",
        method="DELETE",
        path="/v1/suppressions/{channel}/{address}",
        tag=_TAG,
        summary="Take an address off the list",
        description="For every sender: what was suppressed altogether, and what was stopped by STOP.",
        act=unsuppress,
        scopes=(Scope.MANAGE,),
        answer=AnswerRule(type=UnsuppressedAnswer, description="It is off the list."),
    ),
)
