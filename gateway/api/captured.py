"""`/v1/captured`: what would have gone out.

Owns the shape of a captured message over HTTP and the waiting for one. What is captured, and when, is the router's
affair.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, Text, Time, address_form, given, listed, listing_name, page_of, unix_ms
from gateway.api.operation import AnswerRule, NoQuery, Operation, path_id
from gateway.api.reading import Query
from gateway.errors import NOTHING_CAPTURED, UNAVAILABLE, Code, Fault, Problem, invalid, not_found
from gateway.model import ids
from gateway.model.states import Scope
from gateway.router.answers import Answer, Listing, utc
from gateway.storage.contract import CapturedFilter, CapturedRow, Page

_TAG: Final = "Captured messages"
_ASK_AGAIN_S: Final = 1.0
"""How often a waiter asks the store by itself: what another process captured wakes nobody here."""
_WAITERS_MOST: Final = 200
"""Each may hold a connection for a minute."""


class CapturedQuery(ListQuery, frozen=True, kw_only=True):
    """Filters of the listing; every given one must match."""

    channel: Text | UnsetType = UNSET
    to: Text | UnsetType = UNSET
    notification_id: Text | UnsetType = UNSET
    reference: Text | UnsetType = UNSET
    contains: Text | UnsetType = UNSET
    since: Time | UnsetType = UNSET


class WaitQuery(Query, frozen=True, kw_only=True):
    """What to wait for, and how long."""

    channel: Text | UnsetType = UNSET
    to: Text | UnsetType = UNSET
    notification_id: Text | UnsetType = UNSET
    reference: Text | UnsetType = UNSET
    contains: Annotated[Text, Meta(description="Looked for in subject and text, case-insensitively.")] | UnsetType = (
        UNSET
    )
    since: Time | UnsetType = UNSET
    timeout_s: Annotated[int, Meta(ge=0, le=60, description="How long to wait.")] = 30


class CapturedAttachment(Answer, frozen=True, kw_only=True):
    """A file. `content` (base64) is in the single message, not in listings."""

    filename: str
    content_type: str
    content_id: str | None = None
    content: str | UnsetType = UNSET


class RawEncoding(StrEnum):
    """How `raw` is written: as it is where it is UTF-8, else in base64."""

    TEXT = "text"
    BASE64 = "base64"


class CapturedAnswer(Answer, frozen=True, kw_only=True):
    """A message that was kept instead of sent. `raw` is in the single message, not in listings."""

    id: str
    delivery_id: str
    notification_id: str
    channel: str
    to: str
    original_to: str
    subject: str | None
    text: str | None
    html: str | None
    data: dict[str, Any]
    headers: dict[str, Any]
    attachments: list[CapturedAttachment]
    reference: str | None
    created_at: str
    raw: str | UnsetType = UNSET
    raw_encoding: RawEncoding | UnsetType = UNSET


class DeletedAnswer(Answer, frozen=True, kw_only=True):
    """How many were deleted."""

    deleted: int


_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_ATTACHMENTS: Final = msgspec.json.Decoder(list[CapturedAttachment])


def captured_answer(row: CapturedRow, *, whole: bool) -> CapturedAnswer:
    """Show a captured message; `whole` with its raw form and its files' contents."""
    attachments = _ATTACHMENTS.decode(row.attachments) if row.attachments else []
    if not whole:
        attachments = [msgspec.structs.replace(one, content=UNSET) for one in attachments]
    raw, encoding = _readable(row.raw) if whole else (UNSET, UNSET)
    return CapturedAnswer(
        id=ids.show(ids.CAPTURED, row.id),
        delivery_id=ids.show(ids.DELIVERY, row.delivery_id),
        notification_id=ids.show(ids.NOTIFICATION, row.notification_id),
        channel=row.channel,
        to=row.to,
        original_to=row.original_to,
        subject=row.subject,
        text=row.text,
        html=row.html,
        data=_OBJECT.decode(row.data) if row.data else {},
        headers=_OBJECT.decode(row.headers) if row.headers else {},
        attachments=attachments,
        reference=row.reference,
        created_at=utc(row.created_at),
        raw=raw,
        raw_encoding=encoding,
    )


def _readable(raw: bytes) -> tuple[str, RawEncoding]:
    try:
        return raw.decode(), RawEncoding.TEXT
    except UnicodeDecodeError:
        return b64encode(raw).decode("ascii"), RawEncoding.BASE64


