"""The store: every verb of the contract, each handed to the room that owns its statements.

Owns which verbs gather and on which side they run. Refuses to know SQL: the rooms do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from gateway.model.ids import IdSource
from gateway.storage import (
    accepting,
    cancelling,
    captured,
    claiming,
    digests,
    figures,
    inbox,
    keys,
    migrate,
    opt_outs,
    pacing,
    reading,
    settling,
    status,
    suppressions,
    templates,
    turns,
    upkeep,
)
from gateway.storage.choosing_verbs import ChoosingVerbs
from gateway.storage.claiming import Claim
from gateway.storage.collapsing_verbs import CollapseVerbs
from gateway.storage.contract import (
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
    StoreUnavailable,
    SuppressionRow,
    UpkeepReport,
    UpkeepRules,
)
from gateway.storage.database import Database, OnBatch, Verb, unheard
from gateway.storage.digests_verbs import DigestVerbs
from gateway.storage.edits_verbs import EditVerbs
from gateway.storage.inbox_verbs import InboxVerbs
from gateway.storage.ledger import Books
from gateway.storage.people_verbs import PeopleVerbs
from gateway.storage.personal_verbs import PersonalVerbs
from gateway.storage.preferences_verbs import PreferenceVerbs
from gateway.storage.providers_verbs import ProviderVerbs
from gateway.storage.spending_verbs import SpendingVerbs
from gateway.storage.sqlite import SqliteDatabase
from gateway.storage.topics_verbs import TopicVerbs
from gateway.storage.turns_verbs import TurnVerbs
from gateway.storage.webhooks_verbs import WebhookVerbs
from gateway.storage.wishes_verbs import WishVerbs

SIMULATOR: Final = "simulator"
"""The simulated provider's name: what it reports suppresses nobody."""

_SHARDS: Final = 8
"""Rows that share one hourly count on PostgreSQL, so that as many transactions need not wait for each other."""

_READY_S: Final = 2
_COUNT_FRESH_S: Final = 1
_COUNT_SHARE: Final = 20
"""Counting a long queue takes at most a twentieth of the time."""

Asked = tuple[UUID, str, bytes, int]


