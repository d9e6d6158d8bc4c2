"""Erasing a person: from every table, on both databases, and on SQLite from the file's free pages and its log, too."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Connection, select

from gateway.model import ids
from gateway.model.quiet import QuietHours
from gateway.model.states import Status, Why
from gateway.router.events import delivery_of
from gateway.storage import echoes, erasing, scrubbing
from gateway.storage.contract import (
    AddressPut,
    AttachmentRow,
    ChosenBy,
    DeliveryRow,
    Expansion,
    Gone,
    Idempotency,
    Joining,
    OptOutRow,
    Page,
    PreferencesPut,
    Slice,
    Stored,
    UserPut,
    WebhookRow,
)
from gateway.storage.contract.wishes import Scope, Wish
from gateway.storage.schema import METADATA
from gateway.storage.sqlite import SqliteDatabase
from gateway.storage.store import SqlStore
from tests.storage.rows import LANE, Clock, Rows

CANARY = "canary7391"
"""Stands in everything that speaks of the person who is erased, and in nothing else."""

EVENTS = "_events:normal"

ADDRESS = f"Ada.{CANARY}@example.com"
KEY = ADDRESS.lower()


def person(id_: str = f"user-{CANARY}", address: str = ADDRESS) -> UserPut:
    return UserPut(
        id=id_,
        name=f"Ada {CANARY}" if CANARY in id_ else "Bob",
        locale="de",
        timezone="Europe/Vienna",
        attributes=msgspec.json.encode({"note": id_}),
        addresses=(
            AddressPut(channel="email", address=address, key=address.lower(), profile=True),
            AddressPut(channel="mobile_push", address=f"token-{id_}", key=f"token-{id_}", label=f"phone of {id_}"),
        ),
        now=5,
    )


def test_every_column_of_every_table_is_in_a_place_or_tells_nothing() -> None:
    named: dict[str, set[str]] = {table: set(columns) for table, columns in erasing.REWRITTEN.items()}
    for place in erasing.PLACES:
        named.setdefault(place.table, set()).update(place.personal)
    for table, columns in METADATA.tables.items():
        personal, plain = named.get(table, set()), set(erasing.PLAIN.get(table, ()))
        assert {column.name for column in columns.c} == personal | plain, table
        assert not personal & plain, table
    assert {*named, *erasing.PLAIN} == set(METADATA.tables)


def everything(conn: Connection) -> str:
    """Dump every table as text."""
    return "\n".join(
        name + " " + " ".join(v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in row)
        for name, table in METADATA.tables.items()
        for row in conn.execute(select(table))
    )


class Told:
    """What was stored of the person, and of others beside."""

    def __init__(self, store: SqlStore, rows: Rows) -> None:
        self.store = store
        self.rows = rows
        self.key_id = rows.id()

    def delivery(self, **changes: Any) -> DeliveryRow:
        who = msgspec.json.encode({"user": f"user-{CANARY}", "name": f"Ada {CANARY}"})
        mine = {"user_id": f"user-{CANARY}", "address": ADDRESS, "recipient": who, "detail": f"about {CANARY}"}
        return self.rows.delivery(**(mine | changes))

    async def accept(self, *deliveries: DeliveryRow, to: Any, key: str | None = None, **changes: Any) -> UUID:
        metadata = {"a": 1} if isinstance(to, list) else {"a": 1, "who": CANARY}
        request = {"to": to, "content": {"title": "Hello"}, "metadata": metadata}
        answer = {
            "id": "ntf",
            "reference": changes.get("reference"),
            "deliveries": [
                {"id": ids.show(ids.DELIVERY, one.id), "address": one.address, "recipient": {}, "detail": one.detail}
                for one in deliveries
            ],
        }
        asked = Idempotency(
            key_id=self.key_id,
            key=key or "-",
            body_hash=b"hash",
            answer=msgspec.json.encode(answer),
            expires_at=self.rows.clock.now + 86_400_000,
        )
        made = self.rows.acceptance(
            *deliveries,
            request=msgspec.json.encode(request),
            idempotency=asked if key else None,
            attachments=(
                AttachmentRow(filename=f"{CANARY}.txt", content_type="text/plain", content_id=None, content=b"x"),
            )
            if len(deliveries) == 1
            else (),
            **changes,
        )
        assert isinstance(await self.store.accept(made), Stored)
        return made.notification.id

    async def fill(self) -> dict[str, UUID]:
        """Store something in every table that can speak of a person."""
        store, rows = self.store, self.rows
        now = rows.clock.now
        listening = {"project": "default", "url": "https://shop.example.com/", "events": ("*",), "secrets": b"sealed"}
        await store.add_webhook(WebhookRow(id=rows.ids.new(now), created_at=now, **listening), most=5)
        await store.put_users([person(), person("bob", "bob@example.com")])
        for user in (f"user-{CANARY}", "bob"):
            chosen = {("orders", ""): True, (f"news-{user}", "email"): False}
            hours = QuietHours(start=1320, end=420, timezone=f"Zone/{user}")
            now = self.rows.clock.now
            await store.put_preferences(
                PreferencesPut(user_id=user, cells=chosen, quiet_hours=hours, source=ChosenBy.API, now=now)
            )
        to_ada = {"user": f"user-{CANARY}", "email": ADDRESS}
        sent = self.delivery()
        alone = await self.accept(
            sent, to=to_ada, key="alone", reference=f"order-{CANARY}", tags=(f"tag-{CANARY}",), collapse_key=CANARY
        )
        kept, failed = self.delivery(user_id=None), self.delivery()
        bobs = rows.delivery(user_id="bob", address="bob@example.com", position=1, recipient=b'{"user":"bob"}')
        shared = await self.accept(kept, failed, bobs, to=[to_ada, {"user": "bob"}], key="shared", reference="order-2")
        claims = {one.id: one for one in await rows.claim(store)}
        told = rows.sent(
            claims[sent.id],
            "theirs",
            detail=f"250 {CANARY}",
            attempts=(rows.attempt(detail=f"250 for {CANARY}", provider_id="theirs"),),
            inbox=rows.item(claims[sent.id], text=f"Dear {CANARY}"),
        )
        await store.settle(told)
        captured = rows.captured(claims[kept.id], to=ADDRESS, text=f"Dear {CANARY}", raw=f"To: {CANARY}".encode())
        await store.settle(rows.settlement(claims[kept.id], Status.CAPTURED, captured=captured))
        dead = rows.suppression(KEY, reason=Why.ADDRESS_DEAD, detail=f"550 {CANARY}")
        await store.settle(rows.settlement(claims[failed.id], Status.FAILED, detail=f"550 {CANARY}", suppress=dead))
        await store.settle(rows.sent(claims[bobs.id], "bobs"))
        await self.relay()
        gathered = Joining(name=CANARY, due_at=now)
        waiting, leased = self.delivery(join=gathered), self.delivery(lane="sms:normal")
        await self.accept(waiting, to=to_ada)
        await self.accept(leased, to=to_ada)
        [out] = await store.claim({"sms:normal": 1}, rows.lease(), rows.clock.now)
        early = rows.change("deferred", provider_id="unheard", delivery_id=waiting.id, detail=f"soon {CANARY}")
        late = rows.change("bounced", provider_id="nobody", detail="somebody else")
        await store.apply_status([msgspec.structs.replace(early, due_at=rows.clock.now + 1000), late], rows.clock.now)
        for address in (KEY, "bob@example.com"):
            row = OptOutRow(channel="email", address=address, category="marketing", source="link", created_at=1)
            await store.opt_out(row)
        stop = {"scope": Scope.SENDER, "name": f"MG{CANARY}", "stopped": True, "source": "twilio", "at": 1}
        await store.hear([Wish(channel="email", address=KEY, **stop)])
        self.out = out
        await self.subscribe()
        return {
            "alone": alone,
            "shared": shared,
            "sent": sent.id,
            "waiting": waiting.id,
            "leased": leased.id,
            "bobs": bobs.id,
        }

    async def relay(self) -> None:
        """Let the endpoint hear of this: one event has been sent, one is captured, one is on its way, others wait."""
        store, rows = self.store, self.rows
        now = rows.clock.now
        await store.relay_events(partial(delivery_of, now=now), 1000, now)
        sent, kept, self.event_out = await store.claim({EVENTS: 3}, rows.lease(), now)
        answered = rows.attempt(detail=f"200 {CANARY}")
        await store.settle(rows.settlement(sent, final=True, detail=f"200 {CANARY}", attempts=(answered,)))
        captured = rows.captured(kept, data=kept.request, raw=f"POST {CANARY}".encode())
        await store.settle(rows.settlement(kept, Status.CAPTURED, captured=captured))

    async def subscribe(self) -> None:
        """Put both on a topic, and begin a send to it that has come as far as to the person."""
        store, rows = self.store, self.rows
        await store.subscribe(f"news-{CANARY}", [f"user-{CANARY}"], rows.clock.now)
        await store.subscribe("news", [f"user-{CANARY}", "bob"], rows.clock.now)
        expansion = Expansion(topics=((0, "news"),), position=1, rank=1, due_at=rows.clock.now)
        made = msgspec.structs.replace(rows.acceptance(), deliveries=(), expansion=expansion)
        await store.accept(made)
        held = await store.claim_expansion(rows.lease(), rows.clock.now)
        assert held is not None
        await store.expand(
            Slice(
                notification=held.notification,
                token=held.token,
                deliveries=(),
                place=0,
                last_user=f"user-{CANARY}",
                position=1,
                finished=False,
                now=rows.clock.now,
            )
        )


@pytest.fixture
def told(store: SqlStore, rows: Rows) -> Told:
    return Told(store, rows)


def keys_of_digests(conn: Connection) -> list[list[bytes]]:
    """Read by what the two tables of digests know whose they are."""
    asked = ("SELECT key FROM digests WHERE key IS NOT NULL", "SELECT key FROM digest_items")
    return [[bytes(key) for (key,) in conn.exec_driver_sql(one)] for one in asked]


async def test_nothing_of_an_erased_person_is_left_in_any_table(store: SqlStore, rows: Rows, told: Told) -> None:
    await told.fill()
    before = await store._db.read(everything)
    tables = {line.split(" ", 1)[0] for line in before.splitlines() if CANARY in line}
    wanted = {place.table for place in erasing.PLACES if place.personal} | set(erasing.REWRITTEN)
    hashed = {"collapsing", "digests", "digest_items"}  # an address stands there as a hash, which no canary shows
    assert wanted - hashed <= tables, "the test must fill what it wants to see emptied"
    assert hashed <= {line.split(" ", 1)[0] for line in before.splitlines()}
    hash_ = store._books.hide("(digest)", CANARY)
    assert [bool(found) for found in await store._db.read(keys_of_digests)] == [True, True]
    assert hash_ in {key for found in await store._db.read(keys_of_digests) for key in found}
    erased = await store.erase_user(f"user-{CANARY}", rows.clock.now)
    assert erased is not None
    after = await store._db.read(everything)
    assert [line for line in after.splitlines() if CANARY in line.lower()] == []
    assert "collapsing" not in {line.split(" ", 1)[0] for line in after.splitlines()}
    assert hash_ not in {key for found in await store._db.read(keys_of_digests) for key in found}
    assert (erased.cancelled, erased.scrubbed) == (2, True)
    assert set(erased.removed) >= {table for table, count in erased.removed.items() if count}
    expected = {"users": 1, "addresses": 2, "preferences": 2, "deliveries": 6, "captured": 2, "suppressions": 1}
    assert {table: erased.removed[table] for table in expected} == expected
    assert await store.erase_user(f"user-{CANARY}", rows.clock.now) is None


async def test_the_others_keep_what_is_theirs(store: SqlStore, rows: Rows, told: Told) -> None:
    made = await told.fill()
    bob = await store.user("bob")
    await store.erase_user(f"user-{CANARY}", rows.clock.now)
    assert await store.user("bob") == bob
    assert await store.opted_out([("email", "bob@example.com", "marketing")])
    bobs = await store.delivery(None, made["bobs"])
    assert bobs is not None
    assert (bobs.address, bobs.user_id, bobs.recipient) == ("bob@example.com", "bob", b'{"user":"bob"}')
    shared = await store.notification(None, made["shared"])
    assert shared is not None
    assert shared.reference == "order-2"
    assert msgspec.json.decode(shared.request or b"") == {
        "to": [{}, {"user": "bob"}],
        "content": {"title": "Hello"},
        "metadata": {"a": 1},
    }
    replayed = await store.recall(told.key_id, "shared", b"hash", rows.clock.now)
    answer = msgspec.json.decode(replayed.answer)  # type: ignore[union-attr] # a replay
    assert [one["address"] for one in answer["deliveries"]] == [None, None, "bob@example.com"]
    alone = await store.notification(None, made["alone"])
    assert alone is not None
    assert (alone.request, alone.reference, alone.tags) == (None, None, ())
    assert alone.counts == {"sent": 1}, "that something was sent stays counted"


async def test_what_waits_is_called_back_and_what_is_out_is_told_too_late(
    store: SqlStore, rows: Rows, told: Told
) -> None:
    made = await told.fill()
    await store.erase_user(f"user-{CANARY}", rows.clock.now)
    for name, status in (("waiting", Status.CANCELLED), ("leased", Status.UNKNOWN)):
        found = await store.delivery(None, made[name])
        assert found is not None
        assert (found.status, found.reason, found.final) == (status, Why.CANCELLED, True)
        notification = await store.notification(None, found.notification_id)
        assert notification is not None
        assert notification.status == "completed"
    assert not await store.settle(rows.settlement(told.out, Status.SENT, detail=f"250 {CANARY}"))
    assert await rows.claim(store) == []
    assert await store.claim({LANE: 5, "sms:normal": 5}, rows.lease(), rows.clock.later(10**8)) == []


def said(request: bytes | None) -> dict[str, Any]:
    """Read the event that a stored request carries."""
    return msgspec.json.decode(request or b"")["event"]


async def test_events_that_wait_for_endpoints_still_go_and_say_nothing_of_who_is_erased(
    store: SqlStore, rows: Rows, told: Told
) -> None:
    made = await told.fill()
    await store.erase_user(f"user-{CANARY}", rows.clock.now)
    words = {"bobs": 0, "nobodys": 0}
    assert not await store.settle(rows.settlement(told.event_out, detail=f"500 {CANARY}")), "it carries words of before"
    await store.relay_events(partial(delivery_of, now=rows.clock.now), 1000, rows.clock.now)
    claims = await store.claim({EVENTS: 1000}, rows.lease(), rows.clock.now)
    assert [one.unsure for one in claims if one.id == told.event_out.id] == [True]
    events = [said(one.request) for one in claims]
    assert {event["type"] for event in events} >= {"delivery.queued", "delivery.unknown", "suppression.created"}
    bobs = ids.show(ids.DELIVERY, made["bobs"])
    shared = ids.show(ids.NOTIFICATION, made["shared"])
    for event in events:
        theirs = event["delivery_id"] == bobs or (event["notification_id"] == shared and event["delivery_id"] is None)
        words["bobs" if theirs else "nobodys"] += 1
        if theirs:
            assert (event["reference"], event["metadata"]) == ("order-2", {"a": 1}), "the request still speaks to Bob"
        elif event["notification_id"] is not None:
            assert (event["reference"], event["metadata"], event["detail"]) == (None, {}, None), event
            assert event["delivery_id"] or event["type"] == "notification.completed"
        else:
            assert (event["channel"], event["address"], event["detail"]) == ("email", None, None)
    assert all(words.values()), words


async def test_many_events_of_one_delivery_are_rewritten_in_rounds(store: SqlStore, rows: Rows, told: Told) -> None:
    await store.put_users([person()])
    for number in range(6):
        listening = {"project": "default", "url": f"https://shop.example.com/{number}", "events": ("*",)}
        await store.add_webhook(WebhookRow(id=rows.id(), created_at=1, secrets=b"sealed", **listening), most=6)
    made = [rows.acceptance(told.delivery(), reference=CANARY) for _ in range(erasing.SLICE)]
    await store.accept_many(made)
    now = rows.clock.now
    assert await store.relay_events(partial(delivery_of, now=now), 1000, now) == 6 * erasing.SLICE > echoes.SLICE
    assert await store.erase_user(f"user-{CANARY}", now) is not None
    assert CANARY not in await store._db.read(everything)


@pytest.mark.parametrize("named", ["user", "address"])
async def test_a_request_to_that_one_recipient_alone_goes_wholly(
    store: SqlStore, rows: Rows, told: Told, named: str
) -> None:
    await store.put_users([person()])
    listening = {"project": "default", "url": "https://shop.example.com/", "events": ("notification.completed",)}
    await store.add_webhook(WebhookRow(id=rows.id(), created_at=1, secrets=b"sealed", **listening), most=5)
    user_id = f"user-{CANARY}" if named == "user" else None
    no_phone = {"channel": "sms", "address": None, "status": Status.SKIPPED, "reason": Why.NO_ADDRESS}
    pair = told.delivery(user_id=user_id), told.delivery(user_id=user_id, **no_phone)
    alone = await told.accept(*pair, to={"email": ADDRESS}, reference=CANARY, tags=(CANARY,))
    await store.settle(rows.settlement(await rows.claim_one(store), final=True))
    assert await store.relay_events(partial(delivery_of, now=rows.clock.now), 10, rows.clock.now) == 1
    whole = await store.about_user(None, f"user-{CANARY}", Page(limit=51))
    assert whole is not None
    assert [said(one.request)["reference"] for one in whole.echoes] == [CANARY]
    assert await store.erase_user(f"user-{CANARY}", rows.clock.now) is not None
    found = await store.notification(None, alone)
    assert found is not None
    assert (found.request, found.reference, found.tags) == (None, None, ())
    assert CANARY not in (await store._db.read(everything)).lower()


async def test_what_goes_to_a_place_that_others_read_is_not_theirs(store: SqlStore, rows: Rows) -> None:
    shared = AddressPut(channel="slack", address="#ops", key="#ops")
    await store.put_users([msgspec.structs.replace(person(), addresses=(shared,))])
    waiting = rows.delivery(channel="slack", address="#ops")
    await store.accept(rows.acceptance(waiting))
    erased = await store.erase_user(f"user-{CANARY}", rows.clock.now)
    assert erased is not None
    assert (erased.cancelled, erased.removed.get("deliveries", 0)) == (0, 0)
    found = await store.delivery(None, waiting.id)
    assert found is not None
    assert (found.status, found.address) == (Status.QUEUED, "#ops")


async def test_a_late_report_moves_the_delivery_and_says_nothing_of_the_person(
    store: SqlStore, rows: Rows, told: Told
) -> None:
    made = await told.fill()
    await store.erase_user(f"user-{CANARY}", rows.clock.now)
    report = rows.change("bounced", provider_id="theirs", reason=Why.ADDRESS_DEAD, detail=f"550 <{ADDRESS}> unknown")
    assert await store.apply_status([report], rows.clock.now) == 1
    found = await store.delivery(None, made["sent"])
    assert found is not None
    assert (found.status, found.detail) == (Status.BOUNCED, None)
    assert CANARY not in (await store._db.read(everything)).lower()


async def test_an_erased_address_is_still_never_written_to_and_can_be_let_go(
    store: SqlStore, rows: Rows, told: Told
) -> None:
    await told.fill()
    await store.suppress(rows.suppression("bob@example.com"))
    await store.erase_user(f"user-{CANARY}", rows.clock.now)
    found = await store.suppressed("email", KEY)
    assert found is not None
    assert (found.reason, found.address, found.detail) == (Why.ADDRESS_DEAD, KEY, None)
    assert {row.address for row in await store.suppressions_of([("email", KEY), ("email", "bob@example.com")])} == {
        KEY,
        "bob@example.com",
    }
    assert await store.suppressed("sms", KEY) is None
    assert await store.suppressed("email", "eve@example.com") is None
    clear = msgspec.structs.replace(rows.acceptance(), presumed_clear=(("email", KEY),))
    assert type(await store.accept(clear)).__name__ == "Suppressed"
    assert await store.unsuppress("email", KEY)
    assert await store.suppressed("email", KEY) is None
    assert not await store.unsuppress("email", KEY)


async def test_a_send_that_looked_the_user_up_before_the_erasure_is_refused_after_it(
    store: SqlStore, rows: Rows, told: Told
) -> None:
    await store.put_users([person(), person("bob", "bob@example.com")])
    await store.erase_user(f"user-{CANARY}", rows.clock.now)
    late = rows.acceptance(told.delivery(), rows.delivery(user_id="bob"))
    other = rows.acceptance(rows.delivery(user_id="bob"))
    results = await store.accept_many([late, other, rows.acceptance()])
    assert results == [Gone(users=frozenset({f"user-{CANARY}"})), Stored(), Stored()]
    assert CANARY not in await store._db.read(everything)


async def test_sends_and_an_erasure_at_once_leave_nothing_behind(store: SqlStore, rows: Rows, told: Told) -> None:
    await store.put_users([person()])
    batches = [[rows.acceptance(told.delivery()) for _ in range(20)] for _ in range(15)]
    erasing_ = asyncio.create_task(store.erase_user(f"user-{CANARY}", rows.clock.now))
    results = await asyncio.gather(*[store.accept_many(batch) for batch in batches])
    assert await erasing_ is not None
    assert {type(one) for batch in results for one in batch} <= {Stored, Gone}
    assert CANARY not in await store._db.read(everything)


async def test_a_long_history_is_erased_in_slices(store: SqlStore, rows: Rows, told: Told) -> None:
    await store.put_users([person()])
    await store.accept_many([rows.acceptance(told.delivery()) for _ in range(erasing.SLICE * 2 + 7)])
    erased = await store.erase_user(f"user-{CANARY}", rows.clock.now)
    assert erased is not None
    assert erased.removed["deliveries"] == erased.cancelled == erasing.SLICE * 2 + 7
    assert CANARY not in await store._db.read(everything)


def files_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith("gateway.db"))


async def in_slices(store: SqlStore, now: int) -> bool:
    """Erase and scrub as in a large file, which is not written anew."""
    user = await store.user(f"user-{CANARY}")
    assert user is not None
    while not (await store._db.write(lambda conn: erasing.erase(conn, user, now, books=store._books))).finished:
        pass
    for act in (scrubbing.fill, scrubbing.let_go):
        while await store._db.write(act):
            pass
    assert isinstance(store._db, SqliteDatabase)
    assert store._db._writer is not None
    return await store._db._writer.call(scrubbing.empty_log)


@pytest.mark.parametrize("small", [True, False])
async def test_nothing_is_left_in_the_file_nor_its_log(tmp_path: Path, rows: Rows, clock: Clock, small: bool) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'gateway.db'}", clock, ids.IdSource())
    await store.open()
    made = Told(store, rows)
    await made.fill()
    large = {"to": {"user": f"user-{CANARY}"}, "content": {"title": "Hello", "body": f"{CANARY} " * 20_000}}
    wide = rows.acceptance(made.delivery(), request=msgspec.json.encode(large))
    await store.accept(wide)
    for n in range(300):
        await store.put_users([person(f"user-{n}", f"u{n}@example.com")])
    for n in range(5):
        changed = msgspec.structs.replace(person(), name=f"Ada {CANARY} {n} {'x' * 300 * n}", now=n)
        await store.put_users([changed])
    assert CANARY.encode() in files_of(tmp_path)
    if small:
        erased = await store.erase_user(f"user-{CANARY}", clock.now)
        assert erased is not None
        assert erased.scrubbed
    else:
        assert await in_slices(store, clock.now)
    left = files_of(tmp_path)
    assert re.findall(rb"(?i)[^\0]{0,40}" + CANARY.encode(), left) == []
    assert b"bob@example.com" in left
    assert await store._db.read(lambda conn: conn.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    await store.close()


async def test_all_that_is_held_about_a_person_is_told(store: SqlStore, rows: Rows, told: Told) -> None:
    await told.fill()
    whole = await store.about_user(None, f"user-{CANARY}", Page(limit=51))
    assert whole is not None
    assert (whole.user.id, len(whole.deliveries), whole.more) == (f"user-{CANARY}", 5, False)
    assert {one.address for one in whole.deliveries} == {ADDRESS}
    assert len(whole.suppressions) == len(whole.opt_outs) == 1
    assert len(whole.captured) == 2, "a message, and an event for an endpoint"
    events = [msgspec.json.decode(one.request)["event"] for one in whole.echoes]
    assert Counter(event["type"] for event in events) == {
        "delivery.queued": 3,
        "delivery.sent": 1,
        "delivery.captured": 1,
        "delivery.failed": 1,
        "suppression.created": 1,
    }
    assert Counter(one.status for one in whole.echoes) == {"sent": 1, "captured": 1, "sending": 1, "queued": 4}
    assert {one.endpoint[:4] for one in whole.echoes} == {"whk_"}
    assert {one.type for one in whole.events} == {"delivery.sent", "delivery.captured", "delivery.failed"}
    first = await store.about_user(None, f"user-{CANARY}", Page(limit=3))
    assert first is not None
    assert (len(first.deliveries), first.more) == (2, True)
    rest = await store.about_user(None, f"user-{CANARY}", Page(limit=4, before=first.deliveries[-1].id))
    assert rest is not None
    assert [*first.deliveries, *rest.deliveries] == list(whole.deliveries)
    assert not rest.more
    assert await store.about_user(None, "nobody", Page(limit=3)) is None
    other = await store.about_user("other", f"user-{CANARY}", Page(limit=3))
    assert other is not None
    assert other.deliveries == other.echoes == other.captured == ()
