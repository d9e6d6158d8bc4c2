from __future__ import annotations

import asyncio
from itertools import count, pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.storage.contract import Reservation
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import START, Clock, Rows

KEYS = count()


async def test_a_burst_is_granted_and_the_next_waits_for_the_window(store: SqlStore, rows: Rows, clock: Clock) -> None:
    asked = [rows.reservation(count=3, window_ms=1000) for _ in range(7)]
    moments = await asyncio.gather(*[store.reserve(one) for one in asked])
    assert sorted(moments) == [clock.now] * 3 + [clock.now + 1000] * 3 + [clock.now + 2000]
    clock.later(1500)
    assert await store.reserve(rows.reservation(count=3, window_ms=1000)) == START + 2000


async def test_keys_do_not_share_their_rate(store: SqlStore, rows: Rows, clock: Clock) -> None:
    moments = await asyncio.gather(*[store.reserve(rows.reservation(key, count=1)) for key in ("a", "b", "a", "b")])
    assert sorted(moments) == [clock.now] * 2 + [clock.now + 1000] * 2


async def test_peeking_reserves_nothing(store: SqlStore, rows: Rows, clock: Clock) -> None:
    asked = rows.reservation(count=1)
    assert await store.peek(asked) == clock.now
    assert await store.peek(asked) == clock.now
    assert await store.reserve(asked) == clock.now
    assert await store.peek(asked) == clock.now + 1000


async def test_two_stores_share_one_rate(open_store: OpenStore, rows: Rows, clock: Clock) -> None:
    stores = [await open_store(), await open_store()]
    asked = [stores[n % 2].reserve(rows.reservation(count=10, window_ms=1000)) for n in range(200)]
    moments = sorted(await asyncio.gather(*asked))
    assert moments == sorted(clock.now + 1000 * (n // 10) for n in range(200))


async def test_idle_rates_are_forgotten_and_busy_ones_are_not(store: SqlStore, rows: Rows, clock: Clock) -> None:
    for n in range(25):
        await store.reserve(rows.reservation(f"idle-{n}", count=1))
    await store.reserve(rows.reservation("busy", count=1, window_ms=10_000))
    clock.later(2000)
    for _ in range(4):
        await store.upkeep(rows.rules(slice=10), clock.now)
    kept = await store._db.read(lambda conn: conn.exec_driver_sql("SELECT key FROM pacing").scalars().all())
    assert kept == ["busy"]
    assert await store.reserve(rows.reservation("busy", count=1, window_ms=10_000)) == START + 10_000


@given(
    st.integers(1, 4),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), min_size=1, max_size=12),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_window_ever_holds_more_than_its_count(
    store: SqlStore, most: int, window_ms: int, rounds: list[tuple[int, int]]
) -> None:
    key = f"property-{next(KEYS)}"
    granted: list[int] = []
    now = START
    for later, together in rounds:
        now += later
        asked = Reservation(key=key, count=most, window_ms=window_ms, now=now)
        moments = sorted(await asyncio.gather(*[store.reserve(asked) for _ in range(together)]))
        for moment in moments:
            assert moment == earliest(granted, most, window_ms, now)
            granted.append(moment)
    assert all(first <= second for first, second in pairwise(granted))


def earliest(granted: list[int], most: int, window_ms: int, now: int) -> int:
    """Try each millisecond: the first that is not before the last grant and keeps every window within its count."""
    moment = max([now, *granted[-1:]])
    while any(
        sum(start <= other < start + window_ms for other in [*granted, moment]) > most for start in [*granted, moment]
    ):
        moment += 1
    return moment
