"""What the rest of the gateway asks of a store, in rows and verbs.

Owns the rows and the promise of each verb. Refuses to know SQL, HTTP or any channel. All times are Unix milliseconds
(`*_ms` or `*_at`); all ids are UUIDv7 values; `bytes` fields named `request`, `recipient`, … are JSON the store never
looks into.

Every verb marked *gathers* may be called by thousands of tasks at once: whoever comes while a batch is running joins
the next one, and a batch is a handful of set-based statements. Verbs that write answer after the commit is on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from gateway.errors import GatewayError
from gateway.model.states import Engagement, Mode, NotificationStatus, OnUnknown, Scope, Status, Why


class StoreUnavailable(GatewayError):
    """The database cannot be reached, is locked, full or read-only: nothing of this call was kept. Try again later."""


class StoreDamaged(GatewayError):
    """The database file is damaged or of a schema this code does not know: the gateway must not start."""


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the store keeps or gives; immutable."""


# --- accept ---------------------------------------------------------------------------------------------------------


class AttachmentRow(Row, frozen=True, kw_only=True):
    """A file of a notification."""

    filename: str
    content_type: str
    content_id: str | None
    content: bytes


class Lease(Row, frozen=True, kw_only=True):
    """Who holds a claim and until when."""

    worker: str
    until: int


class DeliveryRow(Row, frozen=True, kw_only=True):
    """One message to one recipient on one channel, as `plan` made it.

    `recipient` is the JSON of who it is (name, locale, timezone, data, user). A delivery that waits (`queued`, `held`)
    also gets a row in the queue; `lease` names the worker it is born leased to (token 1).
    """

    id: UUID
    channel: str
    lane: str
    position: int
    address: str | None
    user_id: str | None
    recipient: bytes
    status: Status
    reason: Why | None = None
    detail: str | None = None
    provider: str | None = None
    final: bool = False
    due_at: int
    deadline_at: int
    on_unknown: OnUnknown
    retry_of: UUID | None = None
    lease: Lease | None = None


class Idempotency(Row, frozen=True, kw_only=True):
    """The caller's key, scoped to the API key, the hash of the body, and the answer to give again."""

    key_id: UUID
    key: str
    body_hash: bytes
    answer: bytes
    expires_at: int


class NotificationRow(Row, frozen=True, kw_only=True):
    """A request as accepted. `request` is its JSON without attachments."""

    id: UUID
    project: str
    mode: Mode
    category: str
    priority: str
    template_key: str | None
    template_version: str | None
    reference: str | None
    request: bytes
    tags: tuple[str, ...] = ()
    collapse_key: str | None = None
    created_at: int
    send_at: int | None = None
    expires_at: int | None = None


class Acceptance(Row, frozen=True, kw_only=True):
    """All that one 202 stores, in one transaction."""

    notification: NotificationRow
    deliveries: tuple[DeliveryRow, ...]
    attachments: tuple[AttachmentRow, ...] = ()
    idempotency: Idempotency | None = None
    presumed_clear: tuple[tuple[str, str], ...] = ()
    """(channel, address) pairs that were planned as not suppressed: checked in the same transaction."""


class Stored(Row, frozen=True, kw_only=True):
    """It is on disk."""


class Replayed(Row, frozen=True, kw_only=True):
    """The idempotency key was used before with the same body: nothing was stored now; this was the first answer."""

    answer: bytes


class KeyReused(Row, frozen=True, kw_only=True):
    """The idempotency key was used before with another body: nothing was stored."""


class Suppressed(Row, frozen=True, kw_only=True):
    """Addresses presumed clear are on the suppression list: nothing was stored, plan again with these."""

    rows: tuple[SuppressionRow, ...]


AcceptResult = Stored | Replayed | KeyReused | Suppressed


# --- queue ----------------------------------------------------------------------------------------------------------


