"""A day's money on both databases: exact among tasks and among processes."""

from __future__ import annotations

import asyncio

from gateway.storage.contract import Spend
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore

DAY = 1_800_000_000_000
DAY_MS = 86_400_000


def asking(amount: int = 10, *, channel: str = "sms", day: int = DAY, most: int = 100) -> Spend:
    return Spend(channel=channel, day=day, amount=amount, most=most)


async def test_a_day_never_holds_more_than_it_may_however_many_ask_at_once(open_store: OpenStore) -> None:
    stores = [await open_store(), await open_store(), await open_store()]
    answers = await asyncio.gather(*[stores[n % 3].spend(asking(7)) for n in range(120)])
    granted = sorted(one for one in answers if one is not None)
    assert granted == [7 * n for n in range(1, 15)], "98 of 100: the fifteenth would be 105"
    assert await stores[0].spent("sms", DAY) == 98


async def test_a_smaller_one_fits_where_a_larger_did_not(store: SqlStore) -> None:
    assert await store.spend(asking(95)) == 95
    assert await store.spend(asking(6)) is None
    assert await store.spend(asking(5)) == 100


async def test_what_is_given_back_can_be_spent_again_and_a_day_never_goes_below_nothing(store: SqlStore) -> None:
    assert await store.spend(asking(100)) == 100
    assert await store.spend(asking(-40)) == 60
    assert await store.spend(asking(40)) == 100
    assert await store.spend(asking(-500)) == 0


async def test_channels_and_days_do_not_share(store: SqlStore) -> None:
    answers = await asyncio.gather(
        store.spend(asking(100)),
        store.spend(asking(100, channel="whatsapp")),
        store.spend(asking(100, day=DAY + DAY_MS)),
    )
    assert answers == [100, 100, 100]


async def test_what_is_spent_outlives_the_process(open_store: OpenStore) -> None:
    first = await open_store()
    await first.spend(asking(90))
    await first.close()
    second = await open_store()
    assert await second.spend(asking(20)) is None
    assert await second.spent("sms", DAY) == 90


async def test_nothing_is_spent_of_a_day_nobody_asked_about(store: SqlStore) -> None:
    assert await store.spent("sms", DAY) == 0


async def test_old_days_are_forgotten_and_the_last_week_is_not(store: SqlStore) -> None:
    for number in range(12):
        await store.spend(asking(day=DAY + number * DAY_MS))
    kept = await store._db.read(
        lambda conn: conn.exec_driver_sql("SELECT day FROM spending ORDER BY 1").scalars().all()
    )
    assert kept == [DAY + number * DAY_MS for number in range(3, 12)]
