"""`/v1/users/{user_id}/inbox`: what lies in a person's inbox, and what they do with it.

Owns the border, for a service's back end (a key) and for a person's own page (an inbox token).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, given, listing_name
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation, path_id
from gateway.api.users import find_user
from gateway.errors import Code, Fault, Problem, invalid, not_found
from gateway.model import ids
from gateway.model.inbox import OF_ALL, Act
from gateway.model.requests import Request
from gateway.model.states import Scope
from gateway.router.answers import Answer, maybe_utc, utc
from gateway.router.inbox_tokens import TTL_MOST_S, TTL_S, InboxVisitor
from gateway.storage.contract import InboxFilter, InboxItem, InboxMark, InboxMarked

TAG: Final = "Inbox"
READERS: Final = (Scope.READ, Scope.MANAGE)
_CREATED: Final = 201
_NUMBER_BYTES: Final = 8
_DATA: Final = msgspec.json.Decoder(dict[str, Any])
_OWN: Final = frozenset({"url", "image_url", "actions"})

Flag = Literal["true", "false"]


class InboxQuery(ListQuery, frozen=True, kw_only=True):
    """Which items."""

    archived: Annotated[Flag, Meta(description="`true`: what was put away instead of what was not.")] = "false"
    unread: Annotated[Flag, Meta(description="`true`: only what was not read.")] = "false"


class ActionAnswer(Answer, frozen=True, kw_only=True):
    """A button of an item; its address is http or https."""

    label: str
    url: str


class InboxItemAnswer(Answer, frozen=True, kw_only=True):
    """An item. `html` is clean: what Markdown can become, and no more. `data` is what else its template says."""

    id: str
    notification_id: str
    delivery_id: str
    category: str
    title: str | None
    text: str | None
    html: str | None
    url: str | None
    image_url: str | None
    actions: list[ActionAnswer]
    data: dict[str, Any]
    created_at: str
    seen_at: str | None
    read_at: str | None
    archived_at: str | None
    expires_at: str | None


class InboxAnswer(Answer, frozen=True, kw_only=True):
    """A page, newest first; `unread` counts all that is neither read nor archived."""

    items: list[InboxItemAnswer]
    next_cursor: str | None
    unread: int


class MarkedItemAnswer(Answer, frozen=True, kw_only=True):
    """The item as it is now, and how many are unread in all."""

    item: InboxItemAnswer
    unread: int


class UpToRequest(Request, frozen=True, kw_only=True):
    """Up to which item: the newest that the person has in sight, so that what came after it is not swallowed."""

    up_to: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class MarkedAnswer(Answer, frozen=True, kw_only=True):
    """How many items changed, and how many are unread now."""

    changed: int
    unread: int


class TokenRequest(Request, frozen=True, kw_only=True):
    """How long a token is good for."""

    ttl_s: Annotated[int, Meta(ge=1, le=TTL_MOST_S)] = TTL_S


class TokenAnswer(Answer, frozen=True, kw_only=True):
    """A token for this person's inbox and nothing else."""

    token: str
    expires_at: str


async def show_inbox(context: ApiContext, call: Call[InboxQuery, None]) -> Reply:
    """Show a page of an inbox."""
    user_id, query = call.path["user_id"], call.query
    name = listing_name(f"inbox:{user_id}", [query.archived, query.unread])
    where = InboxFilter(
        user_id=user_id,
        project=call.caller.sees,
        archived=query.archived == "true",
        unread=query.unread == "true",
        limit=query.limit + 1,
        before=_before(name, query.cursor),
    )
    page = await context.store.inbox(where, context.clock()) if user_id.isprintable() else None
    if page is None:
        raise nobody(user_id)
    shown = page.items[: query.limit]
    more = len(page.items) > query.limit
    next_cursor = cursors.write(name, shown[-1].number.to_bytes(_NUMBER_BYTES)) if more else None
    return json_reply(
        InboxAnswer(items=[shown_item(one) for one in shown], next_cursor=next_cursor, unread=page.unread)
    )


def _before(listing: str, cursor: str | UnsetType) -> int | None:
    written = given(cursor)
    if written is None:
        return None
    position = cursors.read(listing, written)
    return int.from_bytes(position[:_NUMBER_BYTES])