class Claimed(Row, frozen=True, kw_only=True):
    """A delivery in a worker's hands, with all that is needed to send it (attachments aside).

    `token` must accompany its settlement. `attempts` counts those already recorded. `lost` counts the claims since the
    last settlement that ran out unsettled: each may have reached the provider. `granted` says that the recipient's rate
    was paid; `unsure` that an earlier attempt's answer was lost: it can end as `sent` or `unknown`, not as unsent.
    """

    id: UUID
    notification_id: UUID
    project: str
    mode: Mode
    channel: str
    lane: str
    category: str
    template_key: str | None
    template_version: str | None
    reference: str | None
    request: bytes
    has_attachments: bool
    address: str
    user_id: str | None
    recipient: bytes
    status: Status
    attempts: int
    token: int
    lost: int
    granted: bool
    created_at: int
    due_at: int
    deadline_at: int
    on_unknown: OnUnknown
    notification_created_at: int
    unsure: bool = False


class AttemptRow(Row, frozen=True, kw_only=True):
    """One try at one provider."""

    number: int
    provider: str
    started_at: int
    took_ms: int
    outcome: str
    reason: str | None = None
    detail: str | None = None
    provider_id: str | None = None


class CapturedRow(Row, frozen=True, kw_only=True):
    """A message that was kept instead of sent."""

    id: UUID
    delivery_id: UUID
    notification_id: UUID
    project: str
    channel: str
    to: str
    original_to: str
    subject: str | None
    text: str | None
    html: str | None
    data: bytes
    headers: bytes
    attachments: bytes
    raw: bytes
    reference: str | None
    created_at: int


class SuppressionRow(Row, frozen=True, kw_only=True):
    """An address never written to."""

    channel: str
    address: str
    reason: Why
    source: str
    detail: str | None = None
    created_at: int


OptOut = tuple[str, str, str]
"""Channel, address (as suppressions are looked up) and category."""


class OptOutRow(Row, frozen=True, kw_only=True):
    """An address that wants no more of one category."""

    channel: str
    address: str
    category: str
    source: str
    created_at: int


class Settlement(Row, frozen=True, kw_only=True):
    """What becomes of a claimed delivery. Written only while `token` is still the queue's.

    Not final and waiting (`queued`, `held`): the queue row is freed and due at `due_at`. `sent` but not `final`: out of
    the queue, waiting for receipts. Final: out of the queue, and one fewer open delivery on its notification.
    """

    id: UUID
    token: int
    status: Status
    final: bool
    reason: Why | None = None
    detail: str | None = None
    provider: str | None = None
    provider_id: str | None = None
    due_at: int
    granted: bool = False
    unsure: bool = False
    attempts: tuple[AttemptRow, ...] = ()
    captured: CapturedRow | None = None
    suppress: SuppressionRow | None = None
    now: int


class Reservation(Row, frozen=True, kw_only=True):
    """Ask when the next message under `key` may go: at most `count` within any `window_ms`."""

    key: str
    count: int
    window_ms: int
    now: int


class StatusChange(Row, frozen=True, kw_only=True):
    """What a provider reported, normalised: found by `delivery_id`, or by `provider` and `provider_id`.

    `due_at` in the future keeps it until then (the simulator's late answer); one that finds no settled delivery yet is
    kept and applied when the settlement comes.
    """

    id: UUID
    provider: str
    provider_id: str | None
    delivery_id: UUID | None
    type: str
    reason: Why | None
    detail: str | None
    at: int
    due_at: int


# --- what is read ---------------------------------------------------------------------------------------------------


class NotificationView(Row, frozen=True, kw_only=True):
    """A notification with its counts by delivery status."""

    id: UUID
    project: str
    mode: Mode
    status: NotificationStatus
    category: str
    priority: str
    template_key: str | None
    template_version: str | None
    reference: str | None
    request: bytes | None
    tags: tuple[str, ...]
    created_at: int
    send_at: int | None
    expires_at: int | None
    updated_at: int
    counts: Mapping[str, int]


