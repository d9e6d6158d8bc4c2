from __future__ import annotations

import asyncio

import msgspec

from gateway.model.states import Mode, Scope, Status, Why
from gateway.storage.contract import CapturedFilter, CapturedRow, KeyRow, Page
from gateway.storage.store import SqlStore
from tests.storage.rows import Clock, Rows


async def capture(store: SqlStore, rows: Rows, **changes: object) -> CapturedRow:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    row = rows.captured(claimed, **changes)
    assert await store.settle(rows.settlement(claimed, Status.CAPTURED, captured=row))
    return row


async def test_a_captured_message_is_kept_whole_and_listed_without_its_raw_form(store: SqlStore, rows: Rows) -> None:
    row = await capture(store, rows)
    assert await store.captured_one("default", row.id) == row
    assert await store.captured(CapturedFilter(), Page(limit=5)) == [msgspec.structs.replace(row, raw=b"")]
    assert await store.captured_one("other", row.id) is None
    assert await store.captured_one(None, row.id) == row


async def test_captured_messages_are_found_newest_first(store: SqlStore, rows: Rows, clock: Clock) -> None:
    first = await capture(store, rows, subject="100% ÄRGER", text="a_b")
    clock.later(1000)
    second = await capture(store, rows, to="bob@example.com", subject=None, text=None, reference="r", project="p")
    for where, expected in (
        (CapturedFilter(), [second, first]),
        (CapturedFilter(to="bob@example.com"), [second]),
        (CapturedFilter(reference="r"), [second]),
        (CapturedFilter(project="default"), [first]),
        (CapturedFilter(channel="sms"), []),
        (CapturedFilter(notification_id=first.notification_id), [first]),
        (CapturedFilter(since=clock.now), [second]),
        (CapturedFilter(contains="ärger"), [first]),
        (CapturedFilter(contains="A_B"), [first]),
        (CapturedFilter(contains="0%"), [first]),
        (CapturedFilter(contains="1%%"), []),
        (CapturedFilter(contains="_"), [first]),
    ):
        found = await store.captured(where, Page(limit=5))
        assert [one.id for one in found] == [one.id for one in expected], where
    older = await store.captured(CapturedFilter(), Page(limit=5, before=second.id))
    assert [one.id for one in older] == [first.id]


async def test_clearing_deletes_one_projects_or_all(store: SqlStore, rows: Rows) -> None:
    await capture(store, rows, project="a")
    await capture(store, rows, project="b")
    await capture(store, rows, project="b")
    assert await store.clear_captured("b") == 2
    assert await store.clear_captured(None) == 1
    assert await store.clear_captured(None) == 0


async def test_a_suppressed_address_is_found_until_it_is_taken_off(store: SqlStore, rows: Rows) -> None:
    row = rows.suppression(detail="by hand")
    assert await store.suppressed("email", row.address) is None
    assert await store.suppress(row) is True
    assert await store.suppressed("email", row.address) == row
    assert await store.suppressed("sms", row.address) is None
    assert await store.unsuppress("email", row.address) is True
    assert await store.unsuppress("email", row.address) is False
    assert await store.suppressed("email", row.address) is None


async def test_the_older_reason_for_a_suppression_stays(store: SqlStore, rows: Rows) -> None:
    first = rows.suppression()
    await store.suppress(first)
    assert await store.suppress(rows.suppression(reason=Why.COMPLAINED)) is False
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await store.settle(rows.settlement(claimed, Status.FAILED, suppress=rows.suppression(reason=Why.ADDRESS_DEAD)))
    assert await store.suppressed("email", first.address) == first


async def test_a_settlement_suppresses_its_address(store: SqlStore, rows: Rows) -> None:
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    row = rows.suppression(reason=Why.ADDRESS_DEAD, source="smtp")
    await store.settle(rows.settlement(claimed, Status.FAILED, suppress=row))
    assert await store.suppressed("email", "ada@example.com") == row


async def test_many_addresses_are_looked_up_at_once(store: SqlStore, rows: Rows) -> None:
    listed = [rows.suppression(f"u{n}@example.com") for n in range(0, 20, 2)]
    await asyncio.gather(*[store.suppress(row) for row in listed])
    found = await store.suppressions_of([("email", f"u{n}@example.com") for n in range(20)])
    assert list(found) == listed
    assert list(await store.suppressions_of([])) == []


async def test_suppressions_are_listed_newest_first_page_by_page(store: SqlStore, rows: Rows, clock: Clock) -> None:
    listed = []
    for n in range(5):
        listed.append(rows.suppression(f"u{n}@example.com"))
        await store.suppress(listed[-1])
        clock.later(n % 2)
    seen: list[object] = []
    after = None
    while page := await store.list_suppressions(channel=None, address=None, limit=2, after=after):
        seen += page
        after = (page[-1].created_at, page[-1].channel, page[-1].address, page[-1].sender or "")
    assert seen == list(reversed(listed))
    assert await store.list_suppressions(channel="sms", address=None, limit=2, after=None) == []
    one = await store.list_suppressions(channel="email", address="u3@example.com", limit=2, after=None)
    assert one == [listed[3]]


def key_row(rows: Rows, name: str = "shop", **changes: object) -> KeyRow:
    values: dict[str, object] = {
        "id": rows.id(),
        "name": name,
        "project": "default",
        "mode": Mode.TEST,
        "scopes": (Scope.SEND, Scope.READ),
        "hash": name.encode() * 8,
        "hint": "wxyz",
        "rate": "5/s",
        "created_at": rows.clock.now,
        "expires_at": rows.clock.now + 5,
    }
    return msgspec.convert(values | changes, KeyRow)


async def test_a_key_is_found_by_its_hash(store: SqlStore, rows: Rows) -> None:
    keys = [key_row(rows, name) for name in ("a", "b")]
    for key in keys:
        await store.add_key(key)
    found = await asyncio.gather(*[store.key_by_hash(one) for one in (keys[1].hash, b"no", keys[0].hash)])
    assert found == [keys[1], None, keys[0]]
    assert await store.keys(None) == [keys[1], keys[0]]
    assert await store.keys("other") == []


async def test_a_revoked_key_stays_on_record(store: SqlStore, rows: Rows, clock: Clock) -> None:
    key = key_row(rows)
    await store.add_key(key)
    assert await store.revoke_key(key.id, clock.now) is True
    assert await store.revoke_key(key.id, clock.now + 5) is True
    assert await store.revoke_key(rows.id(), clock.now) is False
    found = await store.key_by_hash(key.hash)
    assert found == msgspec.structs.replace(key, revoked_at=clock.now)


async def test_the_latest_use_of_a_key_is_kept(store: SqlStore, rows: Rows, clock: Clock) -> None:
    key = key_row(rows)
    await store.add_key(key)
    await store.touch_keys({key.id: clock.now, rows.id(): clock.now})
    await store.touch_keys({key.id: clock.now - 1})
    await store.touch_keys({})
    found = await store.key_by_hash(key.hash)
    assert found is not None
    assert found.last_used_at == clock.now


async def test_a_template_version_is_kept_as_it_was_first(store: SqlStore, clock: Clock) -> None:
    await store.keep_template("sha256:1", "welcome", b"first", clock.now)
    await store.keep_template("sha256:1", "welcome", b"second", clock.now)
    assert await store.template("sha256:1") == b"first"
    assert await store.template("sha256:2") is None