async def mark_item(act: Act, context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Mark one item."""
    marked = await _mark(context, call, act, id_=path_id(call, "id", ids.INBOX, "item"))
    if marked is None or marked.item is None:
        raise not_found("item", call.path["id"])
    return json_reply(MarkedItemAnswer(item=shown_item(marked.item), unread=marked.unread))


async def mark_all(act: Act, context: ApiContext, call: Call[NoQuery, UpToRequest]) -> Reply:
    """Mark everything, up to an item and with it."""
    await find_user(context, call)
    written = call.body.up_to
    up_to = None if written is None else ids.read(ids.INBOX, written)
    marked = None if written is not None and up_to is None else await _mark(context, call, act, up_to=up_to)
    if marked is None:
        raise invalid([Fault("up_to", Code.INVALID, "There is no such item in this inbox.")])
    return json_reply(MarkedAnswer(changed=marked.changed, unread=marked.unread))


async def _mark(
    context: ApiContext, call: Call[Any, Any], act: Act, *, id_: UUID | None = None, up_to: UUID | None = None
) -> InboxMarked | None:
    user_id = call.path["user_id"]
    if not user_id.isprintable():
        raise nobody(user_id)
    mark = InboxMark(user_id=user_id, project=call.caller.sees, act=act, id=id_, up_to=up_to)
    marked = await context.store.mark_inbox(mark, context.clock())
    if marked is not None and marked.changed:
        context.live_inboxes.announce()
    return marked


async def mint_token(context: ApiContext, call: Call[NoQuery, TokenRequest]) -> Reply:
    """Write a token for a person's own page."""
    user = await find_user(context, call)
    expires_at = context.clock() // 1000 + call.body.ttl_s
    visitor = InboxVisitor(user_id=user.id, project=call.caller.project, expires_at=expires_at)
    token = context.inbox_tokens.mint(visitor)
    return json_reply(TokenAnswer(token=token, expires_at=utc(expires_at * 1000)), _CREATED)


def nobody(user_id: str) -> Problem:
    """Make the 404 for a person who is not there."""
    return not_found("user", user_id[:100])


def shown_item(row: InboxItem) -> InboxItemAnswer:
    """Show an item."""
    data = _DATA.decode(row.data)
    return InboxItemAnswer(
        id=ids.show(ids.INBOX, row.id),
        notification_id=ids.show(ids.NOTIFICATION, row.notification_id),
        delivery_id=ids.show(ids.DELIVERY, row.delivery_id),
        category=row.category,
        title=row.title,
        text=row.text,
        html=row.html,
        url=data.get("url"),
        image_url=data.get("image_url"),
        actions=[ActionAnswer(**one) for one in data.get("actions", ())],
        data={name: value for name, value in data.items() if name not in _OWN},
        created_at=utc(row.created_at),
        seen_at=maybe_utc(row.seen_at),
        read_at=maybe_utc(row.read_at),
        archived_at=maybe_utc(row.archived_at),
        expires_at=maybe_utc(row.expires_at),
    )


_SUMMARIES: Final = {
    Act.SEEN: "as seen",
    Act.READ: "as read",
    Act.UNREAD: "as not read",
    Act.ARCHIVE: "as put away",
    Act.UNARCHIVE: "as taken out again",
    Act.ACKNOWLEDGE: "as answered: a button of it was used",
}
_REPEATABLE: Final = (
    "Repeatable. Said of the delivery, too (`engagement`), so that a channel that waits to escalate is called off."
)


def _on_item(act: Act) -> Operation:
    return Operation(
        id=f"{act.value}InboxItem",
        method="POST",
        path=f"/v1/users/{{user_id}}/inbox/{{id}}/{act.value}",
        tag=TAG,
        summary=f"Mark an item {_SUMMARIES[act]}",
        description=_REPEATABLE
        if act not in (Act.UNREAD, Act.UNARCHIVE)
        else "Repeatable. Its delivery keeps its own.",
        act=partial(mark_item, act),
        scopes=(Scope.MANAGE,),
        personal=True,
        answer=AnswerRule(type=MarkedItemAnswer, description="The item as it is now."),
    )


def _on_all(act: Act) -> Operation:
    return Operation(
        id=f"{act.value}Inbox",
        method="POST",
        path=f"/v1/users/{{user_id}}/inbox/{act.value}",
        tag=TAG,
        summary=f"Mark all items {_SUMMARIES[act]}",
        description=f"With `up_to`, only that one and those that came before it. {_REPEATABLE}",
        act=partial(mark_all, act),
        scopes=(Scope.MANAGE,),
        personal=True,
        body=BodyRule(
            type=UpToRequest,
            required=False,
            default=UpToRequest(),
            examples={"all": {}, "in_sight": {"up_to": "inb_0195f3f0c5f07d0c9a3b2b1a0f9e8d7c"}},
        ),
        answer=AnswerRule(type=MarkedAnswer, description="What changed."),
    )


OPERATIONS: Final = (
    Operation(
        id="showInbox",
        method="GET",
        path="/v1/users/{user_id}/inbox",
        tag=TAG,
        summary="Show a person's inbox, newest first",
        description="What was sent to this person on the channel `inbox`, by the caller's project.",
        act=show_inbox,
        scopes=READERS,
        personal=True,
        query=InboxQuery,
        answer=AnswerRule(type=InboxAnswer, description="A page."),
    ),
    Operation(
        id="mintInboxToken",
        method="POST",
        path="/v1/users/{user_id}/inbox/token",
        tag=TAG,
        summary="Write a token for a person's own page",
        description=(
            "For your back end, which knows who has signed in. The token opens this person's inbox and nothing else, "
            "for an hour or as long as `ttl_s` says (a day at most). Send it as `Authorization: Bearer`."
        ),
        act=mint_token,
        scopes=(Scope.SEND, Scope.MANAGE),
        body=BodyRule(
            type=TokenRequest,
            required=False,
            default=TokenRequest(),
            examples={"short": {"ttl_s": 900}},
        ),
        answer=AnswerRule(type=TokenAnswer, status=_CREATED, description="The token, shown once."),
    ),
    *(_on_item(act) for act in Act),
    *(_on_all(act) for act in Act if act in OF_ALL),
)
