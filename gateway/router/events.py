"""Our events to services: what an event looks like to its reader, and how it becomes a delivery like any other.

Owns the body (`API.md`: an event), the notification that carries it, and what the adapter is handed when it is sent.
Refuses to know the wire and the signature (the adapter's) and when an event is due (the queue's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from channels.contract import Content, Message
from gateway.config.settings import RetrySettings
from gateway.middleware.contract import Dropped, Held
from gateway.model import ids
from gateway.model.events import EVENT_CATEGORY
from gateway.model.states import Mode, OnUnknown, Priority, Status, Why, lane_of
from gateway.router.answers import Answer, metadata_of, utc
from gateway.router.vault import Vault, signing_now
from gateway.storage.contract import Acceptance, Claimed, DeliveryRow, NotedEvent, NotificationRow, Store, WebhookRow

CHANNEL: Final = "webhook"

RETRY: Final = RetrySettings(attempts=24, first_s=5, factor=4, most_s=43_200, budget_s=432_000)
"""Five days, as the Standard Webhooks specification advises ("an exponential backoff … over several days"): after
seconds at first, after half a day at the most."""

PATIENCE: Final = 5
"""After so many failures in a row an endpoint is asked by one event at a time, or one that hangs would hold every
connection while the others wait."""

_ALONE_MS: Final = (60_000, 3_600_000)
"""How long it is then left alone, at least and at most; between them a tenth of the time it has failed."""

_PRIORITIES: Final = {False: Priority.NORMAL, True: Priority.BULK}
"""What is replayed waits in a lane of its own and never delays what happens now."""

_ENCODE: Final = msgspec.json.Encoder().encode


class EventBody(Answer, frozen=True, kw_only=True):
    """What an endpoint receives: the event as `GET /v1/notifications/{id}/events` shows it.

    One about an address (`suppression.created`) belongs to no notification, and says which address instead. Of a person
    who is erased before it is sent it says nothing: `detail`, `reference` and `address` are null, `metadata` is empty.
    """

    id: str
    type: str
    at: str
    notification_id: str | None
    delivery_id: str | None
    status: str | None
    reason: str | None
    detail: str | None
    reference: str | None
    metadata: dict[str, Any]
    channel: str | UnsetType = UNSET
    address: str | UnsetType | None = UNSET
    source: str | UnsetType = UNSET


class _About(msgspec.Struct, frozen=True):
    channel: str
    address: str
    source: str


class _Carried(msgspec.Struct, frozen=True, kw_only=True):
    """The stored request of a notification that carries an event."""

    event: dict[str, Any]


class _Listener(msgspec.Struct, frozen=True, kw_only=True):
    """Who a delivery of an event is for, as `GET /v1/deliveries/{id}` shows it."""

    webhook: str


_ABOUT: Final = msgspec.json.Decoder(_About).decode
_CARRIED: Final = msgspec.json.Decoder(_Carried).decode


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message and the secrets that sign it, apart: what is captured, shown or logged must not carry them."""

    message: Message
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Outgoing({self.message.id})"


def body_of(event: NotedEvent) -> EventBody:
    """Write an event down for its reader. Pure."""
    body = EventBody(
        id=ids.show(ids.EVENT, event.id),
        type=event.type,
        at=utc(event.at),
        notification_id=None if event.notification_id is None else ids.show(ids.NOTIFICATION, event.notification_id),
        delivery_id=None if event.delivery_id is None else ids.show(ids.DELIVERY, event.delivery_id),
        status=event.status,
        reason=event.reason,
        detail=event.detail,
        reference=event.reference,
        metadata=metadata_of(event.request),
    )
    if event.about is None:
        return body
    about = _ABOUT(event.about)
    return msgspec.structs.replace(body, channel=about.channel, address=about.address, source=about.source)


