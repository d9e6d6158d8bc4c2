"""Rows to store, with everything filled in that a test does not care about."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from gateway.model.ids import IdSource
from gateway.model.states import FINAL, Mode, OnUnknown, Status, Why
from gateway.storage.contract import (
    Acceptance,
    AttachmentRow,
    AttemptRow,
    CapturedRow,
    Claimed,
    DeliveryRow,
    Idempotency,
    InboxRow,
    Kept,
    Lease,
    NotificationRow,
    Reservation,
    Settlement,
    StatusChange,
    SuppressionRow,
    UpkeepRules,
    UserPut,
)
from gateway.storage.store import SqlStore

LANE = "email:normal"
START = 1_800_000_000_000
"""A moment to begin at (Unix ms)."""

DAY = 86_400_000


class Clock:
    """Time as a test wants it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def later(self, by_ms: int) -> int:
        self.now += by_ms
        return self.now


class Rows:
    """Makes rows at the clock's time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ids = IdSource()

    def id(self) -> UUID:
        return self.ids.new(self.clock.now)

    def delivery(self, **changes: Any) -> DeliveryRow:
        status: Status = changes.get("status", Status.QUEUED)
        values: dict[str, Any] = {
            "id": self.id(),
            "channel": "email",
            "lane": LANE,
            "position": 0,
            "address": "ada@example.com",
            "user_id": None,
            "recipient": b'{"name":"Ada"}',
            "status": status,
            "final": status in FINAL,
            "due_at": self.clock.now,
            "deadline_at": self.clock.now + DAY,
            "on_unknown": OnUnknown.RESEND,
        }
        return DeliveryRow(**(values | changes))

    def acceptance(
        self,
        *deliveries: DeliveryRow,
        attachments: tuple[AttachmentRow, ...] = (),
        idempotency: Idempotency | None = None,
        **changes: Any,
    ) -> Acceptance:
        values: dict[str, Any] = {
            "id": self.id(),
            "project": "default",
            "mode": Mode.LIVE,
            "category": "orders",
            "priority": "normal",
            "template_key": "order-shipped",
            "template_version": "sha256:1",
            "reference": None,
            "request": b'{"metadata":{}}',
            "created_at": self.clock.now,
        }
        return Acceptance(
            notification=NotificationRow(**(values | changes)),
            deliveries=deliveries or (self.delivery(),),
            attachments=attachments,
            idempotency=idempotency,
        )

    def keyed(self, key_id: UUID, key: str = "k", body: bytes = b"body", answer: bytes = b"{}") -> Acceptance:
        asked = Idempotency(
            key_id=key_id,
            key=key,
            body_hash=body,
            answer=answer,
            expires_at=self.clock.now + DAY,
        )
        return self.acceptance(idempotency=asked)

    async def know(self, store: SqlStore, *users: str) -> None:
        """Store people, so that deliveries can be for them."""
        nothing: dict[str, Any] = {"name": None, "locale": None, "timezone": None, "attributes": b"{}"}
        await store.put_users([UserPut(id=one, addresses=(), now=self.clock.now, **nothing) for one in users])

    def lease(self, worker: str = "worker-1", for_ms: int = 60_000) -> Lease:
        return Lease(worker=worker, until=self.clock.now + for_ms)

    def settlement(self, claimed: Claimed, status: Status = Status.SENT, **changes: Any) -> Settlement:
        values: dict[str, Any] = {
            "id": claimed.id,
            "token": claimed.token,
            "status": status,
            "final": status in FINAL,
            "due_at": self.clock.now,
            "now": self.clock.now,
        }
        return Settlement(**(values | changes))

    def sent(self, claimed: Claimed, provider_id: str = "theirs", **changes: Any) -> Settlement:
        """Sent by `smtp`, receipts expected."""
        return self.settlement(
            claimed,
            Status.SENT,
            **{"provider": "smtp", "provider_id": provider_id, "attempts": (self.attempt(provider_id=provider_id),)}
            | changes,
        )

    def attempt(self, **changes: Any) -> AttemptRow:
        values: dict[str, Any] = {
            "number": 1,
            "provider": "smtp",
            "started_at": self.clock.now,
            "took_ms": 12,
            "outcome": "accepted",
        }
        return AttemptRow(**(values | changes))

    def captured(self, claimed: Claimed, **changes: Any) -> CapturedRow:
        values: dict[str, Any] = {
            "id": self.id(),
            "delivery_id": claimed.id,
            "notification_id": claimed.notification_id,
            "project": claimed.project,
            "channel": claimed.channel,
            "to": claimed.address,
            "original_to": claimed.address,
            "subject": "Hello",
            "text": "Your parcel is on its way",
            "html": "<p>Your parcel</p>",
            "data": b'{"a":1}',
            "headers": b'{"X":"1"}',
            "attachments": b"[]",
            "raw": b"From: x\r\n",
            "reference": claimed.reference,
            "created_at": self.clock.now,
        }
        return CapturedRow(**(values | changes))

    def item(self, claimed: Claimed, **changes: Any) -> InboxRow:
        values: dict[str, Any] = {
            "id": self.id(),
            "user_id": claimed.user_id,
            "delivery_id": claimed.id,
            "notification_id": claimed.notification_id,
            "project": claimed.project,
            "category": claimed.category,
            "collapse_key": claimed.collapse_key,
            "title": "Hello",
            "text": "Your parcel is on its way",
            "html": "<p>Your parcel is on its way</p>",
            "data": b"{}",
            "created_at": self.clock.now,
            "expires_at": None,
        }
        return InboxRow(**(values | changes))

    def change(self, type_: str, **changes: Any) -> StatusChange:
        values: dict[str, Any] = {
            "id": self.id(),
            "provider": "smtp",
            "provider_id": None,
            "delivery_id": None,
            "type": type_,
            "reason": None,
            "detail": None,
            "at": self.clock.now,
            "due_at": self.clock.now,
        }
        return StatusChange(**(values | changes))

    def suppression(self, address: str = "ada@example.com", **changes: Any) -> SuppressionRow:
        values: dict[str, Any] = {
            "channel": "email",
            "address": address,
            "reason": Why.SUPPRESSED,
            "source": "manual",
            "created_at": self.clock.now,
        }
        return SuppressionRow(**(values | changes))

    def reservation(self, key: str = "k", count: int = 3, window_ms: int = 1000) -> Reservation:
        return Reservation(key=key, count=count, window_ms=window_ms, now=self.clock.now)

    def rules(self, **changes: int) -> UpkeepRules:
        """Rules that touch nothing, but for what a test changes."""
        kept = {name: Kept(before=changes.pop(f"{name}_before", 0)) for name in ("notifications", "contents")}
        values = {
            "captured_before": 0,
            "inbox_before": 0,
            "captured_most": 1000,
            "receipts_before": 0,
            "slice": 100,
        }
        return UpkeepRules(**kept, **(values | changes))

    async def claim(self, store: SqlStore, count: int = 10, worker: str = "worker-1") -> list[Claimed]:
        return await store.claim({LANE: count}, self.lease(worker), self.clock.now)

    async def claim_one(self, store: SqlStore, worker: str = "worker-1") -> Claimed:
        (claimed,) = await self.claim(store, worker=worker)
        return claimed
