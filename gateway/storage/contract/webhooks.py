"""Endpoints that hear of our events, and the events on their way to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from gateway.storage.contract.rows import Acceptance, Row


class WebhookRow(Row, frozen=True, kw_only=True):
    """An endpoint. `secrets` is sealed; the store never looks into it.

    `failures` counts attempts in a row that failed, the first of them at `first_failure_at`; a success ends the row.
    """

    id: UUID
    project: str
    url: str
    events: tuple[str, ...]
    secrets: bytes
    enabled: bool = True
    disabled_reason: str | None = None
    disabled_at: int | None = None
    failures: int = 0
    first_failure_at: int | None = None
    last_failure_at: int | None = None
    last_success_at: int | None = None
    replaying: bool = False
    created_at: int


class NotedEvent(Row, frozen=True, kw_only=True):
    """An event that one endpoint is to hear of, with what its body is made of."""

    id: UUID
    webhook_id: UUID
    url: str
    project: str
    type: str
    at: int
    notification_id: UUID | None
    delivery_id: UUID | None
    status: str | None
    reason: str | None
    detail: str | None
    about: bytes | None
    reference: str | None
    request: bytes | None
    replayed: bool


class EchoRow(Row, frozen=True, kw_only=True):
    """A stored event as it goes to one endpoint; `delivery_id` and `status` are those of what carries it.

    `endpoint` is the endpoint's id as the API shows it, `request` the stored JSON, whose `event` is the body.
    """

    delivery_id: UUID
    notification_id: UUID
    endpoint: str
    status: str
    created_at: int
    request: bytes


class OutboxState(Row, frozen=True, kw_only=True):
    """What there is to do: whether anybody listens, and whether events, replays or hopeless endpoints wait."""

    listening: bool
    noted: bool
    replaying: bool
    failing: bool


MakeDelivery = Callable[[NotedEvent, UUID, UUID], Acceptance]
"""Makes the notification (id) and its one delivery (id) out of an event. Pure: it may be asked again after a clash."""


class WebhookStore(Protocol):
    """What the store does for events to services.

    Noting an event is nobody's verb: every verb that changes a delivery, a notification or the suppression list does it
    in its own transaction, for every enabled endpoint of the project whose patterns match.
    """

    async def add_webhook(self, row: WebhookRow, most: int) -> bool:
        """Keep a new endpoint; `False` if its project has `most` already. What happens from now on is noted for it."""
        ...

    async def webhook(self, project: str | None, id_: UUID) -> WebhookRow | None:
        """Show one (gathers; reads)."""
        ...

    async def webhooks(self, project: str | None, limit: int, before: UUID | None) -> list[WebhookRow]:
        """List newest first."""
        ...

    async def change_webhook(
        self, id_: UUID, *, enabled: bool | None, events: tuple[str, ...] | None, now: int
    ) -> bool:
        """Switch an endpoint on or off, or let it hear of other events; `False` if there is none. Repeatable.

        Switching on forgets its failures.
        """
        ...

    async def replace_secrets(self, id_: UUID, before: bytes, after: bytes) -> bool:
        """Exchange the sealed secrets; `False` if somebody else did meanwhile, or there is no such endpoint."""
        ...

    async def delete_webhook(self, project: str | None, id_: UUID) -> bool:
        """Forget an endpoint and what is noted for it; `False` if there is none."""
        ...

    async def replay_events(self, id_: UUID, since: int, until: int) -> bool:
        """Have the events between two moments noted again, bit by bit; one that is under way is widened."""
        ...

    async def outbox_state(self, failing_ms: int) -> OutboxState:
        """Tell what there is to do (reads). Hopeless is what failed for `failing_ms` without one success."""
        ...

    async def relay_events(self, make: MakeDelivery, limit: int, now: int) -> int:
        """Turn up to `limit` noted events into deliveries, oldest first; answers how many notes were taken.

        Each is taken once, however many processes ask. What was noted for an endpoint that is switched off or gone is
        dropped.
        """
        ...

    async def replay_slice(self, limit: int) -> int:
        """Look through the next `limit` notifications for a replay; answers how many were looked through."""
        ...

    async def switch_off_failing(self, failing_ms: int, now: int) -> list[WebhookRow]:
        """Switch off what is hopeless; answers which, each to one caller only."""
        ...
