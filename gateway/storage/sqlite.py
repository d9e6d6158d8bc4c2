"""SQLite, embedded: one writer, a few readers, one fsync for all that waits.

Owns the file, its settings and its threads. All kinds of writes share one writer and one transaction per round, so
that a round costs one fsync whatever is in it. `synchronous=FULL` with a write-ahead log: a commit is on disk.

The statements of a short round run on the event loop, and only its commit on the writer's thread; a short look runs
there as a whole. A thread that runs them asks for the interpreter after each, while the loop has work of its own, and
both spend more on passing it to and fro than the statements take: a round of accepting cost four times what it does
alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
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

_WRITER_CACHE_KIB: Final = 8 * 1024
_READER_CACHE_KIB: Final = 2 * 1024
_CHECKED_BYTES: Final = 32 * 1024 * 1024
"""Files up to this size are checked page by page when opened (about a tenth of a second)."""

_LOG_LIMIT_BYTES: Final = 64 * 1024 * 1024
_CHECKPOINT_PAGES: Final = 4000
"""Pages in the log before they are moved to the file: 16 MiB, so that hot pages are moved once, not at each commit."""


_BRIEF_JOBS: Final = 128
_BRIEF_BYTES: Final = 256 * 1024
_BRIEF_S: Final = 0.02
"""What a round on the loop may hold, and take: everything else that the process does stands still meanwhile."""
_AWAY_S: Final = 2.0
"""How long the rounds after one that took longer run on the thread: the disk is slow, or the machine is busy."""


class _Job(NamedTuple):
    verb: Verb[Any, Any]
    request: Any


class _Seat:
    """A thread's connection: made when it is first needed, and again once it is gone."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._conn: Connection | None = None

    @property
    def is_taken(self) -> bool:
        """Say whether there is a connection."""
        return self._conn is not None

    def sit(self) -> None:
        """Connect now."""
        with self.connected():
            pass

    @contextlib.contextmanager
    def connected(self) -> Generator[Connection]:
        """Give the connection; what fails meanwhile is told in the store's words."""
        try:
            if self._conn is None:
                self._conn = self._connect()
            yield self._conn
        except Exception as fault:
            if self._conn is not None and meaning_of(fault) is Meaning.GONE:
                self.leave()
            if (told := _translated(fault)) is fault:
                raise
            raise told from fault

    def leave(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            _drop(self._conn)
            self._conn = None


class _Threads:
    """A few threads, each with a connection of its own."""

    def __init__(self, name: str, count: int, connect: Callable[[], Connection]) -> None:
        self._inbox: SimpleQueue[Callable[[_Seat], None] | None] = SimpleQueue()
        self.seats = [_Seat(connect) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._live, args=(seat,), name=f"{name}-{number}", daemon=True)
            for number, seat in enumerate(self.seats)
        ]
        for thread in self._threads:
            thread.start()

    async def call(self, act: Callable[[Connection], Done]) -> Done:
        """Run an act on one of the threads, in a transaction of its own or the one that has begun there."""

        def seated(seat: _Seat) -> Done:
            with seat.connected() as conn:
                return _transact(conn, act)

        return await self._run(seated)

    async def commit(self, conn: Connection) -> None:
        """Commit what was begun and done elsewhere, without a step that the waiting for the disk does not need."""
        commit: Callable[[], None] = driver_of(conn).commit
        await self._run(lambda _: commit())

    async def _run(self, work: Callable[[_Seat], Done]) -> Done:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Done] = loop.create_future()

        def job(seat: _Seat) -> None:
            try:
                answer = work(seat)
            except Exception as fault:  # noqa: BLE001 - every exception belongs to the caller
                _tell(loop, future, None, fault)
            else:
                _tell(loop, future, answer, None)

        self._inbox.put(job)
        return await future

    def stop(self) -> None:
        """Let each thread finish what was asked, then end."""
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _live(self, seat: _Seat) -> None:
        while (job := self._inbox.get()) is not None:
            job(seat)
        seat.leave()


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
        self._near: _Seat | None = None
        """The loop's own connection, for short looks; if it is lost, the threads look."""
        self._writing = asyncio.Lock()
        """Held by whoever uses the writer's connection, on whichever thread."""
        self._begun = False
        """The next round's transaction has begun."""
        self._away_until = 0.0
        self._writes: Gather[_Job, Any] = Gather(self._round, weight=_weight_of, before=self._begin_round)
        self._reads: Gather[_Job, Any] = Gather(self._look, parallel=_READERS)
        self._alone: Verb[Callable[[Connection], Any], Any] = Verb("act", run_alone)

    async def open(self) -> None:
        """Make the file (for its owner only) where there is none, check it, and bring its schema up to date."""
        await asyncio.to_thread(self._prepare)
        self._turn.open()
        writing = self._connector(_WRITER_CACHE_KIB, writes=True, patience_ms=0)  # it waits for its turn in another way
        reading = self._connector(_READER_CACHE_KIB)
        self._writer = _Threads("store-writer", 1, writing)
        self._readers = _Threads("store-reader", _READERS, reading)
        self._near = _Seat(reading)
        await asyncio.to_thread(self._near.sit)

    async def close(self) -> None:
        """Finish what is being written, fold the log into the file and let go of it."""
        await self._writes.drain()
        await self._reads.drain()
        for threads in (self._readers, self._writer):
            if threads is not None:
                await asyncio.to_thread(threads.stop)
        if self._near is not None:
            self._near.leave()
        self._writer = self._readers = self._near = None
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

    async def gather_each(self, verb: Verb[Request, Answer], requests: Sequence[Request]) -> list[Answer | Exception]:
        """Join the next rounds with several requests, each with its own fate."""
        return await self._writes.ask_each([_Job(verb, request) for request in requests])

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
            async with self._writing:
                await self._writer.call(self._patiently(scrubbing.write_anew))
        else:
            for act in (scrubbing.fill, scrubbing.let_go):
                while await self.write(act):
                    pass
        empty_log = self._patiently(scrubbing.empty_log)
        async with self._writing:
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
        if not self._begun:
            await self._begin_round()
        self._begun = False
        try:
            [seat] = self._writer.seats
            if self._is_brief(jobs):
                with seat.connected() as conn:
                    answers = self._here(conn, jobs)
                    try:
                        await self._writer.commit(conn)
                    except Exception:
                        conn.rollback()
                        raise
                    conn.commit()  # SQLAlchemy's own part: the driver has nothing left to commit
            else:
                answers = await self._writer.call(lambda conn: _by_verb(conn, jobs))
        finally:
            self._writing.release()
        for verb, size in Counter(job.verb.name for job in jobs).items():
            self._on_batch(verb, size)
        return answers

    async def _begin_round(self) -> None:
        """Begin a transaction when it is this process's turn; whoever comes while it waits joins the round."""
        if self._writer is None:
            raise StoreUnavailable("The store is not open.")
        await self._writing.acquire()
        try:
            [seat] = self._writer.seats
            if not seat.is_taken:
                await self._writer.call(_nothing)  # opening the file is the thread's work, too
            with seat.connected() as conn:
                await self._turn.take(partial(_begin, conn))
        except BaseException:
            self._writing.release()
            raise
        self._begun = True

    def _is_brief(self, jobs: Sequence[_Job]) -> bool:
        return (
            len(jobs) <= _BRIEF_JOBS
            and time.monotonic() >= self._away_until
            and all(job.verb is not self._alone for job in jobs)
            and sum(map(_weight_of, jobs)) <= _BRIEF_BYTES
        )

    def _here(self, conn: Connection, jobs: Sequence[_Job]) -> list[Any]:
        """Run a transaction's statements on the loop itself."""
        began = time.monotonic()
        try:
            return _by_verb(conn, jobs)
        except BaseException:
            conn.rollback()
            raise
        finally:
            ended = time.monotonic()
            if ended - began > _BRIEF_S:
                self._away_until = ended + _AWAY_S

    async def _look(self, jobs: list[_Job]) -> list[Any]:
        near = self._near
        if near is None or not near.is_taken or not self._is_brief(jobs):
            return await self.read(lambda conn: _by_verb(conn, jobs))
        with near.connected() as conn:
            answers = self._here(conn, jobs)
            conn.commit()
        return answers

    def _connector(
        self, cache_kib: int, *, writes: bool = False, patience_ms: int | None = None
    ) -> Callable[[], Connection]:
        engine = create_engine(
            "sqlite://",
            creator=lambda: self._dial(cache_kib, self._patience_ms if patience_ms is None else patience_ms),
            poolclass=NullPool,
            hide_parameters=True,  # they are addresses and bodies, and errors are logged
        )

        # The driver opens no transaction before a SELECT, and a reader that turns writer can lose an update.
        def start(conn: Connection) -> None:
            driver = driver_of(conn)
            if not driver.in_transaction:  # `_begin` has been here
                driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

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
                f"busy_timeout={patience_ms}",
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


def _begin(conn: Connection) -> None:
    """Begin to write, or raise the driver's own fault; SQLAlchemy hears of it only when it has happened."""
    driver_of(conn).execute("BEGIN IMMEDIATE")
    conn.begin()


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


def _nothing(_: Connection) -> None:
    """Do nothing, in a transaction that ends afterwards."""


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