class SqlStore(
    DigestVerbs,
    EditVerbs,
    PeopleVerbs,
    PersonalVerbs,
    PreferenceVerbs,
    ChoosingVerbs,
    ProviderVerbs,
    TurnVerbs,
    CollapseVerbs,
    WishVerbs,
    SpendingVerbs,
    WebhookVerbs,
    InboxVerbs,
    TopicVerbs,
):
    """The store on SQLite or PostgreSQL, by the URL's scheme. Satisfies `contract.Store`."""

    def __init__(
        self,
        database_url: str,
        clock: Callable[[], int],
        ids: IdSource,
        *,
        simulator: str = SIMULATOR,
        secret: bytes = b"",
        connections: int = 10,
        patience_ms: int = 2000,
        offset_ms: Callable[[], int] = lambda: 0,
        on_batch: OnBatch = unheard,
        cancel_slice: int = cancelling.SLICE,
    ) -> None:
        self._clock = clock
        self._cancel_slice = cancel_slice
        self._db: Database
        if database_url.startswith("sqlite"):
            self._db = SqliteDatabase(database_url, clock, patience_ms=patience_ms, on_batch=on_batch)
            shards = 1
        else:
            # Imported here: a tenth of a second and nine megabytes that an embedded gateway does without.
            from gateway.storage.postgres import PostgresDatabase  # noqa: PLC0415

            self._db = PostgresDatabase(database_url, connections=connections, offset_ms=offset_ms, on_batch=on_batch)
            shards = _SHARDS
        self._books = books = Books(ids, shards=shards, simulator=simulator, secret=secret)
        self._accept: Verb[Acceptance, AcceptResult] = Verb(
            "accept",
            partial(accepting.accept, books=books),
            weight=accepting.weight_of,
        )
        self._recall: Verb[Asked, AcceptResult | None] = Verb("recall", accepting.recall)
        self._claim: Verb[Claim, claiming.Handed] = Verb("claim", claiming.claim)
        self._settle: Verb[Settlement, settling.Settled] = Verb("settle", partial(settling.settle, books=books))
        self._reserve: Verb[Reservation, int] = Verb("reserve", pacing.reserve)
        self._suppressed: Verb[Collection[tuple[str, str]], list[SuppressionRow]] = Verb(
            "suppressed",
            partial(suppressions.look_up, books=books),
        )
        self._opted_out: Verb[Collection[OptOut], set[OptOut]] = Verb("opted_out", opt_outs.look_up)

        self._prepare_people()
        self._prepare_preferences()
        self._prepare_digests()
        self._key: Verb[bytes, KeyRow | None] = Verb("key", keys.by_hash)
        self._counted = (0, 0.0, 0.0)
        self._walked = ""
        self._blanked = self._deleted = upkeep.BEGINNING

    # life

    async def open(self) -> None:
        """Connect; create or migrate the embedded schema."""
        await self._db.open()

    async def close(self) -> None:
        """Finish what is being written and disconnect."""
        await self._db.close()

    async def now_ms(self) -> int:
        """Tell the database's time."""
        return await self._db.now_ms()

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; answers the revisions that ran. Works before `open` too."""
        return await self._db.migrate()

    async def pending(self) -> list[str]:
        """Name the revisions that have not run."""
        return await self._db.pending()

    async def ready(self) -> str | None:
        """Say what keeps the store from working, or `None`."""
        try:
            async with asyncio.timeout(_READY_S):
                pending = await self._db.pending()
        except (StoreUnavailable, TimeoutError) as fault:
            return str(fault) or "The database does not answer."
        except migrate.UnknownRevision as unknown:
            return f"The database {unknown}"
        return f"The schema is behind: run `gateway migrate` ({', '.join(pending)})." if pending else None

    # accept

    async def accept(self, acceptance: Acceptance) -> AcceptResult:
        """Store a notification, its deliveries and queue rows."""
        return await self._db.gather_write(self._accept, acceptance)

    async def accept_many(self, acceptances: Sequence[Acceptance]) -> Sequence[AcceptResult | Exception]:
        """Store several."""
        return await self._db.gather_each(self._accept, acceptances) if acceptances else []

    async def recall(self, key_id: UUID, key: str, body_hash: bytes, now: int) -> AcceptResult | None:
        """Look an idempotency key up before planning."""
        return await self._db.gather_read(self._recall, (key_id, key, body_hash, now))

    # queue

    async def claim(self, wanted: Mapping[str, int], lease: Lease, now: int) -> list[Claimed]:
        """Lease due deliveries."""
        handed = await self._db.gather_write(self._claim, Claim(wanted, lease, now))
        self._tell(handed.again)
        return handed.claims

    async def settle(self, settlement: Settlement) -> bool:
        """Record what became of a claim."""
        settled = await self._db.gather_write(self._settle, settlement)
        self._tell(settled.due)
        return settled.kept

    async def renew(self, claims: Sequence[tuple[UUID, int]], until: int) -> set[UUID]:
        """Prolong leases that are still held."""
        return await self._db.write(lambda conn: claiming.renew(conn, claims, until))

    async def release(self, claims: Sequence[tuple[UUID, int]], due_at: int) -> None:
        """Give claims back unused."""
        await self._db.write(lambda conn: claiming.release(conn, claims, due_at))

    async def reserve(self, reservation: Reservation) -> int:
        """Reserve the next free moment under a rate."""
        return await self._db.gather_write(self._reserve, reservation)

    async def peek(self, reservation: Reservation) -> int:
        """Tell what `reserve` would answer."""
        return await self._db.read(lambda conn: pacing.peek(conn, reservation))

    async def next_due(self, lanes: Sequence[str]) -> int | None:
        """Tell when the earliest waiting delivery of these lanes is due."""
        return await self._db.read(lambda conn: claiming.next_due(conn, lanes))

    async def attachments(self, notification_id: UUID) -> tuple[AttachmentRow, ...]:
        """Load a notification's files."""
        return await self._db.read(lambda conn: claiming.attachments(conn, notification_id))

    # consent

    async def suppressed(self, channel: str, address: str) -> SuppressionRow | None:
        """Look an address up on the suppression list."""
        found = await self._db.gather_read(self._suppressed, [(channel, address)])
        return found[0] if found else None

    async def suppressions_of(self, addresses: Collection[tuple[str, str]]) -> Sequence[SuppressionRow]:
        """Look several (channel, address) pairs up at once."""
        return await self._db.gather_read(self._suppressed, addresses)

    async def suppress(self, row: SuppressionRow) -> bool:
        """Put an address on the list."""
        return await self._db.write(lambda conn: suppressions.add(conn, [row], self._books.ids)) > 0

    async def unsuppress(self, channel: str, address: str) -> bool:
        """Take an address off the list."""
        return await self._db.write(lambda conn: suppressions.remove(conn, channel, address, books=self._books))

    async def opted_out(self, keys: Collection[OptOut]) -> Collection[OptOut]:
        """Tell which (channel, address, category) were opted out of."""
        return await self._db.gather_read(self._opted_out, keys) if keys else ()

    async def opt_out(self, row: OptOutRow) -> bool:
        """Note an opt-out."""
        return await self._db.write(lambda conn: opt_outs.add(conn, row))

    async def opt_in(self, key: OptOut) -> bool:
        """Forget an opt-out."""
        return await self._db.write(lambda conn: opt_outs.remove(conn, key))

    async def list_suppressions(
        self,
        *,
        channel: str | None,
        address: str | None,
        limit: int,
        after: tuple[int, str, str, str] | None,
    ) -> list[SuppressionRow]:
        """List newest first."""
        return await self._db.read(
            lambda conn: suppressions.listing(conn, channel=channel, address=address, limit=limit, after=after),
        )

    # provider events

    async def apply_status(self, changes: Sequence[StatusChange], now: int) -> int:
        """Apply provider events."""
        due: set[str] = set()
        books = self._books
        number = await self._db.write(lambda conn: status.apply_status(conn, changes, now, books=books, due=due))
        self._tell(due)
        return number

    # read

    async def notification(self, project: str | None, id_: UUID) -> NotificationView | None:
        """Show one notification."""
        now = await self._db.now_ms()
        return await self._db.read(lambda conn: reading.notification(conn, project, id_, now))

    async def notifications(self, where: NotificationFilter, page: Page) -> Found:
        """List notifications."""
        now = await self._db.now_ms()
        return await self._db.read(lambda conn: reading.notifications(conn, where, page, now))

    async def deliveries(self, notification_id: UUID, limit: int = 1000) -> list[DeliveryView]:
        """List a notification's deliveries."""
        return await self.deliveries_of([notification_id], limit)

    async def deliveries_of(self, notification_ids: Sequence[UUID], limit: int = 1000) -> list[DeliveryView]:
        """List the deliveries of several notifications."""
        return await self._db.read(lambda conn: reading.deliveries(conn, notification_ids, limit))

    async def delivery(self, project: str | None, id_: UUID) -> DeliveryView | None:
        """Show one delivery."""
        return await self._db.read(lambda conn: reading.delivery(conn, project, id_))

    async def find_deliveries(self, where: DeliveryFilter, page: Page) -> list[DeliveryView]:
        """List deliveries."""
        return await self._db.read(lambda conn: reading.find_deliveries(conn, where, page))

    async def events(self, notification_id: UUID) -> list[EventView]:
        """List what happened to a notification."""
        return await self._db.read(lambda conn: reading.events(conn, notification_id))

    async def cancel(self, notification_id: UUID, now: int) -> list[Cancelled]:
        """Cancel what waits, a slice to a transaction."""
        books, most = self._books, self._cancel_slice
        part = await self._db.write(lambda conn: cancelling.begin(conn, notification_id, now, most, books=books))
        told = part.told
        while (walk := part.rest) is not None:
            later = max(now, self._clock())
            part = await self._db.write(partial(cancelling.go_on, walk=walk, now=later, most=most, books=books))
            told += part.told
        return told

    async def resend(self, rows: Mapping[UUID, Sequence[DeliveryRow]], now: int) -> None:
        """Add deliveries to existing notifications."""
        await self._db.write(lambda conn: accepting.add_deliveries(conn, rows, now, books=self._books))

    # captured

    async def captured(self, where: CapturedFilter, page: Page) -> list[CapturedRow]:
        """List captured messages; `raw` is empty here."""
        return await self._db.read(lambda conn: captured.listing(conn, where, page))

    async def captured_one(self, project: str | None, id_: UUID) -> CapturedRow | None:
        """Show one."""
        return await self._db.read(lambda conn: captured.one(conn, project, id_))

    async def clear_captured(self, project: str | None) -> int:
        """Delete them."""
        return await self._db.write(lambda conn: captured.clear(conn, project))

    # templates

    async def keep_template(self, version: str, key: str, source: bytes, now: int) -> None:
        """Keep a template version."""
        await self._db.write(lambda conn: templates.keep(conn, version, key, source, now))

    async def template(self, version: str) -> bytes | None:
        """Load a kept version."""
        return await self._db.read(lambda conn: templates.load(conn, version))

    # keys

    async def key_by_hash(self, hash_: bytes) -> KeyRow | None:
        """Find a key."""
        return await self._db.gather_read(self._key, hash_)

    async def add_key(self, key: KeyRow) -> None:
        """Keep a new key."""
        await self._db.write(lambda conn: keys.add(conn, key))

    async def keys(self, project: str | None) -> list[KeyRow]:
        """List keys."""
        return await self._db.read(lambda conn: keys.listing(conn, project))

    async def revoke_key(self, id_: UUID, now: int) -> bool:
        """Revoke a key."""
        return await self._db.write(lambda conn: keys.revoke(conn, id_, now))

    async def touch_keys(self, used: Mapping[UUID, int]) -> None:
        """Note when keys were last used."""
        await self._db.write(lambda conn: keys.touch(conn, used))

    # upkeep and figures

    async def upkeep(self, rules: UpkeepRules, now: int) -> UpkeepReport:
        """Do one small round of housekeeping: each step a short transaction of its own, so that others come between."""
        books, most, write = self._books, rules.slice, self._db.write
        due: set[str] = set()
        expired = await write(lambda conn: upkeep.expire(conn, now, most, books=books, due=due))
        before = rules.receipts_before
        finalised = await write(lambda conn: upkeep.finalise(conn, before, now, most, books=books, due=due))
        looked, applied = await write(lambda conn: status.apply_due(conn, now, most, books=books, due=due))
        turned = await write(lambda conn: turns.look_again(conn, now, most, books=books, due=due))
        self._tell(due)
        stale = await write(lambda conn: digests.look_again(conn, now, most))
        called_back = await write(lambda conn: cancelling.look_again(conn, now, most, books=books))
        blanked = await write(lambda conn: upkeep.blank(conn, rules, self._blanked))
        deleted = await write(lambda conn: upkeep.delete(conn, rules, self._deleted))
        self._blanked, self._deleted = blanked.last, deleted.last
        trimmed = await write(lambda conn: upkeep.trim_captured(conn, rules))
        forgotten = await write(lambda conn: upkeep.forget_keys(conn, now, most))
        dropped = await write(lambda conn: upkeep.forget_reports(conn, now, most))
        emptied = await write(lambda conn: inbox.forget(conn, rules.inbox_before, now, most))
        self._walked = await write(lambda conn: pacing.prune(conn, self._walked, now, most))
        return UpkeepReport(
            expired=expired,
            finalised=finalised,
            deleted=deleted.done,
            events_applied=applied,
            more=max(expired, finalised, looked, trimmed, forgotten, dropped, turned, emptied, stale, called_back)
            >= most
            or blanked.more
            or deleted.more,
        )

    async def depths(self, now: int) -> list[LaneDepth]:
        """Count what waits, by lane."""
        return await self._db.read(lambda conn: figures.depths(conn, now))

    async def wake(self, lanes: Collection[str]) -> None:
        """Tell other processes."""
        await self._db.wake(lanes)

    async def listen(self, told: Callable[[str], None]) -> None:
        """Hear of other processes."""
        await self._db.listen(told)

    async def waiting(self) -> int:
        """Count all queue rows; counted anew after a second, or later where counting itself takes long."""
        number, took_s, at = self._counted
        began = time.monotonic()
        if at == 0 or began - at > max(_COUNT_FRESH_S, _COUNT_SHARE * took_s):
            number = await self._db.read(figures.waiting)
            ended = time.monotonic()
            self._counted = (number, ended - began, ended)
        return number

    async def stats(self, project: str | None, since: int, until: int) -> list[StatRow]:
        """Tell hourly counts."""
        return await self._db.read(lambda conn: figures.stats(conn, project, since, until))
