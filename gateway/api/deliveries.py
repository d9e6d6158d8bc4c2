"""`/v1/deliveries`: read and send again."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, Text, Time, given, listed, listing_name, page_of, unix_ms
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation, path_id
from gateway.errors import CONFLICT, Code, Fault, invalid, not_found
from gateway.model import ids
from gateway.model.requests import Request
from gateway.model.states import Scope, Status, Why
from gateway.router import answers
from gateway.router.answers import Answer, DeliveryAnswer, Listing
from gateway.storage.contract import DeliveryFilter

_TAG: Final = "Deliveries"
_ACCEPTED: Final = 202
_RETRY_MOST: Final = 1000
"""Deliveries that one call sends again; the answer lists each of them."""


class DeliveryQuery(ListQuery, frozen=True, kw_only=True):
    """Filters of the listing; every given one must match."""

    notification_id: Text | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    channel: Text | UnsetType = UNSET
    provider: Text | UnsetType = UNSET
    reason: Why | UnsetType = UNSET
    category: Text | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class RetryRequest(Request, frozen=True, kw_only=True):
    """`force` also sends again what is `unknown` and may have gone out."""

    force: bool = False


class RetryManyRequest(Request, frozen=True, kw_only=True):
    """Which failed deliveries to send again; every given filter must match, and at least one must be given."""

    ids: Annotated[list[str], Meta(min_length=1, max_length=_RETRY_MOST)] | None = None
    notification_id: str | None = None
    status: Status | Annotated[list[Status], Meta(min_length=1)] | None = None
    channel: Text | None = None
    provider: Text | None = None
    reason: Why | None = None
    category: Text | None = None
    since: Time | None = None
    until: Time | None = None
    force: bool = False
    limit: Annotated[int, Meta(ge=1, le=_RETRY_MOST)] = _RETRY_MOST


class RetriedAnswer(Answer, frozen=True, kw_only=True):
    """The new deliveries, each with `retry_of`."""

    deliveries: list[DeliveryAnswer]


async def show_delivery(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one delivery."""
    id_ = path_id(call, "id", ids.DELIVERY, "delivery")
    view = await context.store.delivery(call.caller.sees, id_)
    if view is None:
        raise not_found("delivery", call.path["id"])
    return json_reply(answers.delivery(view, hide=not call.caller.may(Scope.READ)))


async def list_deliveries(context: ApiContext, call: Call[DeliveryQuery, None]) -> Reply:
    """List deliveries, newest first."""
    query = call.query
    faults: list[Fault] = []
    status = given(query.status)
    where = DeliveryFilter(
        project=call.caller.sees,
        notification_id=_id(given(query.notification_id), ids.NOTIFICATION, "notification_id", faults),
        statuses=None if status is None else (status,),
        channel=given(query.channel),
        provider=given(query.provider),
        reason=given(query.reason),
        category=given(query.category),
        since=unix_ms(query.since),
        until=unix_ms(query.until),
    )
    if faults:
        raise invalid(faults)
    name = listing_name("deliveries", where)
    rows = await context.store.find_deliveries(where, page_of(name, query))
    hide = not call.caller.may(Scope.READ)
    page = listed(name, query, rows, lambda row: answers.delivery(row, hide=hide), lambda row: row.id.bytes)
    return json_reply(page)


async def retry(context: ApiContext, call: Call[NoQuery, RetryRequest]) -> Reply:
    """Send one again."""
    id_ = path_id(call, "id", ids.DELIVERY, "delivery")
    view = await context.changes.retry(call.caller.sees, id_, force=call.body.force)
    return json_reply(answers.delivery(view, hide=not call.caller.may(Scope.READ)), _ACCEPTED)


async def retry_many(context: ApiContext, call: Call[NoQuery, RetryManyRequest]) -> Reply:
    """Send again what failed and matches."""
    body = call.body
    faults: list[Fault] = []
    where = _filter(call.caller.sees, body, faults)
    if where == DeliveryFilter(project=where.project) and not faults:
        faults.append(Fault("", Code.REQUIRED, "Give at least one filter, such as since or notification_id."))
    if faults:
        raise invalid(faults)
    views = await context.changes.retry_many(call.caller.sees, where, force=body.force, limit=body.limit)
    hide = not call.caller.may(Scope.READ)
    return json_reply(RetriedAnswer(deliveries=[answers.delivery(view, hide=hide) for view in views]), _ACCEPTED)


def _filter(project: str | None, body: RetryManyRequest, faults: list[Fault]) -> DeliveryFilter:
    chosen = None
    if body.ids is not None:
        read = [_id(text, ids.DELIVERY, f"ids[{index}]", faults) for index, text in enumerate(body.ids)]
        chosen = tuple(one for one in read if one is not None)
    statuses = [body.status] if isinstance(body.status, Status) else body.status
    return DeliveryFilter(
        project=project,
        ids=chosen,
        notification_id=_id(body.notification_id, ids.NOTIFICATION, "notification_id", faults),
        statuses=None if statuses is None else tuple(statuses),
        channel=body.channel,
        provider=body.provider,
        reason=body.reason,
        category=body.category,
        since=unix_ms(body.since),
        until=unix_ms(body.until),
    )


def _id(text: str | None, prefix: str, field: str, faults: list[Fault]) -> UUID | None:
    if text is None:
        return None
    value = ids.read(prefix, text)
    if value is None:
        faults.append(Fault(field, Code.INVALID, f"Must be an id that begins with {prefix}_."))
    return value


OPERATIONS: Final = (
    Operation(
        id="getDelivery",
        method="GET",
        path="/v1/deliveries/{id}",
        tag=_TAG,
        summary="Show a delivery with its attempts",
        act=show_delivery,
        scopes=(Scope.READ,),
        answer=AnswerRule(type=DeliveryAnswer, description="As it stands."),
    ),
    Operation(
        id="listDeliveries",
        method="GET",
        path="/v1/deliveries",
        tag=_TAG,
        summary="List deliveries, newest first",
        act=list_deliveries,
        scopes=(Scope.READ,),
        query=DeliveryQuery,
        answer=AnswerRule(type=Listing[DeliveryAnswer], description="A page."),
    ),
    Operation(
        id="retryDelivery",
        method="POST",
        path="/v1/deliveries/{id}/retry",
        tag=_TAG,
        summary="Send a failed delivery again",
        description=(
            "Makes a new delivery with `retry_of`. One that has not failed is a 409 (`not_retryable`); "
            "one that is `unknown` may have gone out and needs `force`."
        ),
        act=retry,
        scopes=(Scope.SEND,),
        body=BodyRule(type=RetryRequest, required=False, default=RetryRequest(), examples={"force": {"force": True}}),
        answer=AnswerRule(type=DeliveryAnswer, status=_ACCEPTED, description="The new delivery."),
        problems=(CONFLICT,),
    ),
    Operation(
        id="retryDeliveries",
        method="POST",
        path="/v1/deliveries/retry",
        tag=_TAG,
        summary="Send again what failed, by filter",
        description=f"At most {_RETRY_MOST} at once newest first; call again until the answer is empty.",
        act=retry_many,
        scopes=(Scope.SEND,),
        body=BodyRule(
            type=RetryManyRequest,
            examples={"outage": {"provider": "smtp-main", "since": "2026-11-23T09:00:00Z"}},
        ),
        answer=AnswerRule(type=RetriedAnswer, status=_ACCEPTED, description="The new deliveries."),
        problems=(CONFLICT,),
    ),
)
