"""PostgreSQL, when one machine is outgrown: a small pool, a few rounds at once, many processes over one database.

Owns the connections and their limits in time. Each kind of write gathers for itself, so that a slow kind holds up no
other. A connection that is lost before the commit was sent costs another try, not an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from asyncpg import connect as dial_asyncpg  # pyright: ignore[reportMissingTypeStubs,reportUnknownVariableType] # it has none
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.config.database_url import split_hosts, with_host
from gateway.storage import migrate
from gateway.storage.contract import StoreDamaged, StoreUnavailable
from gateway.storage.database import Answer, OnBatch, Request, Verb, unheard
from gateway.storage.faults import Meaning, meaning_of, words_of
from gateway.storage.gather import Gather

Done = TypeVar("Done")
Host = tuple[str, int]
"""A name or an address, and a port."""

_MIGRATION_LOCK: Final = 0x6E6F7469
"""Any number of our own: two processes that start together must not both make the tables."""

_ROUNDS: Final = 2
"""Rounds of one kind at once: while one waits for its commit to reach the disk, the next one works."""

_TRIES: Final = 4
"""A clash is rare and two in a row rarer; a server that is down refuses each try at once."""

_CONNECT_S: Final = 5
_POSTGRES_PORT: Final = 5432
_STATEMENT_S: Final = 15
"""Longer than any round takes; a server that hangs must not hang the gateway."""

_TRANSACTION_S: Final = 20
"""Longer than any transaction takes, and shorter than a lease. See `_LIMIT_TRANSACTIONS`."""

_CLOCK_FRESH_S: Final = 5
"""How long a measured difference of clocks is used: drift within it is far below a millisecond."""


_CHANNEL: Final = "notification_gateway_due"
_STILL_THERE_S: Final = 15
"""How often the connection that listens is asked for a word."""

_PLANNER: Final = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "random_page_cost": "1.1",
}
"""Every statement here is a walk of an index for a bounded number of rows. A planner whose statistics lag behind a
queue that fills within seconds prefers to read whole tables, and keeps that plan. Measured: settling was six times as
slow without."""


class PostgresDatabase:
    """A PostgreSQL database. `offset_ms` moves its clock, for tests."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = 10,
        offset_ms: Callable[[], int] = lambda: 0,
        on_batch: OnBatch = unheard,
    ) -> None:
        self._url, hosts = dialable(url)
        self._dialer = Dialer(hosts, each_s=_CONNECT_S) if hosts else None
        self._connections = connections
        self._offset_ms = offset_ms
        self._on_batch = on_batch
        self._engine: AsyncEngine | None = None
        self._writes: dict[Verb[Any, Any], Gather[Any, Any]] = {}
        self._reads: dict[Verb[Any, Any], Gather[Any, Any]] = {}
        self._ahead_s: float = 0
        self._measured_at: float | None = None

    async def open(self) -> None:
        """Connect; an empty database gets its tables, an older one waits for `gateway migrate`."""
        self._engine = self._engine or self._make_engine()
        try:
            if await self.read(migrate.is_empty):
                await self.migrate()
            await self.pending()
        except migrate.UnknownRevision as unknown:
            raise StoreDamaged(f"The database {self._url.database} {unknown}") from unknown

    async def close(self) -> None:
        """Finish what is being written and disconnect."""
        for gather in (*self._writes.values(), *self._reads.values()):
            await gather.drain()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def now_ms(self) -> int:
        """Tell the server's time: measured every few seconds, counted on by this machine's steady clock between."""
        if self._measured_at is None or time.monotonic() - self._measured_at > _CLOCK_FRESH_S:
            self._ahead_s = await self.read(_ahead_s)
            self._measured_at = time.monotonic()
        return int((time.monotonic() + self._ahead_s) * 1000) + self._offset_ms()

    async def migrate(self) -> list[str]:
        """Bring the schema up to date, one process at a time."""
        self._engine = self._engine or self._make_engine()

        def upgrade(conn: Connection) -> list[str]:
            conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
            conn.exec_driver_sql(_LIMIT_TRANSACTIONS.format(limit_ms=0, local="true"))
            return migrate.upgrade(conn)

        return await self.write(upgrade)

    async def pending(self) -> list[str]:
        """Name the revisions that have not run."""
        return await self.read(migrate.pending)

    async def gather_write(self, verb: Verb[Request, Answer], request: Request) -> Answer:
        """Join the next round of this kind."""
        return await self._gather(self._writes, verb, self._on_batch).ask(request)

    async def gather_writes(self, verb: Verb[Request, Answer], requests: Sequence[Request]) -> list[Answer]:
        """Join the next rounds of this kind with several requests."""
        return await self._gather(self._writes, verb, self._on_batch).ask_all(requests)

    async def gather_each(self, verb: Verb[Request, Answer], requests: Sequence[Request]) -> list[Answer | Exception]:
        """Join the next rounds of this kind with several requests, each with its own fate."""
        return await self._gather(self._writes, verb, self._on_batch).ask_each(requests)

    async def gather_read(self, verb: Verb[Request, Answer], request: Request) -> Answer:
        """Join the next look of this kind."""
        return await self._gather(self._reads, verb).ask(request)

    async def write(self, act: Callable[[Connection], Answer]) -> Answer:
        """Run one act in a transaction."""
        return await self._try(act)

    async def read(self, act: Callable[[Connection], Answer]) -> Answer:
        """Run one act that only reads."""
        return await self._try(act)

    async def wake(self, lanes: Collection[str]) -> None:
        """Tell all processes over this database, in a transaction of its own: it waits for no other's commit."""
        told = (_CHANNEL, ",".join(sorted(lanes)))
        await self.write(lambda conn: conn.exec_driver_sql("SELECT pg_notify($1, $2)", told).close())

    async def listen(self, told: Callable[[str], None]) -> None:
        """Listen on a connection of its own until cancelled; raises `StoreUnavailable` when it is lost."""
        gone = asyncio.Event()

        def lost(_connection: Any) -> None:
            gone.set()

        def heard(_connection: Any, _pid: int, _channel: str, payload: Any) -> None:
            for lane in str(payload).split(","):
                told(lane)

        try:
            async with self._connection() as conn:
                raw = await conn.get_raw_connection()
                driver: Any = raw.driver_connection
                driver.add_termination_listener(lost)
                try:
                    await driver.add_listener(_CHANNEL, heard)
                    while not gone.is_set():
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(_STILL_THERE_S):
                                await gone.wait()
                        await driver.execute("SELECT 1")  # a connection that was cut without a word says nothing
                finally:
                    await conn.invalidate()  # what listens is of no use to others
        except Exception as fault:
            if meaning_of(fault) is Meaning.FAULT:
                raise
            raise StoreUnavailable(f"The database cannot be listened to: {words_of(fault)}") from fault

    async def scrub(self) -> bool:
        """Leave it to the server: its vacuum comes by itself, often (see `BUSY`)."""
        return True

    def _gather(
        self,
        gathers: dict[Verb[Any, Any], Gather[Any, Any]],
        verb: Verb[Request, Answer],
        on_batch: OnBatch = unheard,
    ) -> Gather[Request, Answer]:
        if verb not in gathers:

            async def rounds(requests: list[Request]) -> list[Answer]:
                answers = await self._try(lambda conn: verb.run(conn, requests))
                on_batch(verb.name, len(requests))
                return answers

            gathers[verb] = Gather(rounds, parallel=_ROUNDS, weight=verb.weight)
        return gathers[verb]

    async def _try(self, act: Callable[[Connection], Done]) -> Done:
        """Run an act in a transaction: again after a clash or a connection lost before the commit."""
        for left in range(_TRIES - 1, -1, -1):
            committing = False
            try:
                async with self._connection() as conn:
                    answer = await conn.run_sync(act)
                    committing = True
                    await conn.commit()
                    return answer
            except Exception as fault:
                match meaning_of(fault):
                    case Meaning.FAULT:
                        raise
                    case Meaning.CLASH if left:
                        continue
                    case Meaning.CUT if left and not committing:
                        # Nothing was kept, and the pool has thrown away every connection of before the cut.
                        continue
                    case _:
                        raise StoreUnavailable(f"The database cannot be used now: {words_of(fault)}") from fault
        raise AssertionError("the last try either answers or raises")

    def _connection(self) -> AsyncConnection:
        if self._engine is None:
            raise StoreUnavailable("The store is not open.")
        return self._engine.connect()

    def _make_engine(self) -> AsyncEngine:
        engine = create_async_engine(
            self._url,
            pool_size=self._connections + 1,  # one listens
            max_overflow=0,
            pool_timeout=_CONNECT_S,
            hide_parameters=True,  # they are addresses and bodies, and errors are logged
            connect_args=({} if self._dialer is None else {"async_creator_fn": self._dialer.dial})
            | {
                "timeout": _CONNECT_S,
                "command_timeout": _STATEMENT_S + 2,
                "prepared_statement_cache_size": 200,
                "server_settings": {
                    "application_name": "notification-gateway",
                    "statement_timeout": str(_STATEMENT_S * 1000),
                    "lock_timeout": "5000",
                    # A process frozen in a transaction holds its rows: promised is a take-over within lease + 5 s.
                    "idle_in_transaction_session_timeout": "4000",
                    # The server asks after whoever is silent: a machine that died says no goodbye.
                    "tcp_keepalives_idle": "5",
                    "tcp_keepalives_interval": "2",
                    "tcp_keepalives_count": "3",
                    "synchronous_commit": "on",
                    "jit": "off",
                }
                | _PLANNER,
            },
        )
        event.listen(engine.sync_engine, "connect", _limit_transactions)
        return engine


