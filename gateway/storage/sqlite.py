"""SQLite, embedded: one writer thread, a few readers, one fsync for all that waits.

Owns the file, its settings and its threads. All kinds of writes share one writer and one transaction per round, so
that a round costs one fsync whatever is in it. `synchronous=FULL` with a write-ahead log: a commit is on disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url

from gateway.storage import migrate, scrubbing
from gateway.storage.bulk import driver_of
from gateway.storage.contract import StoreDamaged, StoreUnavailable
from gateway.storage.database import Answer, OnBatch, Request, Verb, run_alone, unheard
from gateway.storage.faults import Meaning, is_damage, meaning_of, words_of
from gateway.storage.gather import Gather
from gateway.storage.write_turn import WriteTurn

Done = TypeVar("Done")

_READERS: Final = 2
"""Threads that read: enough that a long listing does not hold a look-up, few enough that memory stays small."""

_WRITER_CACHE_KIB: Final = 24 * 1024
_READER_CACHE_KIB: Final = 4 * 1024
_CHECKED_BYTES: Final = 32 * 1024 * 1024
"""Files up to this size are checked page by page when opened (about a tenth of a second)."""

_LOG_LIMIT_BYTES: Final = 64 * 1024 * 1024
_CHECKPOINT_PAGES: Final = 4000
"""Pages in the log before they are moved to the file: 16 MiB, so that hot pages are moved once, not at each commit."""


class _Job(NamedTuple):
    verb: Verb[Any, Any]
    request: Any


class _Threads:
    """A few threads, each with a connection of its own, that run acts in transactions.

    `between` is called on a thread after each act, when its answer is on its way.
    """

    def __init__(
        self, name: str, count: int, connect: Callable[[], Connection], between: Callable[[], object] | None = None
    ) -> None:
        self._connect = connect
        self._between = between
        self._inbox: SimpleQueue[Callable[[Connection | None], Connection | None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._live, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def call(self, act: Callable[[Connection], Done]) -> Done:
        """Run an act in a transaction of its own on one of the threads."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Done] = loop.create_future()

        def job(conn: Connection | None) -> Connection | None:
            try:
                conn = conn or self._connect()
                answer = _transact(conn, act)
            except Exception as fault:  # noqa: BLE001 - every exception belongs to the caller
                if conn is not None and meaning_of(fault) is Meaning.GONE:
                    _drop(conn)
                    conn = None
                _tell(loop, future, None, _translated(fault))
            else:
                _tell(loop, future, answer, None)
            return conn

        self._inbox.put(job)
        return await future

    def stop(self) -> None:
        """Let each thread finish what was asked, then end."""
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _live(self) -> None:
        conn: Connection | None = None
        while (job := self._inbox.get()) is not None:
            conn = job(conn)
            if self._between is not None:
                self._between()
        if conn is not None:
            _drop(conn)


