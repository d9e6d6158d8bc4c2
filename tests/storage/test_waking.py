"""Processes over one PostgreSQL tell each other what is due."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from gateway.model.ids import IdSource
from gateway.storage.contract import StoreUnavailable
from gateway.storage.store import SqlStore
from tests.storage.rows import Clock
from tests.support.postgres import Postgres

pytestmark = pytest.mark.postgres


async def opened(url: str, clock: Clock) -> SqlStore:
    store = SqlStore(url, clock, IdSource())
    await store.open()
    return store


async def heard_of(store: SqlStore, lanes: asyncio.Queue[str]) -> asyncio.Task[None]:
    """Listen, and wait until it is heard: a notice of before is for nobody."""
    task = asyncio.create_task(store.listen(lanes.put_nowait))
    async with asyncio.timeout(20):
        while lanes.empty():
            assert not task.done(), task
            await store.wake({"ready"})
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await lanes.put(await lanes.get())
    while not lanes.empty():
        lanes.get_nowait()
    return task


async def test_what_one_process_tells_another_hears(postgres: Postgres, clock: Clock) -> None:
    url = await postgres.new_database()
    one, other = await opened(url, clock), await opened(url, clock)
    lanes: asyncio.Queue[str] = asyncio.Queue()
    listening = await heard_of(other, lanes)
    await one.wake({"email.normal", "sms.critical"})
    async with asyncio.timeout(20):
        heard = {await lanes.get(), await lanes.get()} - {"ready"}
        while heard != {"email.normal", "sms.critical"}:
            heard = (heard | {await lanes.get()}) - {"ready"}
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await one.close()
    await other.close()


async def test_a_connection_that_is_lost_is_unavailable_and_can_be_made_anew(postgres: Postgres, clock: Clock) -> None:
    url = await postgres.new_database()
    store = await opened(url, clock)
    lanes: asyncio.Queue[str] = asyncio.Queue()
    listening = await heard_of(store, lanes)
    admin = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await admin.close()
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(20):
            await listening
    again = await heard_of(store, lanes)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    await store.close()
