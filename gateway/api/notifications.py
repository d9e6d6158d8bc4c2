"""`/v1/notifications`: send, send many, explain, read, cancel.

Owns the border: what comes over HTTP becomes a call of the router or a question to the store, and the answer JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Header, Reply, json_reply
from gateway.api.listings import ListQuery, Text, Time, address_form, given, listed, listing_name, page_of, unix_ms
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation, path_id
from gateway.api.problems import ProblemAnswer, problem_answer
from gateway.api.reading import decode_body
from gateway.errors import CONFLICT, IDEMPOTENCY_KEY_REUSED, Code, Fault, Problem, invalid, not_found
from gateway.model import ids
from gateway.model.bodies import BUILT_IN, Bodies
from gateway.model.requests import BatchItem, Request, SendRequest
from gateway.model.states import NotificationStatus, Scope, Status
from gateway.router import answers
from gateway.router.accept import Answered
from gateway.router.answers import Answer, EventAnswer, Listing, NotificationAnswer, NotificationDetail
from gateway.router.explain import Explanation
from gateway.storage.contract import DeliveryView, EventView, NotificationFilter, NotificationView

_TAG: Final = "Notifications"
_KEY_MOST: Final = 255
_FIRST_VISIBLE, _LAST_VISIBLE = 0x20, 0x7E
_REPLAYED: Final[Header] = (b"idempotency-replayed", b"true")
_ACCEPTED: Final = 202

_EXAMPLES: Final = {
    "content": {
        "to": {"email": "ada@example.com"},
        "content": {"title": "Your order is on its way", "body": "It should arrive **tomorrow**."},
        "reference": "order-1842",
    },
    "template": {
        "to": [{"email": "ada@example.com", "name": "Ada", "locale": "de-AT"}],
        "template": "welcome",
        "data": {"start_url": "https://app.example.com/start"},
    },
}


class NotificationQuery(ListQuery, frozen=True, kw_only=True):
    """Filters of the listing; every given one must match."""

    status: NotificationStatus | UnsetType = UNSET
    channel: Text | UnsetType = UNSET
    category: Text | UnsetType = UNSET
    user: Text | UnsetType = UNSET
    address: Text | UnsetType = UNSET
    reference: Text | UnsetType = UNSET
    tag: Text | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class BatchRequest(Request, frozen=True, kw_only=True):
    """Up to 1,000 notifications at once."""

    notifications: list[BatchItem]


class _RawBatch(Request, frozen=True, kw_only=True):
    """The same, with its items still to be read: each has its own fate."""

    notifications: list[msgspec.Raw]


class BatchResult(Answer, frozen=True, kw_only=True):
    """What became of one item: `status` 202 and its notification, or the status and the problem it would have got."""

    status: int
    id: str | UnsetType = UNSET
    notification_status: NotificationStatus | UnsetType = UNSET
    mode: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    reference: str | UnsetType | None = UNSET
    status_url: str | UnsetType = UNSET
    deliveries: list[answers.DeliveryAnswer] | UnsetType = UNSET
    expanding: bool | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET
    error: ProblemAnswer | UnsetType = UNSET


class BatchAnswer(Answer, frozen=True, kw_only=True):
    """One result per item, in order."""

    results: list[BatchResult]


class CancelledDelivery(Answer, frozen=True, kw_only=True):
    """What happened to one delivery; `changed` says whether this call did it."""

    id: str
    status: Status
    changed: bool


class CancelAnswer(Answer, frozen=True, kw_only=True):
    """What happened to each delivery."""

    id: str
    deliveries: list[CancelledDelivery]


async def send(context: ApiContext, call: Call[NoQuery, SendRequest]) -> Reply:
    """Accept one notification."""
    key = idempotency_key(call.headers.get(b"idempotency-key"))
    answered = await context.accepting.send(call.caller, call.body, idempotency_key=key, body=call.raw)
    headers = (_REPLAYED,) if answered.replayed else ()
    return Reply(status=_ACCEPTED, body=answered.body, headers=headers)


def idempotency_key(header: bytes | None) -> str | None:
    """Read the `Idempotency-Key`; raises the 422 for one that is empty, too long or not printable ASCII."""
    if header is None:
        return None
    field = "Idempotency-Key"
    if not header:
        raise invalid([Fault(field, Code.TOO_SHORT, "Must not be empty.")])
    if len(header) > _KEY_MOST:
        raise invalid([Fault(field, Code.TOO_LONG, f"Must be at most {_KEY_MOST} characters long.")])
    if not all(_FIRST_VISIBLE <= byte <= _LAST_VISIBLE for byte in header):
        raise invalid([Fault(field, Code.INVALID, "Must be printable ASCII.")])
    return header.decode("ascii")


_RAW_BATCH: Final = msgspec.json.Decoder(_RawBatch)


async def send_batch(context: ApiContext, call: Call[NoQuery, _RawBatch]) -> Reply:
    """Accept many; one bad item does not sink the others."""
    items = call.body.notifications
    most = context.settings.limits.batch
    if not items:
        raise invalid([Fault("notifications", Code.TOO_SHORT, "Must not be empty.")])
    if len(items) > most:
        message = f"Must have at most {most} entries, not {len(items)}."
        raise invalid([Fault("notifications", Code.TOO_MANY, message)])
    shape = context.bodies.item
    decoder = msgspec.json.Decoder(shape)
    results = await context.accepting.batch(call.caller, [_item(bytes(raw), decoder, shape) for raw in items])
    parts = [_result(one, call.request_id) for one in results]
    return Reply(status=_ACCEPTED, body=b'{"results":[' + b",".join(parts) + b"]}")


def _item(
    raw: bytes, decoder: msgspec.json.Decoder[BatchItem], shape: type[BatchItem]
) -> tuple[BatchItem, bytes] | Problem:
    try:
        return decode_body(raw, decoder, shape), raw
    except Problem as problem:
        return problem


def _result(one: Answered | Problem, request_id: str) -> bytes:
    """Write one result. An accepted one is spliced: its JSON is ready, and there may be a thousand of them."""
    if isinstance(one, Problem):
        error = problem_answer(one, request_id)
        return msgspec.json.encode(BatchResult(status=one.type.status, error=error))
    replayed = b'"replayed":true,' if one.replayed else b""
    return one.body.replace(b'"status":', b'"status":202,%b"notification_status":' % replayed, 1)


async def explain(context: ApiContext, call: Call[NoQuery, SendRequest]) -> Reply:
    """Tell what a send would do."""
    return json_reply(await context.explaining.explain(call.caller, call.body))


async def list_notifications(context: ApiContext, call: Call[NotificationQuery, None]) -> Reply:
    """List notifications, newest first."""
    query = call.query
    where = NotificationFilter(
        project=call.caller.sees,
        status=given(query.status),
        channel=given(query.channel),
        category=given(query.category),
        user=given(query.user),
        address=address_form(given(query.address)),
        reference=given(query.reference),
        tag=given(query.tag),
        since=unix_ms(query.since),
        until=unix_ms(query.until),
    )
    name = listing_name("notifications", where)
    found = await context.store.notifications(where, page_of(name, query))
    rows = found.rows
    by_notification: dict[Any, list[DeliveryView]] = {}
    for row in await context.store.deliveries_of([row.id for row in rows[: query.limit]]):
        by_notification.setdefault(row.notification_id, []).append(row)

    def show(row: NotificationView) -> NotificationDetail:
        return _detail(context, call, row, by_notification.get(row.id, []))

    return json_reply(listed(name, query, rows, show, lambda row: row.id.bytes, passed=found.passed))


async def show_notification(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one notification as it stands."""
    view = await _find(context, call)
    deliveries = await context.store.deliveries(view.id)
    return json_reply(_detail(context, call, view, deliveries))