def delivery_of(event: NotedEvent, notification_id: UUID, delivery_id: UUID, now: int) -> Acceptance:
    """Make the notification that carries one event to one endpoint, and its delivery. Pure.

    `reference` names the endpoint: that is how its deliveries are listed and its answers are counted.
    """
    priority = _PRIORITIES[event.replayed]
    endpoint = ids.show(ids.WEBHOOK, event.webhook_id)
    return Acceptance(
        notification=NotificationRow(
            id=notification_id,
            project=event.project,
            mode=Mode.LIVE,
            category=EVENT_CATEGORY,
            priority=priority,
            template_key=None,
            template_version=None,
            reference=endpoint,
            request=_ENCODE({"event": body_of(event)}),
            created_at=now,
        ),
        deliveries=(
            DeliveryRow(
                id=delivery_id,
                channel=CHANNEL,
                lane=lane_of(EVENT_CATEGORY, priority),
                position=0,
                address=event.url,
                user_id=None,
                recipient=_ENCODE(_Listener(webhook=endpoint)),
                status=Status.QUEUED,
                due_at=now,
                deadline_at=now + RETRY.budget_s * 1000,
                on_unknown=OnUnknown.RESEND,
            ),
        ),
    )


def endpoint_of(claim: Claimed) -> UUID | None:
    """Tell which endpoint a claimed delivery is for; `None` for every delivery that carries no event."""
    if claim.category != EVENT_CATEGORY or claim.reference is None:
        return None
    return ids.read(ids.WEBHOOK, claim.reference)


def left_alone_until(endpoint: WebhookRow, now: int, random: float) -> int | None:
    """Say until when an event waits that its endpoint, which fails, is not asked now; `None`: it may be asked. Pure.

    What waits comes back spread over as long again. `random` is in [0, 1).
    """
    first, last = endpoint.first_failure_at, endpoint.last_failure_at
    if endpoint.failures < PATIENCE or first is None or last is None:
        return None
    least, most = _ALONE_MS
    alone = min(max((last - first) // 10, least), most)
    return None if last + alone <= now else last + alone + int(random * alone)


class EventComposer:
    """Makes the message of a claimed event, at the moment it is sent: the endpoint may have changed since.

    Keeps which failing endpoints are being asked, by one event each in this process.
    """

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        clock: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._random = random
        self._asking: dict[UUID, UUID] = {}

    async def outgoing(self, claim: Claimed) -> Outgoing | Dropped | Held:
        """Make it, or say why it is not sent, or not now. `done` must follow, whatever became of it."""
        id_ = endpoint_of(claim)
        endpoint = None if id_ is None else await self._store.webhook(None, id_)
        if endpoint is None:
            return _cancelled("the webhook was deleted")
        if not endpoint.enabled:
            return _cancelled("the webhook is switched off; replay what it missed once it is on again")
        secrets = self._vault.open(endpoint.secrets)
        if secrets is None:
            detail = "the webhook's secret was sealed under another secret_key: rotate it"
            return Dropped(status=Status.FAILED, reason=Why.ACCOUNT_PROBLEM, detail=detail)
        if not claim.request:
            detail = "the event's contents are not kept any more"
            return Dropped(status=Status.FAILED, reason=Why.TEMPLATE_ERROR, detail=detail)
        held = self._held(claim, endpoint)
        return held or Outgoing(message=_message(claim), secrets=signing_now(secrets, self._clock()))

    def done(self, claim: Claimed) -> None:
        """Hear that a claimed event is out of hand."""
        id_ = endpoint_of(claim)
        if id_ is not None and self._asking.get(id_) == claim.id:
            del self._asking[id_]

    def _held(self, claim: Claimed, endpoint: WebhookRow) -> Held | None:
        now, random = self._clock(), self._random()
        until = left_alone_until(endpoint, now, random)
        if (
            until is None
            and endpoint.failures >= PATIENCE
            and self._asking.setdefault(endpoint.id, claim.id) != claim.id
        ):
            until = now + _ALONE_MS[0] + int(random * _ALONE_MS[0])
        detail = "the webhook fails, and is asked by one event at a time"
        return None if until is None else Held(until=until, reason=Why.PROVIDER_DOWN, detail=detail)


def _message(claim: Claimed) -> Message:
    name = ids.show(ids.DELIVERY, claim.id)
    return Message(
        id=name,
        kind=CHANNEL,
        to=claim.address,  # what staging judges; an endpoint's address never changes
        content=Content(data=_CARRIED(claim.request).event),
        idempotency_key=name,
        created_at=claim.notification_created_at / 1000,
        expires_at=claim.deadline_at / 1000,
        category=EVENT_CATEGORY,
    )


def _cancelled(detail: str) -> Dropped:
    return Dropped(status=Status.CANCELLED, reason=Why.CANCELLED, detail=detail)
