"""The rows of the main way: accepted, claimed, settled, read back.

Owns their shape. All times are Unix milliseconds (`*_ms` or `*_at`); all ids are UUIDv7 values; `bytes` fields named
`request`, `recipient`, … are JSON the store never looks into.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec

from gateway.model.states import Engagement, Mode, NotificationStatus, OnUnknown, Scope, Status, Strategy, Why


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


class Turn(Row, frozen=True, kw_only=True):
    """A delivery's place where several channels of one recipient go in turn.

    Those of one notification and `position` are a chain (`gateway.model.turns`). One that waits for its turn is `held`
    for `fallback`; it may be tried for `budget_ms` once its turn has come.
    """

    step: int
    strategy: Strategy
    budget_ms: int


class ForUser(Row, frozen=True, kw_only=True):
    """Whom it is for, if it is for a stored user, and which stored address it goes to, if it goes to one."""

    user_id: str | None
    address_id: UUID | None = None

    @property
    def stored_user(self) -> str | None:
        """Name the user for whom the address is stored; one given on the spot, for a user or not, is nobody's."""
        return None if self.address_id is None else self.user_id


class Joining(Row, frozen=True, kw_only=True):
    """Ask to become part of a digest: its name, and when it is due if this is its first.

    The name says whose it is (`gateway.middleware.often.digest_name`); only a keyed hash of it is stored.
    """

    name: str
    due_at: int


class DeliveryRow(ForUser, frozen=True, kw_only=True):
    """One message to one recipient on one channel, as `plan` made it.

    `recipient` is the JSON of who it is (name, locale, timezone, data, user). A delivery that waits (`queued`, `held`)
    also gets a row in the queue; `lease` names the worker it is born leased to (token 1).
    """

    id: UUID
    channel: str
    lane: str
    position: int
    address: str | None
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
    turn: Turn | None = None
    join: Joining | None = None
    """It waits in a digest; when that is due stands against `due_at`."""


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


class Expansion(Row, frozen=True, kw_only=True):
    """Topics whose subscribers are to be planned after the answer.

    `topics` names each with its place in `to`; `position` is the first that no recipient of `to` has. The lowest `rank`
    is served first, from `due_at` on.
    """

    topics: tuple[tuple[int, str], ...]
    position: int
    rank: int
    due_at: int


class Acceptance(Row, frozen=True, kw_only=True):
    """All that one 202 stores, in one transaction."""

    notification: NotificationRow
    deliveries: tuple[DeliveryRow, ...]
    attachments: tuple[AttachmentRow, ...] = ()
    idempotency: Idempotency | None = None
    presumed_clear: tuple[tuple[str, str], ...] = ()
    """(channel, address) pairs that were planned as not suppressed: checked in the same transaction."""
    expansion: Expansion | None = None


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


class Gone(Row, frozen=True, kw_only=True):
    """Users whom deliveries are for were erased since they were looked up: nothing was stored."""

    users: frozenset[str]


AcceptResult = Stored | Replayed | KeyReused | Suppressed | Gone


# --- queue ----------------------------------------------------------------------------------------------------------


class Claimed(ForUser, frozen=True, kw_only=True):
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
    collapse_key: str | None = None
    digest_id: UUID | None = None
    """The digest it is part of, open or being sent."""
    counted: bool = False
    """Whether its category's throttle has counted it."""
    step: int | None = None
    strategy: Strategy | None = None


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
    """An address never written to: by nobody, or where a `sender` is named, not by that one (STOP)."""

    channel: str
    address: str
    sender: str | None = None
    reason: Why
    source: str
    detail: str | None = None
    created_at: int


class ShownRow(Row, frozen=True, kw_only=True):
    """A message that now stands at a place where a newer one can replace it."""

    place: bytes
    delivery_id: UUID
    provider: str
    provider_id: str


OptOut = tuple[str, str, str]
"""Channel, address (as suppressions are looked up) and category."""


class OptOutRow(Row, frozen=True, kw_only=True):
    """An address that wants no more of one category."""

    channel: str
    address: str
    category: str
    source: str
    created_at: int


class EndpointReport(Row, frozen=True, kw_only=True):
    """How an endpoint of our events took an attempt; `gone`: it said that it wants no more, ever."""

    webhook_id: UUID
    ok: bool
    gone: bool = False


class InboxRow(Row, frozen=True, kw_only=True):
    """An item that a settlement puts into the inbox of `user_id`. `data` is JSON that the store never looks into.

    With a `collapse_key` it takes the place of the one that lies there with the same key, of the same project.
    """

    id: UUID
    user_id: str
    delivery_id: UUID
    notification_id: UUID
    project: str
    category: str
    collapse_key: str | None
    title: str | None
    text: str | None
    html: str | None
    data: bytes
    created_at: int
    expires_at: int | None


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
    counted: bool = False
    digest_id: UUID | None = None
    """The digest its claim was part of: what it carries ends with it."""
    join: Joining | None = None
    """The digest in which it waits from now on; when that is due stands against `due_at`."""
    attempts: tuple[AttemptRow, ...] = ()
    captured: CapturedRow | None = None
    suppress: SuppressionRow | None = None
    shown: ShownRow | None = None
    inbox: InboxRow | None = None
    stops: tuple[SuppressionRow, ...] = ()
    """Senders that may write to the address no more, whatever became of the delivery."""
    endpoint: EndpointReport | None = None
    now: int


class Reservation(Row, frozen=True, kw_only=True):
    """Ask when the next message under `key` may go: at most `count` within any `window_ms`."""

    key: str
    count: int
    window_ms: int
    now: int
    ahead: bool = True
    """Whether a later moment is taken too; otherwise that only tells when there is room again."""


class StatusChange(Row, frozen=True, kw_only=True):
    """What a provider reported, normalised: found by `delivery_id`, or by `provider` and `provider_id`.

    `address` is whom it is about, as suppressions are looked up: a report about anybody but the delivery's own address
    (a copy's) changes nothing. `sender` is which of our senders it is about, where that matters (STOP). `due_at` in the
    future keeps it until then (the simulator's late answer); one that finds no settled delivery yet is kept and applied
    when the settlement comes.
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
    address: str | None = None
    sender: str | None = None


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
    expanding: bool = False
    """Whether subscribers of its topics are still to be planned."""


class DeliveryView(ForUser, frozen=True, kw_only=True):
    """A delivery with its attempts."""

    id: UUID
    notification_id: UUID
    project: str
    channel: str
    lane: str
    position: int
    address: str | None
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


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of notifications, newest first.

    `passed`: the page is shorter than asked for, because very many rows before this id did not match; go on there.
    """

    rows: list[NotificationView]
    passed: UUID | None = None


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


class Kept(Row, frozen=True, kw_only=True):
    """Since when (Unix ms) something of finished notifications is kept; some categories have times of their own."""

    before: int
    by_category: Mapping[str, int] = {}

    @property
    def latest(self) -> int:
        """The time after which nothing goes."""
        return max(self.before, *self.by_category.values()) if self.by_category else self.before

    def is_over(self, category: str, at: int) -> bool:
        """Whether what is of `at` has been kept long enough."""
        return at < self.by_category.get(category, self.before)


class UpkeepRules(Row, frozen=True, kw_only=True):
    """Up to when things are kept (Unix ms), and how much is pruned at once."""

    notifications: Kept
    contents: Kept
    captured_before: int
    captured_most: int
    inbox_before: int
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