async def list_events(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List what happened to a notification, oldest first."""
    view = await _find(context, call)
    events = await context.store.events(view.id)
    name = f"events:{view.id.hex}"
    if not isinstance(call.query.cursor, UnsetType):
        events = _after(events, cursors.read(name, call.query.cursor))
    return json_reply(listed(name, call.query, events, answers.event, lambda row: row.id.bytes))


def _after(events: Sequence[EventView], position: bytes) -> list[EventView]:
    """Go on behind the event at `position`; an event that is gone ends the listing."""
    places = [index for index, event in enumerate(events) if event.id.bytes == position]
    return list(events[places[0] + 1 :]) if places else []


async def cancel(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Call back what is not yet sent."""
    id_ = path_id(call, "id", ids.NOTIFICATION, "notification")
    done = await context.changes.cancel(call.caller.sees, id_)
    if done is None:
        raise not_found("notification", call.path["id"])
    return json_reply(
        CancelAnswer(
            id=ids.show(ids.NOTIFICATION, id_),
            deliveries=[
                CancelledDelivery(id=ids.show(ids.DELIVERY, one.delivery_id), status=one.status, changed=one.changed)
                for one in done
            ],
        ),
    )


async def _find(context: ApiContext, call: Call[Any, None]) -> NotificationView:
    id_ = path_id(call, "id", ids.NOTIFICATION, "notification")
    view = await context.store.notification(call.caller.sees, id_)
    if view is None:
        raise not_found("notification", call.path["id"])
    return view


def _detail(
    context: ApiContext,
    call: Call[Any, None],
    view: NotificationView,
    deliveries: list[DeliveryView],
) -> NotificationDetail:
    url = f"{context.settings.public_url.rstrip('/')}/v1/notifications/{ids.show(ids.NOTIFICATION, view.id)}"
    return answers.notification(view, deliveries, status_url=url, hide=not call.caller.may(Scope.READ))


OPERATIONS: Final = (
    Operation(
        id="sendNotification",
        method="POST",
        path="/v1/notifications",
        tag=_TAG,
        summary="Send a notification",
        description=(
            "Answers 202 only after the notification and its planned deliveries are durably committed. "
            "With an `Idempotency-Key` the same request may be repeated without harm for 24 hours."
        ),
        act=send,
        scopes=(Scope.SEND,),
        body=BodyRule(type=SendRequest, attachments=True, examples=_EXAMPLES, headers=("Idempotency-Key",)),
        answer=AnswerRule(
            type=NotificationAnswer,
            status=_ACCEPTED,
            description="Accepted: it is on disk.",
            headers=("Idempotency-Replayed",),
        ),
        problems=(CONFLICT, IDEMPOTENCY_KEY_REUSED),
    ),
    Operation(
        id="sendBatch",
        method="POST",
        path="/v1/notifications/batch",
        tag=_TAG,
        summary="Send up to 1,000 notifications",
        description="Each item has its own result, in order: one bad item does not sink the others.",
        act=send_batch,
        scopes=(Scope.SEND,),
        body=BodyRule(
            type=_RawBatch,
            shown=BatchRequest,
            attachments=True,
            examples={"two": {"notifications": [_EXAMPLES["content"], _EXAMPLES["template"]]}},
        ),
        answer=AnswerRule(type=BatchAnswer, status=_ACCEPTED, description="One result per item."),
    ),
    Operation(
        id="explainNotification",
        method="POST",
        path="/v1/notifications/explain",
        tag=_TAG,
        summary="Tell what a send would do",
        description=(
            "The body of a send. Runs the same rules and rendering to the last step; stores and sends nothing. "
            "Answers, per recipient and channel, the decision, the rules that took part and the rendered message."
        ),
        act=explain,
        scopes=(Scope.SEND,),
        body=BodyRule(type=SendRequest, attachments=True, examples=_EXAMPLES),
        answer=AnswerRule(type=Explanation, description="The decisions."),
    ),
    Operation(
        id="listNotifications",
        method="GET",
        path="/v1/notifications",
        tag=_TAG,
        summary="List notifications, newest first",
        description="Shows at most 1,000 deliveries per page; each notification's `counts` are always complete.",
        act=list_notifications,
        scopes=(Scope.READ,),
        query=NotificationQuery,
        answer=AnswerRule(type=Listing[NotificationDetail], description="A page."),
    ),
    Operation(
        id="getNotification",
        method="GET",
        path="/v1/notifications/{id}",
        tag=_TAG,
        summary="Show a notification",
        description="Shows at most 1,000 deliveries; `counts` are always complete.",
        act=show_notification,
        scopes=(Scope.READ,),
        answer=AnswerRule(type=NotificationDetail, description="As it stands."),
    ),
    Operation(
        id="listNotificationEvents",
        method="GET",
        path="/v1/notifications/{id}/events",
        tag=_TAG,
        summary="List what happened to a notification, oldest first",
        act=list_events,
        scopes=(Scope.READ,),
        query=ListQuery,
        answer=AnswerRule(type=Listing[EventAnswer], description="A page."),
    ),
    Operation(
        id="cancelNotification",
        method="POST",
        path="/v1/notifications/{id}/cancel",
        tag=_TAG,
        summary="Call back what is not yet sent",
        description=(
            "Says per delivery what happened. A large send is called back in slices, and answered after the last; from "
            "the first on nothing more of it is handed out. What waits after an attempt whose answer was lost ends "
            "`unknown`. Cancelling what is already finished changes nothing."
        ),
        act=cancel,
        scopes=(Scope.SEND,),
        answer=AnswerRule(type=CancelAnswer, description="What happened to each delivery."),
    ),
)


def operations(bodies: Bodies) -> tuple[Operation, ...]:
    """List them as this installation knows them: with the keys of channels from elsewhere."""
    if bodies is BUILT_IN:
        return OPERATIONS
    batch = msgspec.defstruct(
        BatchRequest.__name__,
        [("notifications", list[bodies.item])],
        bases=(BatchRequest,),
        namespace={"__doc__": BatchRequest.__doc__},
        frozen=True,
        kw_only=True,
    )
    shapes: dict[Any, Any] = {SendRequest: bodies.send, BatchRequest: batch}

    def spoken(body: BodyRule) -> BodyRule:
        type_, shown = (shapes.get(one, one) for one in (body.type, body.shown))
        return msgspec.structs.replace(body, type=type_, shown=shown)

    return tuple(one if one.body is None else msgspec.structs.replace(one, body=spoken(one.body)) for one in OPERATIONS)
