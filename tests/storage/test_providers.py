"""Providers' switches, reports and rates, and what is held for their sake, on both databases."""

from __future__ import annotations

import msgspec

from gateway.model.states import Status, Why
from gateway.storage import providers
from gateway.storage.contract import PaceUse, ProviderReport, ProviderSwitch, Reservation
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import LANE, START, Clock, Rows

HOUR = 3_600_000


async def test_the_first_word_of_a_pause_stays_and_a_resumption_clears_it(store: SqlStore):
    first = ProviderSwitch(provider="smtp-1", paused_at=5, paused_by="ada")
    assert await store.pause_provider("smtp-1", "ada", 5) == first
    assert await store.pause_provider("smtp-1", "bob", 9) == first
    assert await store.resume_provider("smtp-1", 12) == ProviderSwitch(provider="smtp-1", resumed_at=12)
    again = ProviderSwitch(provider="smtp-1", paused_at=20, paused_by="bob", resumed_at=12)
    assert await store.pause_provider("smtp-1", "bob", 20) == again
    assert await store.provider_switches() == [again]


async def test_another_process_sees_a_pause_and_one_that_starts_later_too(open_store: OpenStore):
    one, other = await open_store(), await open_store()
    await one.pause_provider("smtp-1", "ada", 5)
    assert [row.provider for row in await other.provider_switches()] == ["smtp-1"]
    later = await open_store()
    assert [row.paused_at for row in await later.provider_switches()] == [5]


async def test_a_provider_that_was_never_paused_can_be_resumed(store: SqlStore):
    assert (await store.resume_provider("smtp-1", 7)).resumed_at == 7


def report(worker: str, **more: object) -> ProviderReport:
    made = ProviderReport(worker=worker, provider="p1", breaker="closed", in_use=1, places=8, seen_at=100)
    return msgspec.structs.replace(made, **more)


async def test_each_process_keeps_its_latest_word_and_the_dead_are_forgotten(store: SqlStore):
    await store.report_providers([report("a"), report("a", provider="p2")], 0)
    await store.report_providers([report("b", seen_at=200)], 0)
    stopped = report("a", breaker="stopped", until=900, detail="no", last_outcome="rejected", last_at=250, seen_at=300)
    await store.report_providers([stopped], 0)
    assert await store.provider_reports(200) == [stopped, report("b", seen_at=200)]
    await store.report_providers([], 250)
    assert await store.provider_reports(0) == [stopped]


async def test_what_is_used_of_a_rate_is_told_and_nothing_is_reserved(store: SqlStore, rows: Rows, clock: Clock):
    asked = Reservation(key="provider:p1", count=3, window_ms=1000, now=clock.now)
    unused = Reservation(key="provider:p2", count=3, window_ms=1000, now=clock.now)
    assert await store.pace_use([]) == []
    for _ in range(4):
        await store.reserve(asked)
    for _ in range(2):
        found = await store.pace_use([unused, asked])
        assert found == [PaceUse(used=0, next_at=START), PaceUse(used=3, next_at=START + 1000)]
    later = msgspec.structs.replace(asked, now=START + 1500)
    assert await store.pace_use([later]) == [PaceUse(used=1, next_at=START + 1500)]


async def held(store: SqlStore, rows: Rows, reason: Why, due_at: int, number: int = 1) -> list[object]:
    await store.accept_many([rows.acceptance(rows.delivery()) for _ in range(number)])
    claims = await rows.claim(store, number)
    for claim in claims:
        waits = rows.settlement(claim, Status.HELD, final=False, reason=reason, due_at=due_at, attempts=())
        assert await store.settle(waits)
    return [claim.id for claim in claims]


async def test_what_is_held_for_a_reason_is_set_free_and_the_rest_is_not(store: SqlStore, rows: Rows, clock: Clock):
    paused = await held(store, rows, Why.PAUSED, clock.now + HOUR, 3)
    await held(store, rows, Why.RETRY, clock.now + HOUR)
    await held(store, rows, Why.PAUSED, clock.now + 2 * HOUR)
    assert await rows.claim(store, 10) == []
    assert await store.release_held(["sms:bulk"], [Why.PAUSED], clock.now + HOUR, clock.now) == 0
    assert await store.release_held([LANE], [Why.PAUSED], clock.now + HOUR, clock.now) == 3
    assert await store.release_held([LANE], [Why.PAUSED], clock.now + HOUR, clock.now) == 0
    claims = await rows.claim(store, 10)
    assert sorted(claim.id for claim in claims) == sorted(paused)
    assert {claim.due_at for claim in claims} == {clock.now}, "the delivery says so too"


async def test_more_than_a_slice_is_set_free(store: SqlStore, rows: Rows, clock: Clock):
    many = providers.SLICE + 20
    await held(store, rows, Why.PAUSED, clock.now + HOUR, many)
    assert await store.release_held([LANE], [Why.PAUSED], clock.now + HOUR, clock.now) == many


async def test_what_is_being_delivered_is_left_alone(store: SqlStore, rows: Rows, clock: Clock):
    await held(store, rows, Why.PAUSED, clock.now + 1000)
    clock.later(1000)
    [claim] = await rows.claim(store, 1)
    assert await store.release_held([LANE], [Why.PAUSED], clock.now + HOUR, clock.now) == 0
    assert await store.settle(rows.sent(claim, "id"))