class DeliveryView(Row, frozen=True, kw_only=True):
    """A delivery with its attempts."""

    id: UUID
    notification_id: UUID
    project: str
    channel: str
    lane: str
    position: int
    address: str | None
    user_id: str | None
    recipient: bytes
    provider: str | None
    provider_id: str | None
    status: Status
    final: bool
    reason: Why | None
    detail: str | None
    engagement: tuple[Engagement, ...]
    attempts: tuple[AttemptRow, ...]
    due_at: int
    deadline_at: int
    on_unknown: OnUnknown
    retry_of: UUID | None
    retried: bool
    """Whether another delivery names it as `retry_of`: what was sent again once is not sent again by a filter."""
    created_at: int
    updated_at: int


class EventView(Row, frozen=True, kw_only=True):
    """Something that happened to a delivery (`delivery.sent`) or a notification (`notification.completed`)."""

    id: UUID
    type: str
    at: int
    notification_id: UUID
    delivery_id: UUID | None
    status: str
    reason: Why | None
    detail: str | None
    reference: str | None
    request: bytes | None


class KeyRow(Row, frozen=True, kw_only=True):
    """An API key, without the key: `hash` is SHA-256 of it, `hint` its last four characters."""

    id: UUID
    name: str
    project: str
    mode: Mode
    scopes: tuple[Scope, ...]
    hash: bytes
    hint: str
    rate: str | None = None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Where a listing goes on: rows strictly older than `before` (an id), newest first."""

    limit: int
    before: UUID | None = None


class NotificationFilter(Row, frozen=True, kw_only=True):
    """Which notifications; every given field must match. `project=None` is every project (scope `admin`)."""

    project: str | None = None
    status: NotificationStatus | None = None
    channel: str | None = None
    category: str | None = None
    user: str | None = None
    address: str | None = None
    reference: str | None = None
    tag: str | None = None
    since: int | None = None
    until: int | None = None


class DeliveryFilter(Row, frozen=True, kw_only=True):
    """Which deliveries, for `retry` and `replay`."""

    project: str | None = None
    ids: tuple[UUID, ...] | None = None
    notification_id: UUID | None = None
    statuses: tuple[Status, ...] | None = None
    channel: str | None = None
    provider: str | None = None
    reason: Why | None = None
    category: str | None = None
    since: int | None = None
    until: int | None = None


class CapturedFilter(Row, frozen=True, kw_only=True):
    """Which captured messages. `contains` is looked for in subject and text, case-insensitively."""

    project: str | None = None
    channel: str | None = None
    to: str | None = None
    notification_id: UUID | None = None
    reference: str | None = None
    contains: str | None = None
    since: int | None = None


class LaneDepth(Row, frozen=True, kw_only=True):
    """How much waits in a lane: `due` of it now, `oldest_due_at` the longest overdue."""

    lane: str
    waiting: int
    due: int
    oldest_due_at: int | None


class StatRow(Row, frozen=True, kw_only=True):
    """How many deliveries entered a status in one hour."""

    hour: int
    project: str
    channel: str
    provider: str | None
    status: str
    reason: str | None
    count: int


class Cancelled(Row, frozen=True, kw_only=True):
    """What `cancel` did to one delivery: its status afterwards, and whether this call changed it."""

    delivery_id: UUID
    status: Status
    changed: bool


class UpkeepRules(Row, frozen=True, kw_only=True):
    """Up to when things are kept (Unix ms), and how much is pruned at once."""

    notifications_before: int
    contents_before: int
    captured_before: int
    captured_most: int
    receipts_before: int
    """A `sent` delivery older than this becomes final: no receipt will come."""
    slice: int


class UpkeepReport(Row, frozen=True, kw_only=True):
    """What one round of upkeep did; `more` asks for another round soon."""

    expired: int = 0
    finalised: int = 0
    deleted: int = 0
    events_applied: int = 0
    more: bool = False


class Store(Protocol):
    """The store. One per process; used from one event loop. Every verb may raise `StoreUnavailable`."""

    # life
    async def open(self) -> None:
        """Connect; create or migrate the embedded schema; raise `StoreDamaged` rather than start on a bad file."""
        ...

    async def close(self) -> None:
        """Finish what is being written and disconnect. May be called twice."""
        ...

    async def now_ms(self) -> int:
        """Tell the database's time (PostgreSQL: `clock_timestamp()`; SQLite: this machine's clock)."""
        ...

    async def ready(self) -> str | None:
        """Say what keeps the store from working (unreachable, migrations missing), or `None`. Answers within 2 s."""
        ...

    # accept (gathers; writes)
    async def accept(self, acceptance: Acceptance) -> AcceptResult:
        """Store a notification, its deliveries and queue rows.

        Twice the same idempotency key, even within one batch of concurrent calls: the second is a replay. What is
        presumed clear is looked up in the same transaction; that is cheaper than a question before each request.
        """
        ...

    async def accept_many(self, acceptances: Sequence[Acceptance]) -> Sequence[AcceptResult]:
        """Store several, in one transaction where nothing stands against it; one result each, in order."""
        ...

    async def recall(self, key_id: UUID, key: str, body_hash: bytes, now: int) -> AcceptResult | None:
        """Look an idempotency key up before planning (gathers; reads). `None`: not used, or forgotten by `now`."""
        ...

    # queue
    async def claim(self, wanted: Mapping[str, int], lease: Lease, now: int) -> list[Claimed]:
        """Lease up to `wanted[lane]` due deliveries of each lane, oldest due first; also those whose lease ran out.

        (Gathers; writes.) Never gives one delivery to two callers. Raises the token and the count of claims.
        """
        ...

    async def settle(self, settlement: Settlement) -> bool:
        """Record what became of a claim (gathers; writes). `False`: the lease was lost and nothing was written.

        Writes the delivery, its attempts, event, captured message, suppression, hourly count, the notification's open
        count (and its `notification.completed` event), and applies status changes that arrived early.
        """
        ...

    async def renew(self, claims: Sequence[tuple[UUID, int]], until: int) -> set[UUID]:
        """Prolong leases (id, token) that are still held; answers which ones were."""
        ...

    async def release(self, claims: Sequence[tuple[UUID, int]], now: int) -> None:
        """Give claims (id, token) back unused: due at once, not counted as lost."""
        ...

    async def reserve(self, reservation: Reservation) -> int:
        """Reserve the next free moment under a rate, shared by all processes; Unix ms (gathers; writes)."""
        ...

    async def peek(self, reservation: Reservation) -> int:
        """Tell what `reserve` would answer, reserving nothing."""
        ...

    async def next_due(self, lanes: Sequence[str]) -> int | None:
        """Tell when the earliest waiting delivery of these lanes is due (leases that run out included)."""
        ...

    async def attachments(self, notification_id: UUID) -> tuple[AttachmentRow, ...]:
        """Load a notification's files, in the caller's order."""
        ...

    # consent
    async def suppressed(self, channel: str, address: str) -> SuppressionRow | None:
        """Look an address up (normalised by the caller) on the suppression list (gathers; reads)."""
        ...

    async def suppressions_of(self, addresses: Collection[tuple[str, str]]) -> Sequence[SuppressionRow]:
        """Look several (channel, address) pairs up at once (gathers; reads); those not on the list are left out."""
        ...

    async def suppress(self, row: SuppressionRow) -> bool:
        """Put an address on the list; `False` if it was there (the older row stays)."""
        ...

    async def unsuppress(self, channel: str, address: str) -> bool:
        """Take an address off the list; `False` if it was not there."""
        ...

    async def list_suppressions(
        self,
        *,
        channel: str | None,
        address: str | None,
        limit: int,
        after: tuple[int, str, str] | None,
    ) -> list[SuppressionRow]:
        """List newest first; `after` is the (created_at, channel, address) of the last row seen."""
        ...

    async def opted_out(self, keys: Collection[OptOut]) -> Collection[OptOut]:
        """Tell which (channel, address, category) were opted out of (gathers; reads)."""
        ...

    async def opt_out(self, row: OptOutRow) -> bool:
        """Note an opt-out; `False` if it was known. Repeatable."""
        ...

    async def opt_in(self, key: OptOut) -> bool:
        """Forget an opt-out; `False` if there was none. Repeatable."""
        ...

    # provider events
    async def apply_status(self, changes: Sequence[StatusChange], now: int) -> int:
        """Apply provider events and answer how many changed something.

        Monotonic (`states.may_follow`), repeatable, in any order. Engagement events join the
        set. Hard bounces and complaints suppress the address in the same transaction
        (reason `address_dead` / `complained`, source the provider's name) unless `provider` is the simulator's.
        """
        ...

    # read
    async def notification(self, project: str | None, id_: UUID) -> NotificationView | None:
        """Show one notification with counts."""
        ...

    async def notifications(self, where: NotificationFilter, page: Page) -> list[NotificationView]:
        """List notifications, newest first."""
        ...

    async def deliveries(self, notification_id: UUID, limit: int = 1000) -> list[DeliveryView]:
        """List a notification's deliveries in the order they were planned, with attempts."""
        ...

    async def deliveries_of(self, notification_ids: Sequence[UUID], limit: int = 1000) -> list[DeliveryView]:
        """List the deliveries of several notifications in one go."""
        ...

    async def delivery(self, project: str | None, id_: UUID) -> DeliveryView | None:
        """Show one delivery with attempts."""
        ...

    async def find_deliveries(self, where: DeliveryFilter, page: Page) -> list[DeliveryView]:
        """List deliveries, newest first."""
        ...

    async def events(self, notification_id: UUID) -> list[EventView]:
        """List what happened to a notification, oldest first, the planning of each delivery included."""
        ...

    async def cancel(self, notification_id: UUID, now: int) -> list[Cancelled]:
        """Cancel what waits (queued, held, not leased); what is being sent goes on. Repeatable."""
        ...

    async def resend(self, rows: Mapping[UUID, Sequence[DeliveryRow]], now: int) -> None:
        """Add deliveries (with `retry_of`) to existing notifications, by notification id, and open those again."""
        ...

    # captured
    async def captured(self, where: CapturedFilter, page: Page) -> list[CapturedRow]:
        """List captured messages, newest first."""
        ...

    async def captured_one(self, project: str | None, id_: UUID) -> CapturedRow | None:
        """Show one."""
        ...

    async def clear_captured(self, project: str | None) -> int:
        """Delete them; answers how many."""
        ...

    # templates
    async def keep_template(self, version: str, key: str, source: bytes, now: int) -> None:
        """Keep a template version for as long as anything refers to it. Repeatable."""
        ...

    async def template(self, version: str) -> bytes | None:
        """Load a kept version."""
        ...

    # keys
    async def key_by_hash(self, hash_: bytes) -> KeyRow | None:
        """Find a key, revoked and expired ones too (gathers; reads)."""
        ...

    async def add_key(self, key: KeyRow) -> None:
        """Keep a new key."""
        ...

    async def keys(self, project: str | None) -> list[KeyRow]:
        """List keys, newest first."""
        ...

    async def revoke_key(self, id_: UUID, now: int) -> bool:
        """Revoke; `False` if there is none. Repeatable."""
        ...

    async def touch_keys(self, used: Mapping[UUID, int]) -> None:
        """Note when keys were last used."""
        ...

    # upkeep and figures
    async def upkeep(self, rules: UpkeepRules, now: int) -> UpkeepReport:
        """Do one small round of housekeeping.

        Expires what is past its deadline, not leased and not unsure, finalises `sent` without a receipt, applies events
        that are due, and prunes one slice of what is older than the rules say.
        """
        ...

    async def depths(self, now: int) -> list[LaneDepth]:
        """Count what waits, by lane. Bounded work: may estimate beyond 100,000 a lane."""
        ...

    async def waiting(self) -> int:
        """Count all queue rows, cheaply (may be a second old)."""
        ...

    async def stats(self, project: str | None, since: int, until: int) -> list[StatRow]:
        """Hourly counts of deliveries that entered each status."""
        ...
