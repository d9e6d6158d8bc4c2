"""`/v1/webhooks`: services that hear of our events. A secret is shown once, in the answer that made or exchanged it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, listed, page_of, unix_ms
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation, path_id
from gateway.errors import CONFLICT
from gateway.model import ids
from gateway.model.requests import Request, Url
from gateway.model.states import Scope
from gateway.router.answers import Answer, Listing, maybe_utc, utc
from gateway.router.vault import OVERLAP_MS
from gateway.storage.contract import WebhookRow

_TAG: Final = "Webhooks"
_CREATED: Final = 201
_ACCEPTED: Final = 202
_LISTING: Final = "webhooks"
_OVERLAP_HOURS: Final = OVERLAP_MS // 3_600_000

Events = Annotated[
    list[Annotated[str, Meta(max_length=40)]],
    Meta(
        min_length=1,
        max_length=50,
        description="Names such as `delivery.bounced`; `delivery.*`, `notification.*` and `suppression.*`; `*`.",
    ),
]
Secret = Annotated[str, Meta(max_length=200, description="`whsec_` and the base64 of 24 to 64 random bytes.")]


class WebhookRequest(Request, frozen=True, kw_only=True):
    """An endpoint to make. Without a `secret` one is made."""

    url: Url
    events: Events
    secret: Secret | None = None


class WebhookPatch(Request, frozen=True, kw_only=True):
    """What to change. Switching on forgets earlier failures."""

    enabled: bool | None = None
    events: Events | None = None


class RotateRequest(Request, frozen=True, kw_only=True):
    """The new secret; without one it is made."""

    secret: Secret | None = None


class ReplayRequest(Request, frozen=True, kw_only=True):
    """From when on events are sent again."""

    since: Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]


class WebhookAnswer(Answer, frozen=True, kw_only=True):
    """An endpoint and how it fares. `secret` is there only in the answer that made or exchanged it."""

    id: str
    project: str
    url: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None
    """`gone` (it answered 410), `failing` (five days without one success) or `by_hand`."""
    disabled_at: str | None
    consecutive_failures: int
    first_failure_at: str | None
    """When the present run of failures began."""
    last_failure_at: str | None
    last_success_at: str | None
    replaying: bool
    created_at: str
    secret: str | UnsetType = UNSET


class ReplayAnswer(Answer, frozen=True, kw_only=True):
    """What is being sent again: events from `since` (as far as they are kept) until `until`."""

    id: str
    since: str
    until: str


class DeletedWebhookAnswer(Answer, frozen=True, kw_only=True):
    """It hears of nothing any more."""

    id: str
    deleted: bool


async def create_webhook(context: ApiContext, call: Call[NoQuery, WebhookRequest]) -> Reply:
    """Make one in the key's project."""
    body = call.body
    row, secret = await context.webhooks.create(
        call.caller.project,
        url=body.url,
        events=body.events,
        secret=body.secret,
    )
    return json_reply(msgspec.structs.replace(_shown(row), secret=secret), _CREATED)