def _limit_transactions(connection: Any, _: object) -> None:
    statement = _LIMIT_TRANSACTIONS.format(limit_ms=_TRANSACTION_S * 1000, local="false")

    async def limit(driver: Any) -> None:
        await driver.execute(statement)

    connection.run_async(limit)


_LIMIT_TRANSACTIONS: Final = """
    SELECT set_config(name, '{limit_ms}', {local}) FROM pg_settings WHERE name = 'transaction_timeout'
    """
"""Servers have it from 17 on; older ones take no notice. The driver prepares a statement with a Flush: a client that
is cut off just then leaves a server that is neither idle nor, while it waits for the next word, heeds its
`statement_timeout`. Without this limit it holds its rows until TCP gives up."""


def _ahead_s(conn: Connection) -> float:
    """Measure how far the server's clock is ahead of our steady one."""
    asked = time.monotonic()  # here, since the connection may have had to be waited for
    server = conn.exec_driver_sql(_NOW).scalar_one()
    return float(server) - (asked + time.monotonic()) / 2  # the answer was made about half a round trip ago


_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())"


def dialable(text: str) -> tuple[URL, list[Host]]:
    """Name the driver in the URL, and translate what libpq calls `sslmode`; answers the hosts where it names several.

    Of several hosts the one that takes writes is wanted, unless `target_session_attrs` says otherwise.
    """
    first, named = split_hosts(text)
    url = make_url(first).set(drivername="postgresql+asyncpg")
    mode = url.query.get("sslmode")
    if mode is not None:
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    if len(named) < 2:  # noqa: PLR2004 - one host is the driver's own affair
        return url, []
    if "target_session_attrs" not in url.query:
        url = url.update_query_dict({"target_session_attrs": "read-write"})
    each = [make_url(with_host(text, host)) for host in named]
    return url, [(one.host or "", one.port or _POSTGRES_PORT) for one in each]


class Dialer:
    """Connects to the first of several hosts that answers and takes writes; the one that did last is asked first.

    The driver knows lists of hosts too, but has one limit in time for all of them: a host that is silent, as after
    a cut or a machine's death, would keep it from ever asking the next.
    """

    def __init__(
        self, hosts: Sequence[Host], connect: Callable[..., Awaitable[Any]] = dial_asyncpg, *, each_s: float
    ) -> None:
        self._hosts = list(hosts)
        self._connect = connect
        self._each_s = each_s
        self._last = 0

    async def dial(self, **how: Any) -> Any:
        """Connect; raises what the last host that was asked raised."""
        ways = list(enumerate(self._hosts))
        failed: Exception | None = None
        for place, (host, port) in ways[self._last :] + ways[: self._last]:
            try:
                connection = await self._connect(**how | {"host": host, "port": port, "timeout": self._each_s})
            except Exception as error:
                if meaning_of(error) is Meaning.FAULT:
                    raise
                failed = error
            else:
                self._last = place
                return connection
        raise failed or ValueError("there is no host to connect to")