class SqliteDatabase:
    """A SQLite file. `patience_ms` is how long a write waits for another process's lock."""

    def __init__(
        self,
        url: str,
        clock: Callable[[], int],
        *,
        patience_ms: int = 2000,
        on_batch: OnBatch = unheard,
    ) -> None:
        name = make_url(url).database
        if not name or name == ":memory:":
            raise ValueError("The embedded database must be a file: sqlite:///path/to/gateway.db")
        self._path = Path(name)
        self._clock = clock
        self._patience_ms = patience_ms
        self._on_batch = on_batch
        self._turn = WriteTurn(self._path, patience_ms)
        self._engines: list[Engine] = []
        self._writer: _Threads | None = None
        self._readers: _Threads | None = None
        self._writes: Gather[_Job, Any] = Gather(self._round, weight=_weight_of)
        self._reads: Gather[_Job, Any] = Gather(self._look, parallel=_READERS)
        self._alone: Verb[Callable[[Connection], Any], Any] = Verb("act", run_alone)

    async def open(self) -> None:
        """Make the file (for its owner only) where there is none, check it, and bring its schema up to date."""
        await asyncio.to_thread(self._prepare)
        self._turn.open()
        writing, reading = self._connector(_WRITER_CACHE_KIB, writes=True), self._connector(_READER_CACHE_KIB)
        self._writer = _Threads("store-writer", 1, writing, self._turn.pass_on)
        self._readers = _Threads("store-reader", _READERS, reading)

    async def close(self) -> None:
        """Finish what is being written, fold the log into the file and let go of it."""
        await self._writes.drain()
        await self._reads.drain()
        for threads in (self._readers, self._writer):
            if threads is not None:
                await asyncio.to_thread(threads.stop)
        self._writer = self._readers = None
        for engine in self._engines:
            engine.dispose()
        self._engines.clear()
        self._turn.close()

    async def now_ms(self) -> int:
        """Tell this machine's time: the file has none of its own."""
        return self._clock()

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; works on a closed database too."""
        return await asyncio.to_thread(self._prepare)

    async def pending(self) -> list[str]:
        """Name the revisions that have not run."""
        return await self.read(migrate.pending)

    async def gather_write(self, verb: Verb[Request, Answer], request: Request) -> Answer:
        """Join the next round."""
        return await self._writes.ask(_Job(verb, request))

    async def gather_writes(self, verb: Verb[Request, Answer], requests: Sequence[Request]) -> list[Answer]:
        """Join the next rounds with several requests."""
        return await self._writes.ask_all([_Job(verb, request) for request in requests])

    async def gather_read(self, verb: Verb[Request, Answer], request: Request) -> Answer:
        """Join the next look."""
        return await self._reads.ask(_Job(verb, request))

    async def write(self, act: Callable[[Connection], Answer]) -> Answer:
        """Run one act in the next round."""
        return await self._writes.ask(_Job(self._alone, act))

    async def read(self, act: Callable[[Connection], Answer]) -> Answer:
        """Run one act on a reader."""
        if self._readers is None:
            raise StoreUnavailable("The store is not open.")
        return await self._readers.call(act)

    async def wake(self, lanes: Collection[str]) -> None:
        """Tell nobody: processes over one file poll."""

    async def listen(self, told: Callable[[str], None]) -> None:
        """Return: nobody tells."""

    async def scrub(self) -> bool:
        """Overwrite what deleted rows left in the file and its log; tries once more where a reader was in the way."""
        if self._writer is None:
            raise StoreUnavailable("The store is not open.")
        if await self.read(scrubbing.is_small):
            await self._writer.call(self._patiently(scrubbing.write_anew))
        else:
            for act in (scrubbing.fill, scrubbing.let_go):
                while await self.write(act):
                    pass
        empty_log = self._patiently(scrubbing.empty_log)
        return await self._writer.call(empty_log) or await self._writer.call(empty_log)

    def _patiently(self, act: Callable[[Connection], Done]) -> Callable[[Connection], Done]:
        """Let an act outside any transaction wait for other processes in SQLite's own way."""

        def acting(conn: Connection) -> Done:
            driver_of(conn).execute(f"PRAGMA busy_timeout={self._patience_ms}").fetchall()
            try:
                return act(conn)
            finally:
                driver_of(conn).execute("PRAGMA busy_timeout=0").fetchall()

        return acting

    async def _round(self, jobs: list[_Job]) -> list[Any]:
        if self._writer is None:
            raise StoreUnavailable("The store is not open.")
        answers = await self._writer.call(lambda conn: _by_verb(conn, jobs))
        for verb, size in Counter(job.verb.name for job in jobs).items():
            self._on_batch(verb, size)
        return answers

    async def _look(self, jobs: list[_Job]) -> list[Any]:
        return await self.read(lambda conn: _by_verb(conn, jobs))

    def _connector(self, cache_kib: int, *, writes: bool = False) -> Callable[[], Connection]:
        engine = create_engine(
            "sqlite://",
            creator=lambda: self._dial(cache_kib, patience_ms=0 if writes else self._patience_ms),
            poolclass=NullPool,
            hide_parameters=True,  # they are addresses and bodies, and errors are logged
        )

        # The driver opens no transaction before a SELECT, and a reader that turns writer can lose an update.
        def start(conn: Connection) -> None:
            driver = driver_of(conn)
            if writes:
                self._turn.take(lambda: driver.execute("BEGIN IMMEDIATE"))
            else:
                driver.execute("BEGIN")

        event.listen(engine, "begin", start)
        self._engines.append(engine)
        return engine.connect

    def _dial(self, cache_kib: int, patience_ms: int) -> sqlite3.Connection:
        # mode=rw: a file that has vanished is an error, never a new and empty database.
        raw = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._patience_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            for setting in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=OFF",  # rows are deleted by range, children first; checking each would cost a look-up
                f"cache_size=-{cache_kib}",
                "mmap_size=0",
                "temp_store=MEMORY",
                "secure_delete=FAST",  # what is deleted is overwritten where that costs no write more
                f"journal_size_limit={_LOG_LIMIT_BYTES}",
                f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
                f"busy_timeout={patience_ms}",  # a writer waits for its turn in another way, and then for nobody
            ):
                raw.execute(f"PRAGMA {setting}").fetchall()
        except BaseException:
            raw.close()
            raise
        return raw

    def _prepare(self) -> list[str]:
        try:
            self._create()
            conn = self._connector(_READER_CACHE_KIB, writes=True)()
            try:
                self._check(conn)
                return _transact(conn, migrate.upgrade) if migrate.pending(conn) else []
            finally:
                _drop(conn)
        except migrate.UnknownRevision as unknown:
            raise StoreDamaged(f"The database {self._path} {unknown}") from unknown
        except Exception as fault:
            if is_damage(fault):
                raise StoreDamaged(f"The database {self._path} is damaged: {words_of(fault)}") from fault
            raise _translated(fault) from fault

    def _create(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its log files the mode of the database file.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as fault:
            raise StoreUnavailable(f"The database {self._path} cannot be opened: {fault.strerror}") from fault

    def _check(self, conn: Connection) -> None:
        conn.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        if self._path.stat().st_size <= _CHECKED_BYTES:
            found = [str(row[0]) for row in conn.exec_driver_sql("PRAGMA quick_check(3)")]
            if found != ["ok"]:
                raise StoreDamaged(f"The database {self._path} is damaged: {'; '.join(found)}")
        conn.rollback()


def _by_verb(conn: Connection, jobs: Sequence[_Job]) -> list[Any]:
    """Run the jobs of each verb together and put the answers back in the order of asking."""
    places: dict[Verb[Any, Any], list[int]] = {}
    for place, job in enumerate(jobs):
        places.setdefault(job.verb, []).append(place)
    answers: list[Any] = [None] * len(jobs)
    for verb, mine in places.items():
        for place, answer in zip(mine, verb.run(conn, [jobs[place].request for place in mine]), strict=True):
            answers[place] = answer
    return answers


def _weight_of(job: _Job) -> int:
    return 0 if job.verb.weight is None else job.verb.weight(job.request)


def _transact(conn: Connection, act: Callable[[Connection], Done]) -> Done:
    try:
        answer = act(conn)
        conn.commit()
    except BaseException:
        conn.rollback()
        raise
    return answer


def _drop(conn: Connection) -> None:
    conn.invalidate()
    conn.close()


def _translated(fault: Exception) -> Exception:
    if isinstance(fault, StoreUnavailable | StoreDamaged) or meaning_of(fault) is Meaning.FAULT:
        return fault
    return StoreUnavailable(f"The database cannot be used now: {words_of(fault)}")


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], answer: Any, fault: Exception | None) -> None:
    def settle() -> None:
        if future.done():
            return
        if fault is None:
            future.set_result(answer)
        else:
            future.set_exception(fault)

    # A loop that is gone has nobody left to tell.
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