async def list_webhooks(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List newest first."""
    page = page_of(_LISTING, call.query)
    rows = await context.store.webhooks(call.caller.sees, page.limit, page.before)
    return json_reply(listed(_LISTING, call.query, rows, _shown, lambda row: row.id.bytes))


async def get_webhook(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show one."""
    id_ = path_id(call, "id", ids.WEBHOOK, "webhook")
    return json_reply(_shown(await context.webhooks.find(call.caller.sees, id_)))


async def change_webhook(context: ApiContext, call: Call[NoQuery, WebhookPatch]) -> Reply:
    """Switch one on or off, or let it hear of other events."""
    id_ = path_id(call, "id", ids.WEBHOOK, "webhook")
    body = call.body
    row = await context.webhooks.change(call.caller.sees, id_, enabled=body.enabled, events=body.events)
    return json_reply(_shown(row))


async def rotate_webhook(context: ApiContext, call: Call[NoQuery, RotateRequest]) -> Reply:
    """Exchange its secret."""
    id_ = path_id(call, "id", ids.WEBHOOK, "webhook")
    row, secret = await context.webhooks.rotate(call.caller.sees, id_, call.body.secret)
    return json_reply(msgspec.structs.replace(_shown(row), secret=secret))


async def replay_webhook(context: ApiContext, call: Call[NoQuery, ReplayRequest]) -> Reply:
    """Send events again, to this endpoint only."""
    id_ = path_id(call, "id", ids.WEBHOOK, "webhook")
    since, until = await context.webhooks.replay(call.caller.sees, id_, unix_ms(call.body.since) or 0)
    answer = ReplayAnswer(id=ids.show(ids.WEBHOOK, id_), since=utc(since), until=utc(until))
    return json_reply(answer, _ACCEPTED)


async def delete_webhook(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Forget one."""
    id_ = path_id(call, "id", ids.WEBHOOK, "webhook")
    await context.webhooks.delete(call.caller.sees, id_)
    return json_reply(DeletedWebhookAnswer(id=ids.show(ids.WEBHOOK, id_), deleted=True))


def _shown(row: WebhookRow) -> WebhookAnswer:
    return WebhookAnswer(
        id=ids.show(ids.WEBHOOK, row.id),
        project=row.project,
        url=row.url,
        events=list(row.events),
        enabled=row.enabled,
        disabled_reason=row.disabled_reason,
        disabled_at=maybe_utc(row.disabled_at),
        consecutive_failures=row.failures,
        first_failure_at=maybe_utc(row.first_failure_at),
        last_failure_at=maybe_utc(row.last_failure_at),
        last_success_at=maybe_utc(row.last_success_at),
        replaying=row.replaying,
        created_at=utc(row.created_at),
    )


_EXAMPLE: Final = {
    "url": "https://shop.example.com/hooks/notifications",
    "events": ["delivery.*", "notification.completed", "suppression.created"],
}
_ADMIN: Final = (Scope.ADMIN,)

OPERATIONS: Final = (
    Operation(
        id="createWebhook",
        method="POST",
        path="/v1/webhooks",
        tag=_TAG,
        summary="Have a service hear of what happens",
        description=(
            "Events of the key's project are posted to `url`, signed by Standard Webhooks, from this answer on. The "
            "secret is shown once. Private and link-local addresses are refused unless `[outbound] allow_private` "
            "names them; outside production an address must also match `[staging] allow`, or its events are captured. "
            "Suppressions are one list for all projects: every project's webhooks may hear of them."
        ),
        act=create_webhook,
        scopes=_ADMIN,
        body=BodyRule(type=WebhookRequest, examples={"deliveries and suppressions": _EXAMPLE}),
        answer=AnswerRule(type=WebhookAnswer, status=_CREATED, description="It hears of every event from now on."),
    ),
    Operation(
        id="listWebhooks",
        method="GET",
        path="/v1/webhooks",
        tag=_TAG,
        summary="List webhooks, newest first",
        act=list_webhooks,
        scopes=_ADMIN,
        query=ListQuery,
        answer=AnswerRule(type=Listing[WebhookAnswer], description="A page."),
    ),
    Operation(
        id="getWebhook",
        method="GET",
        path="/v1/webhooks/{id}",
        tag=_TAG,
        summary="Show a webhook and how it fares",
        act=get_webhook,
        scopes=_ADMIN,
        answer=AnswerRule(type=WebhookAnswer, description="The webhook."),
    ),
    Operation(
        id="changeWebhook",
        method="PATCH",
        path="/v1/webhooks/{id}",
        tag=_TAG,
        summary="Switch a webhook on or off, or change its events",
        description="Events that happen while it is off are not sent later by themselves; replay them.",
        act=change_webhook,
        scopes=_ADMIN,
        body=BodyRule(type=WebhookPatch, examples={"switch on": {"enabled": True}}),
        answer=AnswerRule(type=WebhookAnswer, description="The webhook as it is now."),
    ),
    Operation(
        id="deleteWebhook",
        method="DELETE",
        path="/v1/webhooks/{id}",
        tag=_TAG,
        summary="Delete a webhook",
        act=delete_webhook,
        scopes=_ADMIN,
        answer=AnswerRule(type=DeletedWebhookAnswer, description="It hears of nothing any more."),
    ),
    Operation(
        id="rotateWebhook",
        method="POST",
        path="/v1/webhooks/{id}/rotate",
        tag=_TAG,
        summary="Exchange a webhook's secret",
        description=f"For {_OVERLAP_HOURS} hours the secret before it signs too, so that receivers can change over.",
        act=rotate_webhook,
        scopes=_ADMIN,
        body=BodyRule(type=RotateRequest, required=False, default=RotateRequest()),
        answer=AnswerRule(type=WebhookAnswer, description="The webhook with its new secret."),
    ),
    Operation(
        id="replayWebhook",
        method="POST",
        path="/v1/webhooks/{id}/replay",
        tag=_TAG,
        summary="Send events again",
        description=(
            "To this webhook only, what it asks for of deliveries and notifications, as far back as they are kept. "
            "Each comes as a message of its own; the event's `id` is the one it always had."
        ),
        act=replay_webhook,
        scopes=_ADMIN,
        body=BodyRule(type=ReplayRequest, examples={"since": {"since": "2026-11-01T00:00:00Z"}}),
        answer=AnswerRule(type=ReplayAnswer, status=_ACCEPTED, description="They are being sent."),
        problems=(CONFLICT,),
    ),
)
