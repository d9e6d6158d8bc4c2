"""Several processes write to one SQLite file: each gets its turn, however busy another is."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.model.ids import IdSource
from gateway.storage.contract import Stored
from gateway.storage.store import SqlStore
from gateway.storage.write_turn import WriteTurn
from tests.storage.rows import Clock, Rows

_GREEDY = """
import asyncio, sqlite3, sys
from pathlib import Path
from gateway.storage.write_turn import WriteTurn

async def write(path):
    turn = WriteTurn(path, 2000)
    turn.open()
    conn = sqlite3.connect(path, timeout=0, isolation_level=None)
    conn.execute("PRAGMA synchronous=FULL")
    print("writing", flush=True)
    while True:
        await turn.take(lambda: conn.execute("BEGIN IMMEDIATE"))
        conn.execute("INSERT INTO greedy SELECT randomblob(20000)")
        conn.execute("COMMIT")

asyncio.run(write(Path(sys.argv[1])))
"""
"""A process that always has something to write, and nothing to do between two transactions."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def greedy(path: Path, clock: Clock) -> Iterator[subprocess.Popen[str]]:
    async def make() -> None:
        store = SqlStore(f"sqlite:///{path}", clock, IdSource())
        await store.open()
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE greedy (octets BLOB)")
    command = [sys.executable, "-c", _GREEDY, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()


def test_who_always_writes_lets_others_write_too(
    greedy: subprocess.Popen[str], path: Path, rows: Rows, clock: Clock
) -> None:
    async def write() -> list[float]:
        # Two seconds of patience, as usual: by SQLite's own waiting most of these would end without a turn.
        store = SqlStore(f"sqlite:///{path}", clock, IdSource())
        await store.open()
        took: list[float] = []
        for _ in range(20):
            began = time.monotonic()
            assert await store.accept(rows.acceptance()) == Stored()
            took.append(time.monotonic() - began)
        await store.close()
        return took

    took = sorted(asyncio.run(write()))
    assert greedy.poll() is None, "the other one wrote all the time"
    assert took[len(took) // 2] < 0.5, took  # a turn comes after a commit or two, which take some milliseconds each


class _Lock:
    """A write lock that somebody else has for the first `refusals` times it is asked for."""

    def __init__(self, refusals: int) -> None:
        self.left = refusals
        self.asked = 0

    def begin(self) -> None:
        self.asked += 1
        if self.left:
            self.left -= 1
            fault = sqlite3.OperationalError("database is locked")
            fault.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise fault


async def test_who_waits_is_seen_by_who_would_write_and_only_as_long_as_it_waits(path: Path) -> None:
    ours, theirs = WriteTurn(path, 2000), WriteTurn(path, 2000)
    ours.open()
    theirs.open()
    lock = _Lock(3)

    def begin_and_look() -> None:
        lock.begin()
        seen.append(ours.is_wanted())

    seen: list[bool] = []
    await theirs.take(begin_and_look)
    assert lock.asked == 4, "it asked until it had its turn"
    assert seen == [True], "it still says that it waits when its turn comes"
    assert not ours.is_wanted()
    ours.close()
    theirs.close()


async def test_who_writes_steps_aside_for_who_waits(path: Path) -> None:
    ours, theirs = WriteTurn(path, 2000), WriteTurn(path, 2000)
    ours.open()
    theirs.open()
    order: list[str] = []
    lock = _Lock(1)
    waiting = asyncio.create_task(theirs.take(lock.begin))
    await asyncio.sleep(0)
    assert lock.asked == 1, "they were refused once"
    await ours.take(lambda: order.append(f"ours, after {lock.asked} of theirs"))
    assert order == ["ours, after 2 of theirs"]
    await waiting
    ours.close()
    theirs.close()


async def test_patience_ends_and_any_other_fault_is_told_at_once(path: Path) -> None:
    turn = WriteTurn(path, 5)
    turn.open()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await turn.take(_Lock(10**9).begin)

    def broken() -> None:
        fault = sqlite3.OperationalError("disk I/O error")
        fault.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise fault

    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        await turn.take(broken)
    turn.close()


async def test_a_folder_that_takes_no_file_costs_the_courtesy_and_nothing_else(tmp_path: Path) -> None:
    turn = WriteTurn(tmp_path / "no such folder" / "gateway.db", 2000)
    turn.open()
    lock = _Lock(2)
    await turn.take(lock.begin)
    assert not turn.is_wanted()
    assert lock.asked == 3
    turn.close()