def _filter(project: str | None, query: CapturedQuery | WaitQuery) -> CapturedFilter:
    notification_id = None
    if not isinstance(query.notification_id, UnsetType):
        notification_id = ids.read(ids.NOTIFICATION, query.notification_id)
        if notification_id is None:
            raise invalid([Fault("notification_id", Code.INVALID, "Must be an id that begins with ntf_.")])
    return CapturedFilter(
        project=project,
        channel=given(query.channel),
        to=address_form(given(query.to)),
        notification_id=notification_id,
        reference=given(query.reference),
        contains=given(query.contains),
        since=unix_ms(query.since),
    )


async def list_captured(context: ApiContext, call: Call[CapturedQuery, None]) -> Reply:
    """List captured messages, newest first."""
    where = _filter(call.caller.sees, call.query)
    name = listing_name("captured", where)
    rows = await context.store.captured(where, page_of(name, call.query))
    page = listed(name, call.query, rows, lambda row: captured_answer(row, whole=False), lambda row: row.id.bytes)
    return json_reply(page)


async def show_captured(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one, rendered and raw."""
    id_ = path_id(call, "id", ids.CAPTURED, "captured message")
    row = await context.store.captured_one(call.caller.sees, id_)
    if row is None:
        raise not_found("captured message", call.path["id"])
    return json_reply(captured_answer(row, whole=True))


class Waiting:
    """Holds requests until something matches. Counts its waiters, so that they cannot take every connection."""

    def __init__(self) -> None:
        self._waiters = 0

    async def wait(self, context: ApiContext, call: Call[WaitQuery, None]) -> Reply:
        """Answer the newest match, at the latest when it comes in; raises the 404 when none did."""
        if self._waiters >= _WAITERS_MOST:
            raise Problem(UNAVAILABLE, f"{_WAITERS_MOST} requests wait already.", retry_after_s=1)
        self._waiters += 1
        try:
            row = await _await_captured(context, _filter(call.caller.sees, call.query), call.query.timeout_s)
        finally:
            self._waiters -= 1
        if row is None:
            raise Problem(NOTHING_CAPTURED, f"Nothing that matches was captured within {call.query.timeout_s} seconds.")
        return json_reply(captured_answer(row, whole=True))


async def _await_captured(context: ApiContext, where: CapturedFilter, timeout_s: int) -> CapturedRow | None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + timeout_s
    while True:
        signal = context.captured_hub.signal()
        rows = await context.store.captured(where, Page(limit=1))
        whole = await context.store.captured_one(where.project, rows[0].id) if rows else None
        if whole is not None:  # listings come without `raw`; one that was just cleared is waited for again
            return whole
        if context.captured_hub.closed:
            raise Problem(UNAVAILABLE, "The gateway is stopping; ask again.", retry_after_s=1)
        left_s = ends_at - loop.time()
        if left_s <= 0:
            return None
        await context.captured_hub.wait(signal, min(left_s, _ASK_AGAIN_S))


async def clear_captured(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Delete them all."""
    return json_reply(DeletedAnswer(deleted=await context.store.clear_captured(call.caller.sees)))


def operations() -> tuple[Operation, ...]:
    """List the operations; each call counts its own waiters."""
    return (
        Operation(
            id="listCaptured",
            method="GET",
            path="/v1/captured",
            tag=_TAG,
            summary="List captured messages, newest first",
            act=list_captured,
            scopes=(Scope.READ,),
            query=CapturedQuery,
            answer=AnswerRule(type=Listing[CapturedAnswer], description="A page."),
        ),
        Operation(
            id="getCaptured",
            method="GET",
            path="/v1/captured/{id}",
            tag=_TAG,
            summary="Show a captured message, rendered and raw",
            description="`raw` is what would have gone over the wire: text, or base64 where it is not UTF-8.",
            act=show_captured,
            scopes=(Scope.READ,),
            answer=AnswerRule(type=CapturedAnswer, description="The message."),
        ),
        Operation(
            id="waitForCaptured",
            method="GET",
            path="/v1/captured/wait",
            tag=_TAG,
            summary="Wait for a captured message",
            description=(
                "For end-to-end tests. Holds until a message that matches is captured; answers at once with one that "
                "was captured before, newest first (`since` narrows). 404 `nothing-captured` at the end."
            ),
            act=Waiting().wait,
            scopes=(Scope.READ,),
            query=WaitQuery,
            answer=AnswerRule(type=CapturedAnswer, description="The message."),
            problems=(NOTHING_CAPTURED,),
        ),
        Operation(
            id="clearCaptured",
            method="DELETE",
            path="/v1/captured",
            tag=_TAG,
            summary="Delete the captured messages",
            description="Those of the key's project; with the scope `admin`, all of them.",
            act=clear_captured,
            scopes=(Scope.SEND, Scope.MANAGE),
            answer=AnswerRule(type=DeletedAnswer, description="How many."),
        ),
    )
