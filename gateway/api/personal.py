"""All that is held about one person: `GET /v1/users/{user_id}/export`, and `DELETE /v1/users/{user_id}`.

Owns the border. What is a person's is the store's to know.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.api import cursors
from gateway.api.captured import CapturedAnswer, captured_answer
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.inbox import InboxItemAnswer, shown_item
from gateway.api.listings import ListQuery, page_of
from gateway.api.operation import AnswerRule, NoQuery, Operation
from gateway.api.preferences import QuietHoursAnswer, shown_quiet_hours
from gateway.api.suppressions import SuppressionAnswer, shown_suppression
from gateway.api.topics import SubscriberAnswer, shown_subscriber
from gateway.api.users import UserAnswer, shown_user
from gateway.errors import Problem, not_found
from gateway.model import ids
from gateway.model.states import Scope
from gateway.router import answers
from gateway.router.answers import Answer, DeliveryAnswer, EventAnswer, utc
from gateway.storage.contract import EchoRow, PreferenceRow

_TAG: Final = "People"


class _Carried(msgspec.Struct, frozen=True):
    """The stored request of a notification that carries an event."""

    event: dict[str, Any]


_CARRIED: Final = msgspec.json.Decoder(_Carried).decode


class ExportQuery(ListQuery, frozen=True, kw_only=True):
    """How much at once."""

    limit: Annotated[int, Meta(ge=1, le=200, description="Deliveries per page.")] = 200


class OptOutAnswer(Answer, frozen=True, kw_only=True):
    """A category that an address wants no more of."""

    channel: str
    address: str
    category: str
    source: str
    created_at: str


class ChoiceAnswer(Answer, frozen=True, kw_only=True):
    """One choice: wanted or not, of a category (`null`: of all), on a channel (`null`: on all).

    `source` is `api`, `page`, `link` (in a message) or `provider`.
    """

    category: str | None
    channel: str | None
    allowed: bool
    source: str
    updated_at: str


class WebhookEventAnswer(Answer, frozen=True, kw_only=True):
    """An event about the person that a webhook got or will get: `event` is its body, `status` its delivery's."""

    delivery_id: str
    webhook_id: str
    status: str
    created_at: str
    event: dict[str, Any]


class ExportAnswer(Answer, frozen=True, kw_only=True):
    """All that is held about one person. `next_cursor` leads to older deliveries; the rest is in every page, whole."""

    user: UserAnswer
    preferences: list[ChoiceAnswer]
    quiet_hours: QuietHoursAnswer | None
    deliveries: list[DeliveryAnswer]
    events: list[EventAnswer]
    captured: list[CapturedAnswer]
    suppressions: list[SuppressionAnswer]
    opt_outs: list[OptOutAnswer]
    inbox: list[InboxItemAnswer]
    topics: list[SubscriberAnswer]
    webhook_events: list[WebhookEventAnswer]
    next_cursor: str | None


class ErasedAnswer(Answer, frozen=True, kw_only=True):
    """What an erasure did: rows removed or blanked, by table, and how many waiting deliveries it called back.

    `scrubbed` is false where another process was still reading an older state of an embedded database: traces stay in
    its log until that is done.
    """

    id: str
    erased: bool
    removed: dict[str, int]
    cancelled: int
    scrubbed: bool


async def export_user(context: ApiContext, call: Call[ExportQuery, None]) -> Reply:
    """Tell all that is held about a person."""
    id_ = call.path["user_id"]
    if not id_.isprintable():
        raise _nobody(id_)
    name = f"export:{id_}"
    page = page_of(name, call.query)
    found = await context.store.about_user(call.caller.sees, id_, page)
    if found is None:
        raise _nobody(id_)
    last = found.deliveries[-1].id.bytes if found.deliveries else b""
    return json_reply(
        ExportAnswer(
            user=shown_user(found.user, hide=False),
            preferences=[_shown_choice(row) for row in found.preferences.cells],
            quiet_hours=shown_quiet_hours(found.user.choices.quiet_hours),
            deliveries=[answers.delivery(row) for row in found.deliveries],
            events=[answers.event(row) for row in found.events],
            captured=[captured_answer(row, whole=False) for row in found.captured],
            suppressions=[shown_suppression(row) for row in found.suppressions],
            opt_outs=[
                OptOutAnswer(
                    channel=row.channel,
                    address=row.address,
                    category=row.category,
                    source=row.source,
                    created_at=utc(row.created_at),
                )
                for row in found.opt_outs
            ],
            inbox=[shown_item(row) for row in found.inbox],
            topics=[shown_subscriber(row) for row in found.subscriptions],
            webhook_events=[_shown_event(row) for row in found.echoes],
            next_cursor=cursors.write(name, last) if found.more else None,
        ),
    )


async def erase_user(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Erase a person from every table."""
    id_ = call.path["user_id"]
    erased = await context.store.erase_user(id_, context.clock()) if id_.isprintable() else None
    if erased is None:
        raise _nobody(id_)
    # The line says that somebody was erased and by which key, never who.
    context.log.info(
        "user_erased",
        request_id=call.request_id,
        caller=call.caller.name,
        rows=sum(erased.removed.values()),
        cancelled=erased.cancelled,
        scrubbed=erased.scrubbed,
    )
    removed = {table: count for table, count in sorted(erased.removed.items()) if count}
    return json_reply(
        ErasedAnswer(id=id_, erased=True, removed=removed, cancelled=erased.cancelled, scrubbed=erased.scrubbed)
    )


def _shown_choice(row: PreferenceRow) -> ChoiceAnswer:
    return ChoiceAnswer(
        category=row.category or None,
        channel=row.channel or None,
        allowed=row.allowed,
        source=row.source.value,
        updated_at=utc(row.updated_at),
    )


def _shown_event(row: EchoRow) -> WebhookEventAnswer:
    return WebhookEventAnswer(
        delivery_id=ids.show(ids.DELIVERY, row.delivery_id),
        webhook_id=row.endpoint,
        status=row.status,
        created_at=utc(row.created_at),
        event=_CARRIED(row.request).event,
    )


def _nobody(id_: str) -> Problem:
    return not_found("user", id_[:100])


OPERATIONS: Final = (
    Operation(
        id="exportUser",
        method="GET",
        path="/v1/users/{user_id}/export",
        tag=_TAG,
        summary="Tell all that is held about a person",
        description=(
            "Profile, addresses, choices, topics, deliveries with their events and captured messages, inbox, opt-outs "
            "and suppressions, and the events about these that webhooks get. Deliveries are the key's project's; a key "
            "with the scope `admin` gets those of all."
        ),
        act=export_user,
        scopes=(Scope.READ,),
        query=ExportQuery,
        answer=AnswerRule(type=ExportAnswer, description="A page; the first is all there is for most people."),
    ),
    Operation(
        id="eraseUser",
        method="DELETE",
        path="/v1/users/{user_id}",
        tag=_TAG,
        summary="Erase a person from every table",
        description=(
            "Profile, addresses, what was sent (address, recipient, contents, attachments, what providers said), "
            "captured messages, stored answers, opt-outs, topics: of all projects. What waits is called back. Events "
            "for webhooks about the person stay or still go out, with `detail`, `reference` and `address` null and an "
            "empty `metadata`. A request to several people keeps what it says to all of them. "
            "Suppressions stay as keyed hashes, so that the address is still never written to."
        ),
        act=erase_user,
        scopes=(Scope.MANAGE,),
        answer=AnswerRule(type=ErasedAnswer, description="What was removed."),
    ),
)
