from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc

from gateway.model.ids import IdSource
from gateway.storage.contract import Stored, StoreDamaged, StoreUnavailable
from gateway.storage.faults import Meaning, meaning_of
from gateway.storage.store import SqlStore
from tests.storage.rows import Clock, Rows
from tests.support.postgres import Postgres

# ruff: noqa: ASYNC240 - small local files, and nothing else runs on the loop


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def embedded(path: Path, clock: Clock) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{path}", clock, IdSource(), patience_ms=50)
    await store.open()
    yield store
    await store.close()


async def test_while_another_process_holds_the_lock_the_store_is_unavailable(
    embedded: SqlStore, path: Path, rows: Rows
) -> None:
    await embedded.accept(rows.acceptance())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        results = await asyncio.gather(*[embedded.accept(rows.acceptance()) for _ in range(5)], return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * 5
        # Reading goes on.
        assert await embedded.waiting() == 1
        other.execute("ROLLBACK")
    assert await embedded.accept(rows.acceptance()) == Stored()
    assert len(await rows.claim(embedded)) == 2


async def test_a_full_disk_is_unavailable_and_forgotten_once_there_is_room(embedded: SqlStore, rows: Rows) -> None:
    await embedded.accept(rows.acceptance())
    # SQLite's own limit on pages answers like a full disk, on the connection that it is set for.
    await embedded._db.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count = 1").fetchall())
    with pytest.raises(StoreUnavailable, match="full"):
        await embedded.accept(rows.acceptance(request=b"x" * 1_000_000))
    # The next round is on a new connection, as after any such fault.
    assert await embedded.accept(rows.acceptance(request=b"x" * 1_000_000)) == Stored()
    assert len(await rows.claim(embedded)) == 2


@pytest.fixture
def small_files() -> Iterator[None]:
    """Forbid this process files beyond a size; Python ignores the signal and gets the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
async def test_a_file_size_limit_is_unavailable_and_the_store_recovers(
    embedded: SqlStore, rows: Rows, path: Path, small_files: None
) -> None:
    await embedded.accept(rows.acceptance())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = path.with_name("gateway.db-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 10_000, before[1]))
    with pytest.raises(StoreUnavailable):
        await embedded.accept(rows.acceptance(request=b"x" * 1_000_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert await embedded.accept(rows.acceptance(request=b"x" * 1_000_000)) == Stored()
    assert len(await rows.claim(embedded)) == 2


async def test_a_file_that_vanished_is_an_error_and_never_a_new_database(path: Path, clock: Clock, rows: Rows) -> None:
    store = SqlStore(f"sqlite:///{path}", clock, IdSource(), patience_ms=50)
    await store.open()
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailable):
        await store.accept(rows.acceptance())
    await store.close()
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"this is no database, whatever its name says" * 30, b"SQLite format 3\0" + b"x" * 5000]
)
async def test_a_file_that_is_no_database_is_refused_with_its_path(path: Path, clock: Clock, content: bytes) -> None:
    path.write_bytes(content)
    store = SqlStore(f"sqlite:///{path}", clock, IdSource())
    with pytest.raises(StoreDamaged, match=r"gateway\.db is damaged: file is not a database"):
        await store.open()
    assert path.read_bytes() == content


async def test_a_file_with_a_damaged_page_is_refused(path: Path, clock: Clock, rows: Rows) -> None:
    store = SqlStore(f"sqlite:///{path}", clock, IdSource())
    await store.open()
    await store.accept_many([rows.acceptance(request=b"x" * 3000) for _ in range(100)])
    await store.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = os.urandom(20_000)
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"gateway\.db is damaged"):
        await store.open()


async def test_a_file_cut_short_is_refused(path: Path, clock: Clock, rows: Rows) -> None:
    store = SqlStore(f"sqlite:///{path}", clock, IdSource())
    await store.open()
    await store.accept_many([rows.acceptance() for _ in range(200)])
    await store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StoreDamaged, match=r"gateway\.db is damaged"):
        await store.open()


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    store = SqlStore(f"sqlite:///{tmp_path / 'file' / 'gateway.db'}", clock, IdSource())
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await store.open()
    assert await store.ready() is not None


async def test_a_closed_store_says_so_and_may_be_closed_twice(store: SqlStore, rows: Rows) -> None:
    accepting = [asyncio.create_task(store.accept(rows.acceptance())) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert [await task for task in accepting] == [Stored()] * 20
    await store.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.accept(rows.acceptance())
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.waiting()
    assert await store.ready() == "The store is not open."
    await store.open()
    assert await store.ready() is None
    assert len(await rows.claim(store, 50)) == 20


@pytest.mark.postgres
async def test_a_restarted_postgres_is_found_again(postgres: Postgres, clock: Clock, rows: Rows) -> None:
    store = SqlStore(await postgres.new_database(), clock, IdSource())
    await store.open()
    await asyncio.gather(*[store.accept(rows.acceptance()) for _ in range(5)], store.waiting())
    postgres.kill()
    try:
        with pytest.raises(StoreUnavailable):
            await store.accept(rows.acceptance())
        assert await store.ready() is not None
    finally:
        postgres.start()
    assert await store.accept(rows.acceptance()) == Stored()
    assert await store.ready() is None
    assert len(await rows.claim(store)) == 6
    await store.close()


@pytest.mark.postgres
async def test_connections_cut_by_the_server_cost_no_error(postgres: Postgres, clock: Clock, rows: Rows) -> None:
    url = await postgres.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    store = SqlStore(url, clock, IdSource())
    await store.open()
    await asyncio.gather(*[store.accept(rows.acceptance()) for _ in range(5)], store.waiting(), rows.claim(store, 1))
    await postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    results = await asyncio.gather(*[store.accept(rows.acceptance()) for _ in range(5)], store.next_due(["x"]))
    assert results == [*[Stored()] * 5, None]
    await store.close()


@pytest.mark.postgres
async def test_the_store_tells_the_servers_time(postgres: Postgres, rows: Rows) -> None:
    offset = 0
    store = SqlStore(await postgres.new_database(), lambda: 5, IdSource(), offset_ms=lambda: offset)
    await store.open()
    server = await store._db.read(
        lambda conn: conn.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp()) * 1000").scalar_one()
    )
    first = await store.now_ms()
    assert abs(first - float(server)) < 2000
    offset = 3_600_000
    assert await store.now_ms() - first >= offset
    await store.close()


async def test_an_error_never_shows_the_values(store: SqlStore, rows: Rows) -> None:
    accepted = rows.acceptance(rows.delivery(address="ada@example.com"), request=b"secret body")
    await store.accept(accepted)
    with pytest.raises((exc.IntegrityError, sqlite3.IntegrityError)) as raised:
        await store.accept(accepted)
    assert "ada@" not in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_the_embedded_store_tells_this_machines_time(embedded: SqlStore, clock: Clock) -> None:
    assert await embedded.now_ms() == clock.now
    clock.later(5)
    assert await embedded.now_ms() == clock.now


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (TimeoutError(), Meaning.GONE),
        (exc.TimeoutError("pool"), Meaning.GONE),
        (ConnectionRefusedError(), Meaning.CUT),
        (asyncpg.InterfaceError("connection is closed"), Meaning.CUT),
        (asyncpg.CannotConnectNowError("starting up"), Meaning.CUT),
        (asyncpg.AdminShutdownError("bye"), Meaning.CUT),
        (asyncpg.ConnectionDoesNotExistError("cut"), Meaning.CUT),
        (asyncpg.QueryCanceledError("statement timeout"), Meaning.GONE),
        (asyncpg.DiskFullError("full"), Meaning.GONE),
        (asyncpg.TooManyConnectionsError("many"), Meaning.GONE),
        (asyncpg.ReadOnlySQLTransactionError("standby"), Meaning.GONE),
        (asyncpg.LockNotAvailableError("lock timeout"), Meaning.GONE),
        (asyncpg.DeadlockDetectedError("deadlock"), Meaning.CLASH),
        (asyncpg.SerializationError("clash"), Meaning.CLASH),
        (asyncpg.UniqueViolationError("twice"), Meaning.FAULT),
        (asyncpg.CharacterNotInRepertoireError("NUL"), Meaning.FAULT),
        (ValueError("bug"), Meaning.FAULT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_every_kind_of_fault_has_its_meaning(fault: Exception, meaning: Meaning) -> None:
    assert meaning_of(fault) is meaning


@pytest.mark.postgres
async def test_a_transaction_on_postgresql_has_an_end_also_where_the_server_waits_for_our_next_word(
    postgres: Postgres, rows: Rows
) -> None:
    url = await postgres.new_database()
    store = SqlStore(url, lambda: 5, IdSource())
    await store.open()
    limit = await store._db.read(
        lambda conn: conn.exec_driver_sql("SELECT current_setting('transaction_timeout')").scalar_one()
    )
    assert limit == "20s"
    silent: Any = await asyncpg.connect(url)
    try:
        await store.accept(rows.acceptance())
        await silent.execute("SET statement_timeout = 50; SET transaction_timeout = 500")
        await silent.execute("BEGIN; SELECT * FROM queue FOR UPDATE")
        await silent.prepare("SELECT 1")  # and not a word more: the other limit does not count now
        async with asyncio.timeout(10):
            while not await rows.claim(store):  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.02)
        assert silent.is_closed()
    finally:
        silent.terminate()
        await store.close()
