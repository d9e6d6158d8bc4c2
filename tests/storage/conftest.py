from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.model.ids import IdSource
from gateway.storage.store import SqlStore
from tests.storage.rows import Clock, Rows
from tests.support.postgres import Postgres

BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]

OpenStore = Callable[[], Awaitable[SqlStore]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rows(clock: Clock) -> Rows:
    return Rows(clock)


@pytest.fixture(params=BOTH)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return await server.clean_database()


@pytest.fixture
async def open_store(url: str, clock: Clock) -> AsyncIterator[OpenStore]:
    """Open another store on the same database, as another process would."""
    stores: list[SqlStore] = []

    async def opened() -> SqlStore:
        store = SqlStore(url, clock, IdSource(), connections=4, patience_ms=5000)
        stores.append(store)
        await store.open()
        return store

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> SqlStore:
    return await open_store()
