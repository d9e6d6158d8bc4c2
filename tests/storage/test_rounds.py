"""Where a round of writing runs on SQLite: short ones on the event loop, long ones on the writer's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from gateway.storage import sqlite
from gateway.storage.contract import StoreUnavailable
from gateway.storage.database import Verb
from gateway.storage.sqlite import SqliteDatabase
from tests.storage.rows import Clock


def _put(conn: Connection, values: Sequence[str]) -> list[bool]:
    """Store the values; answers for each whether it was stored on the event loop."""
    for value in values:
        if value == "bad":
            raise ValueError(value)
        conn.exec_driver_sql("INSERT INTO rounds VALUES (?)", (value,))
    return [threading.current_thread() is threading.main_thread()] * len(values)


def _see(conn: Connection, values: Sequence[str]) -> list[tuple[int, bool]]:
    """Count each value; answers whether that was done on the event loop, too."""
    here = threading.current_thread() is threading.main_thread()
    sql = "SELECT count(*) FROM rounds WHERE value = ?"
    if "bad" in values:
        raise ValueError(values)
    return [(conn.exec_driver_sql(sql, (value,)).scalar_one(), here) for value in values]


SEE: Verb[str, tuple[int, bool]] = Verb("see", _see)
PUT: Verb[str, bool] = Verb("put", _put, weight=len)


@pytest.fixture
async def database(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(f"sqlite:///{tmp_path}/gateway.db", clock)
    await database.open()
    await database.write(lambda conn: conn.exec_driver_sql("CREATE TABLE rounds (value TEXT)"))
    yield database
    await database.close()


async def stored(database: SqliteDatabase) -> list[str]:
    return await database.read(lambda conn: list(conn.exec_driver_sql("SELECT value FROM rounds").scalars()))


async def test_a_short_round_runs_on_the_loop(database: SqliteDatabase) -> None:
    assert await database.gather_writes(PUT, ["a", "b"]) == [True, True]
    assert await stored(database) == ["a", "b"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["a"] * (sqlite._BRIEF_JOBS + 1), id="many jobs"),
        pytest.param(["a" * (sqlite._BRIEF_BYTES + 1)], id="a heavy one"),
    ],
)
async def test_a_long_round_runs_on_the_thread(database: SqliteDatabase, values: list[str]) -> None:
    assert await database.gather_writes(PUT, values) == [False] * len(values)
    assert await stored(database) == values
    assert await database.gather_write(PUT, "b"), "and the next one on the loop again"


async def test_an_act_runs_on_the_thread_with_all_that_share_its_round(database: SqliteDatabase) -> None:
    act = database.write(lambda _: threading.current_thread() is threading.main_thread())
    assert await asyncio.gather(act, database.gather_write(PUT, "a")) == [False, False]
    assert await stored(database) == ["a"]


async def test_rounds_that_take_long_go_to_the_thread_for_a_while(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BRIEF_S", 0.0)
    assert await database.gather_write(PUT, "a"), "nobody could know"
    assert not await database.gather_write(PUT, "b")
    monkeypatch.setattr(database, "_away_until", 0.0)  # the while is over
    assert await database.gather_write(PUT, "c")


async def test_what_fails_on_the_loop_leaves_nothing_behind_and_spares_the_others(database: SqliteDatabase) -> None:
    good, bad, other = await asyncio.gather(
        *(database.gather_write(PUT, value) for value in ("a", "bad", "c")), return_exceptions=True
    )
    assert (good, other) == (True, True)
    assert isinstance(bad, ValueError)
    assert await stored(database) == ["a", "c"]


async def test_a_database_that_fails_on_the_loop_is_unavailable_and_used_again_when_it_can_be(
    database: SqliteDatabase,
) -> None:
    await database.gather_write(PUT, "a")
    [seat] = database._writer.seats
    with seat.connected() as conn:
        conn.connection.driver_connection.execute("PRAGMA query_only=1")
    with pytest.raises(StoreUnavailable):
        await database.gather_write(PUT, "b")
    with seat.connected() as conn:
        conn.connection.driver_connection.execute("PRAGMA query_only=0")
    assert await database.gather_write(PUT, "c")
    assert await stored(database) == ["a", "c"]


async def test_a_short_look_runs_on_the_loop_and_sees_what_was_committed(database: SqliteDatabase) -> None:
    for count in (1, 2):
        await database.gather_write(PUT, "a")
        assert await database.gather_read(SEE, "a") == (count, True)


async def test_a_long_look_runs_on_a_thread(database: SqliteDatabase) -> None:
    looks = [database.gather_read(SEE, "a") for _ in range(sqlite._BRIEF_JOBS + 1)]
    assert set(await asyncio.gather(*looks)) == {(0, False)}


async def test_a_look_that_fails_ends_its_transaction(database: SqliteDatabase) -> None:
    with pytest.raises(ValueError, match="bad"):
        await database.gather_read(SEE, "bad")
    await database.gather_write(PUT, "a")
    assert await database.gather_read(SEE, "a") == (1, True), "not the state of before"
