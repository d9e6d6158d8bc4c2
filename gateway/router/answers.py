"""What callers read: the answers of `API.md`, as types.

Owns the shape of every answer that more than one place gives (accept, explain and the reading API). Field names are
promises. Ids are text here, times are RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import msgspec

from gateway.model import ids
from gateway.model.states import FINAL, Mode, NotificationStatus, Status, Why
from gateway.model.turns import NEVER
from gateway.observe.masking import mask_address, mask_text
from gateway.render.source import shown_version
from gateway.storage.contract import AttemptRow, DeliveryRow, DeliveryView, EventView, NotificationView


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The shape every answer shares."""


class AttemptAnswer(Answer, frozen=True, kw_only=True):
    """One try at one provider."""

    number: int
    provider: str
    started_at: str
    took_ms: int
    outcome: str
    reason: str | None
    detail: str | None
    provider_id: str | None


class DeliveryAnswer(Answer, frozen=True, kw_only=True):
    """One message to one recipient on one channel."""

    id: str
    notification_id: str
    channel: str
    address: str | None
    recipient: dict[str, Any]
    provider: str | None
    status: Status
    reason: Why | None
    detail: str | None
    engagement: list[str]
    attempts: list[AttemptAnswer]
    due_at: str | None
    """When it is next tried, while it waits; `null` once it is sent or final, or where only another's fate decides."""
    retry_of: str | None
    created_at: str
    updated_at: str


class NotificationAnswer(Answer, frozen=True, kw_only=True):
    """A notification and its deliveries."""

    id: str
    status: NotificationStatus
    mode: Mode
    created_at: str
    reference: str | None
    status_url: str
    deliveries: list[DeliveryAnswer]
    expanding: bool | msgspec.UnsetType = msgspec.UNSET
    """True where it goes to topics: their subscribers are planned after this answer."""


class NotificationDetail(Answer, frozen=True, kw_only=True):
    """A notification as it stands, with counts and what was asked for."""

    id: str
    status: NotificationStatus
    mode: Mode
    project: str
    category: str
    priority: str
    template: dict[str, str | int] | None
    reference: str | None
    metadata: dict[str, Any]
    tags: list[str]
    created_at: str
    updated_at: str
    send_at: str | None
    expires_at: str | None
    counts: dict[str, int]
    expanding: bool
    """Whether subscribers of its topics are still to be planned: until then `counts` grow."""
    status_url: str
    deliveries: list[DeliveryAnswer]


class EventAnswer(Answer, frozen=True, kw_only=True):
    """Something that happened."""

    id: str
    type: str
    at: str
    notification_id: str
    delivery_id: str | None
    status: str
    reason: str | None
    detail: str | None
    reference: str | None
    metadata: dict[str, Any]


T = TypeVar("T")


class Listing(Answer, Generic[T], frozen=True, kw_only=True):
    """A page of a listing."""

    items: list[T]
    next_cursor: str | None


_RECIPIENT: Final = msgspec.json.Decoder(dict[str, Any])


