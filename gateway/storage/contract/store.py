"""The verbs of a store, and the promise of each.

Every verb marked *gathers* may be called by thousands of tasks at once: whoever comes while a batch is running joins
the next one, and a batch is a handful of set-based statements. Verbs that write answer after the commit is on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from gateway.storage.contract.choosing import ChoosingStore
from gateway.storage.contract.collapsing import CollapseStore
from gateway.storage.contract.digests import DigestStore
from gateway.storage.contract.edits import EditStore
from gateway.storage.contract.inbox import InboxStore
from gateway.storage.contract.people import PeopleStore
from gateway.storage.contract.personal import PersonalStore
from gateway.storage.contract.preferences import PreferenceStore
from gateway.storage.contract.providers import ProviderStore
from gateway.storage.contract.rows import (
    Acceptance,
    AcceptResult,
    AttachmentRow,
    Cancelled,
    CapturedFilter,
    CapturedRow,
    Claimed,
    DeliveryFilter,
    DeliveryRow,
    DeliveryView,
    EventView,
    Found,
    KeyRow,
    LaneDepth,
    Lease,
    NotificationFilter,
    NotificationView,
    OptOut,
    OptOutRow,
    Page,
    Reservation,
    Settlement,
    StatRow,
    StatusChange,
    SuppressionRow,
    UpkeepReport,
    UpkeepRules,
)
from gateway.storage.contract.spending import SpendingStore
from gateway.storage.contract.topics import TopicStore
from gateway.storage.contract.turns import TurnStore
from gateway.storage.contract.waking import WakingStore
from gateway.storage.contract.webhooks import WebhookStore
from gateway.storage.contract.wishes import WishStore


class Store(
    DigestStore,
    EditStore,
    PeopleStore,
    PersonalStore,
    PreferenceStore,
    ChoosingStore,
    ProviderStore,
    TurnStore,
    CollapseStore,
    WishStore,
    SpendingStore,
    WebhookStore,
    InboxStore,
    TopicStore,
    WakingStore,
    Protocol,
):
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
        presumed clear is looked up in the same transaction; that is cheaper than a question before each request. What
        waits for the same address under the same `collapse_key` ends `collapsed`, with what waits behind it.
        """
        ...

    async def accept_many(self, acceptances: Sequence[Acceptance]) -> Sequence[AcceptResult | Exception]:
        """Store several, in one transaction where nothing stands against it; each one's result, or its fault, in order.

        It raises nothing: `StoreUnavailable` is among the faults.
        """
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
        count (and its `notification.completed` event), and applies status changes that arrived early. What waits
        behind it for its turn is let go or called off.
        """
        ...

    async def renew(self, claims: Sequence[tuple[UUID, int]], until: int) -> set[UUID]:
        """Prolong leases (id, token) that are still held; answers which ones were."""
        ...

    async def release(self, claims: Sequence[tuple[UUID, int]], due_at: int) -> None:
        """Give claims (id, token) back unused: due at that time, not counted as lost."""
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
        """Take an address off the list, for every sender; `False` if it was not there."""
        ...

    async def list_suppressions(
        self,
        *,
        channel: str | None,
        address: str | None,
        limit: int,
        after: tuple[int, str, str, str] | None,
    ) -> list[SuppressionRow]:
        """List newest first, senders' rows too; `after`: (created_at, channel, address, sender or "") last seen."""
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

        Monotonic (`states.may_follow`), repeatable, in any order. Engagement events join the set; what is reported of
        another address than the delivery's changes nothing. In the same transaction, unless `provider` is the
        simulator's: hard bounces and complaints suppress the address (reason `address_dead` / `complained`, source the
        provider's name), a refusal as `opted_out` by a named `sender` stops that sender, and `unsubscribed` and
        `resubscribed` are heard as words about the delivery's category.
        """
        ...

    # read
    async def notification(self, project: str | None, id_: UUID) -> NotificationView | None:
        """Show one notification with counts."""
        ...

    async def notifications(self, where: NotificationFilter, page: Page) -> Found:
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
        """Cancel what waits (queued, held, not leased); what is being sent goes on, unless it comes to wait again.

        What has waited since an attempt whose answer was lost ends `unknown`. Subscribers of its topics that are not
        planned yet never will be. Works in slices, so that others come between; from the first on nothing more of the
        notification is claimed. Repeatable; if this process ends before it is done, upkeep goes on with it.
        """
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