@lru_cache(maxsize=64)  # a whole batch is accepted in one millisecond
def utc(at_ms: int) -> str:
    """Write Unix milliseconds as RFC 3339 in UTC."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03}Z"


@lru_cache(maxsize=64)  # under load the same second is written thousands of times
def _second(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S}"


def maybe_utc(at_ms: int | None) -> str | None:
    """Write a time that may be missing."""
    return None if at_ms is None else utc(at_ms)


def masked(address: str | None) -> str | None:
    """Hide an address from who may send but not read."""
    return None if address is None else mask_address(address)


def planned(
    row: DeliveryRow,
    notification_id: str,
    created_at: str,
    recipient: dict[str, Any],
    *,
    address: str | None,
) -> DeliveryAnswer:
    """Show a delivery as it was just planned; ids and times that it shares with others come written already."""
    return DeliveryAnswer(
        id=ids.show(ids.DELIVERY, row.id),
        notification_id=notification_id,
        channel=row.channel,
        address=address,
        recipient=recipient,
        provider=row.provider,
        status=row.status,
        reason=row.reason,
        detail=_told(row.detail, hide=address != row.address),
        engagement=[],
        attempts=[],
        due_at=_due(row.due_at) if row.status is Status.HELD else None,
        retry_of=None if row.retry_of is None else ids.show(ids.DELIVERY, row.retry_of),
        created_at=created_at,
        updated_at=created_at,
    )


def delivery(view: DeliveryView, *, hide: bool = False) -> DeliveryAnswer:
    """Show a stored delivery; `hide` masks its address."""
    recipient = _RECIPIENT.decode(view.recipient) if view.recipient else {}
    if hide:
        recipient = {key: value for key, value in recipient.items() if key in {"user", "locale", "timezone"}}
    waiting = view.status not in FINAL and view.status is not Status.SENT
    return DeliveryAnswer(
        id=ids.show(ids.DELIVERY, view.id),
        notification_id=ids.show(ids.NOTIFICATION, view.notification_id),
        channel=view.channel,
        address=masked(view.address) if hide else view.address,
        recipient=recipient,
        provider=view.provider,
        status=view.status,
        reason=view.reason,
        detail=_told(view.detail, hide=hide),
        engagement=sorted(view.engagement),
        attempts=[attempt(row, hide=hide) for row in view.attempts],
        due_at=_due(view.due_at) if waiting else None,
        retry_of=None if view.retry_of is None else ids.show(ids.DELIVERY, view.retry_of),
        created_at=utc(view.created_at),
        updated_at=utc(view.updated_at),
    )


def _due(at_ms: int) -> str | None:
    return utc(at_ms) if at_ms < NEVER else None


def _told(detail: str | None, *, hide: bool) -> str | None:
    """Show a provider's words: they may name the address."""
    return mask_text(detail) if hide and detail is not None else detail


def attempt(row: AttemptRow, *, hide: bool = False) -> AttemptAnswer:
    """Show one try."""
    return AttemptAnswer(
        number=row.number,
        provider=row.provider,
        started_at=utc(row.started_at),
        took_ms=row.took_ms,
        outcome=row.outcome,
        reason=row.reason,
        detail=_told(row.detail, hide=hide),
        provider_id=row.provider_id,
    )


class _Echoed(msgspec.Struct, frozen=True):
    """What of a stored request is echoed in answers and events."""

    metadata: dict[str, Any] = {}


_ECHOED: Final = msgspec.json.Decoder(_Echoed)


def metadata_of(request: bytes | None) -> dict[str, Any]:
    """Read the caller's metadata out of a stored request; empty once retention has blanked it."""
    return _ECHOED.decode(request).metadata if request else {}


def notification(
    view: NotificationView,
    deliveries: list[DeliveryView],
    *,
    status_url: str,
    hide: bool = False,
) -> NotificationDetail:
    """Show a stored notification."""
    template = None
    if view.template_key is not None and not view.template_key.startswith("_"):
        template = {"key": view.template_key, "version": shown_version(view.template_version or "")}
    return NotificationDetail(
        id=ids.show(ids.NOTIFICATION, view.id),
        status=view.status,
        mode=view.mode,
        project=view.project,
        category=view.category,
        priority=view.priority,
        template=template,
        reference=view.reference,
        metadata=metadata_of(view.request),
        tags=list(view.tags),
        created_at=utc(view.created_at),
        updated_at=utc(view.updated_at),
        send_at=maybe_utc(view.send_at),
        expires_at=maybe_utc(view.expires_at),
        counts=dict(view.counts),
        expanding=view.expanding,
        status_url=status_url,
        deliveries=[delivery(row, hide=hide) for row in deliveries],
    )


def event(view: EventView) -> EventAnswer:
    """Show something that happened."""
    return EventAnswer(
        id=ids.show(ids.EVENT, view.id),
        type=view.type,
        at=utc(view.at),
        notification_id=ids.show(ids.NOTIFICATION, view.notification_id),
        delivery_id=None if view.delivery_id is None else ids.show(ids.DELIVERY, view.delivery_id),
        status=view.status,
        reason=view.reason,
        detail=view.detail,
        reference=view.reference,
        metadata=metadata_of(view.request),
    )
